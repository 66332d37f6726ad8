"""Checkpoints, and the CSV file that a run goes on with, under random damage."""

from __future__ import annotations

import os
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minidl as dl
from minidl import checkpoint
from tests.faults.training import train

CASES = int(os.environ.get("MINIDL_FUZZ", "200"))
ROOM = 64 << 20  # bytes that a reader may take beyond twice the size of the file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    train(folder, epochs=2)
    return Whole(folder)


class Whole:
    """Its folder, and what was in its newest checkpoint and its CSV file."""

    def __init__(self, folder):
        self.folder = folder
        self.checkpoint = checkpoint.paths(folder / "checkpoints")[0].read_bytes()
        self.csv = (folder / "history.csv").read_bytes()


@st.composite
def damage(draw):
    """A function bytes -> other bytes: bits flipped, a piece cut out, doubled, or replaced by noise."""
    kind = draw(st.sampled_from(["flip", "cut", "double", "noise", "truncate"]))
    place, length = draw(st.floats(0, 1)), draw(st.integers(1, 400))
    noise = draw(st.binary(min_size=1, max_size=64))
    near_start = draw(st.booleans())  # the header is what a reader believes

    def apply(content: bytes) -> bytes:
        at = int(place * (min(len(content), 4000) if near_start else len(content)))
        if kind == "flip":
            return content[:at] + bytes(b ^ noise[0] for b in content[at : at + 1]) + content[at + 1 :]
        if kind == "cut":
            return content[:at] + content[at + length :]
        if kind == "double":
            return content[:at] + content[at : at + length] * 2 + content[at + length :]
        if kind == "truncate":
            return content[:at]
        return content[:at] + noise + content[at + len(noise) :]

    return apply


@pytest.mark.scenario("B77", "B23")
@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(change=damage())
def test_a_damaged_checkpoint_is_refused_or_read_as_it_was(change, whole, tmp_path):
    content = whole.checkpoint
    path = tmp_path / checkpoint.NAME.format(1)
    path.write_bytes(change(content))
    tracemalloc.start()
    try:
        saved = checkpoint.load(path)
    except dl.CheckpointError:
        pass
    else:
        (tmp_path / "whole.safetensors").write_bytes(content)
        expected = checkpoint.load(tmp_path / "whole.safetensors")
        assert saved.facts == expected.facts
        assert saved.arrays.keys() == expected.arrays.keys()
        for name, value in expected.arrays.items():
            np.testing.assert_array_equal(saved.arrays[name], value, strict=True)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * len(content) + ROOM


@pytest.mark.scenario("B77")
@settings(
    max_examples=max(CASES // 8, 10),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(change=damage())
def test_a_damaged_history_does_not_stop_a_resumed_run(change, whole):
    folder, csv = whole.folder, whole.csv
    path = folder / "history.csv"
    path.write_bytes(change(csv))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # lines that are lost
        _, history = train(folder, epochs=2)
    assert len(history.epoch) == 2
    assert path.stat().st_size <= max(len(csv), len(change(csv)))
