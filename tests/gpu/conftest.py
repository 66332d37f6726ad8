"""The fake CuPy and the fake cuBLAS in place of the real ones, for as long as a test runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import backend, kernels
from tests.gpu import cuda_on_cpu, fake_cupy


@cache
def fake_cublas() -> str:
    """Path of the compiled library."""
    target = Path(tempfile.mkdtemp(prefix="minidl-")) / "libfakecublas.so"
    source = Path(__file__).with_name("fake_cublas.c")
    subprocess.run(
        ["g++", "-x", "c", "-O2", "-march=native", "-shared", "-fPIC", "-o", str(target), str(source)],
        check=True,
    )
    return str(target)


class CountedLibrary:
    """cuBLAS whose products the fake device counts, and captures."""

    def __init__(self, library: Any):
        self.library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.library, name)
        if not name.startswith("cublasGemm"):
            return function

        def product(*arguments: Any) -> int:
            def work() -> None:
                status = function(*arguments)
                if status:
                    raise RuntimeError(f"cuBLAS status {status}")

            fake_cupy.device.launch(name, work)
            return 0

        return product


def forget_cuda() -> None:
    """The twins import CuPy when they are imported."""
    for name in [name for name in sys.modules if name.startswith("minidl.kernels.cuda")]:
        del sys.modules[name]
    if hasattr(kernels, "cuda"):
        del kernels.cuda
    kernels._cuda = None
    backend._modules.clear()
    backend._one_on.cache_clear()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.gpu)])
def cupy(request, monkeypatch):
    """The fake module, whose ``device`` counts launches, transfers and waits; with a GPU the real one too."""
    if request.param == "real":
        module = pytest.importorskip("cupy", reason="needs CuPy and a GPU")
        if not module.is_available():
            pytest.skip("needs a GPU")
        forget_cuda()
        yield module
        backend.precision("fp32")
        return
    if not cuda_on_cpu.available():
        pytest.skip("running kernels on the CPU needs g++")
    module = fake_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    forget_cuda()
    from minidl.kernels.cuda import blas, implicit

    monkeypatch.setattr(implicit, "PROCESSORS", 4)  # thread blocks run one after the other here
    monkeypatch.setattr(blas, "_path", fake_cublas)
    library = CountedLibrary(blas.library())
    monkeypatch.setattr(blas, "library", lambda: library)
    module.device = fake_cupy.device
    fake_cupy.device.__init__()
    yield module
    forget_cuda()
    backend.precision("fp32")


@pytest.fixture
def device(cupy):
    """The fake's counters; what they count cannot be seen from outside a real device."""
    if not hasattr(cupy, "device"):
        pytest.skip("counts on the fake only")
    cupy.device.forget()
    return cupy.device


def on_device(cupy: Any, value: Any) -> Any:
    """Arrays of `value` on the device, in their memory order; everything else as it is."""
    if type(value) is tuple:
        return tuple(on_device(cupy, v) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim and value.strides[-1] == 2 * value.itemsize:  # every other number of wider rows
        return cupy.asarray(np.repeat(value, 2, axis=-1))[..., ::2]
    return cupy.asarray(value, order="K")


def on_host(value: Any) -> Any:
    """The opposite."""
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    return value.get() if hasattr(value, "get") else value
