"""What all tests share: Hypothesis profiles, and a check that no test leaks global state."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import minidl as dl
from minidl.autograd import grad_enabled

os.environ.setdefault("MINIDL_OFFLINE", "1")  # no test reaches beyond this machine

common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("ci", max_examples=25, derandomize=True, database=None, print_blob=True, **common)
settings.register_profile("gpu", max_examples=8, **common)  # each shape is compiled there
settings.register_profile("dev", max_examples=50, **common)
settings.register_profile("thorough", max_examples=1000, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", default="auto", choices=["auto", "reference"], help="kernel set to test")


@pytest.fixture(autouse=True, scope="session")
def kernel_set(request: pytest.FixtureRequest) -> None:
    dl.kernels.use(request.config.getoption("--kernels"))


def others() -> list[threading.Thread]:
    """All threads but those of the kernels' pool, which stays."""
    return [thread for thread in threading.enumerate() if not thread.name.startswith("minidl_")]


@pytest.fixture(autouse=True)
def no_leaks():
    """Fail a test that leaves gradients off, NumPy's global random state moved, or threads running."""
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to see that nobody touches it
    threads = len(others())
    yield
    assert grad_enabled(), "no_grad was left on"
    assert np.array_equal(state, np.random.get_state()[1]), "np.random's global state was changed"  # noqa: NPY002
    assert len(others()) <= threads + 1, "threads were left running"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
