"""Device names and errors, with a stand-in for CuPy where none is installed; and memory."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import backend
from minidl.backend import (
    array_module,
    common_module,
    device_of,
    from_python,
    is_array,
    resolve_device,
    to_device,
    to_numpy,
)


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def fake_cupy(gpus=2, available=True):
    """A module with the few names that device handling uses; its arrays say where they live."""

    class ndarray:  # noqa: N801 - CuPy's name
        __module__ = "cupy._core.core"

        def __init__(self, values):
            self.values, self.shape, self.dtype = values, values.shape, values.dtype
            self.device = types.SimpleNamespace(id=module.current)

        def get(self):
            return self.values.copy()

    class Device:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            self.before, module.current = module.current, self.index

        def __exit__(self, *exc):
            module.current = self.before

    module = types.ModuleType("cupy")
    module.current = 0
    module.ndarray = ndarray
    module.asarray = lambda a: ndarray(np.asarray(a))
    module.is_available = lambda: available
    runtime = types.SimpleNamespace(getDeviceCount=lambda: gpus)
    module.cuda = types.SimpleNamespace(runtime=runtime, Device=Device)
    return module


@pytest.fixture
def cupy(monkeypatch):
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(backend, "_modules", {})
    return module


@pytest.mark.scenario("F28")
@pytest.mark.parametrize(("name", "device"), [("cpu", "cpu"), ("auto", "cpu")])
def test_names_without_cupy(no_cupy, name, device):
    assert resolve_device(name) == device
    assert resolve_device() == "cpu"


@pytest.mark.scenario("F28")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_cupy(no_cupy, name):
    with pytest.raises(dl.DeviceError, match=re.escape("'minidl[cuda12]' or 'minidl[cuda13]'")) as caught:
        resolve_device(name)
    assert "device='cpu'" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "cuda0", "", "cpu:0", None, 0, "auto:1"]
)
def test_bad_names(no_cupy, name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N'") as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "device"), [("cpu", "cpu"), ("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")]
)
def test_names_with_two_gpus(cupy, name, device):
    assert resolve_device(name) == device


@pytest.mark.scenario("F28")
def test_a_gpu_that_is_not_there(cupy):
    with pytest.raises(dl.DeviceError, match=r"'cuda:2' .* this machine has 2 GPU"):
        resolve_device("cuda:2")


@pytest.mark.scenario("F28")
def test_cupy_without_a_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(available=False))
    assert resolve_device("auto") == "cpu"
    with pytest.raises(dl.DeviceError, match="nvidia-smi"):
        resolve_device("cuda")


def test_importing_minidl_imports_nothing_optional():
    optional = {"cupy", "matplotlib", "h5py", "onnx", "scipy", "torch"}
    code = f"import sys, minidl; print({optional} & {{name.split('.')[0] for name in sys.modules}})"
    root = Path(dl.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_arrays_of_numpy():
    x = np.ones(3)
    assert array_module(x) is np and device_of(x) == "cpu" and is_array(x)
    assert to_device(x, "cpu") is x and to_numpy(x) is x


@pytest.mark.parametrize("value", [1, 2.5, [1.0], None, "text", np.float32(1)])
def test_what_is_no_array(value):
    assert not is_array(value)


def test_arrays_of_cupy(cupy):
    x = np.arange(3.0)
    moved = to_device(x, "cuda:1")
    assert isinstance(moved, cupy.ndarray) and device_of(moved) == "cuda:1" and is_array(moved)
    assert array_module(moved) is cupy and to_device(moved, "cuda:1") is moved
    back = to_device(moved, "cpu")
    assert isinstance(back, np.ndarray) and not np.shares_memory(back, x)
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(to_numpy(moved), x)


def test_mixed_arrays(cupy):
    here, there = np.ones((2, 3)), to_device(np.ones(4), "cuda:0")
    assert common_module("add", (here, 1.0)) is np
    assert common_module("add", (2, there)) is cupy
    assert common_module("add", (1, 2.0)) is np
    with pytest.raises(dl.DeviceError, match=r"add: .* got \(2, 3\) on cpu, \(4,\) on cuda:0") as caught:
        common_module("add", (here, there))
    assert "model.to(device)" in str(caught.value)


def test_moving_a_model_and_back(cupy):
    model = dl.Sequential(dl.layers.Dense(2), dl.layers.BatchNorm(), input_shape=(3,))
    before = model.state_dict()
    model.to("cuda:1")
    assert {p.device for p in model.parameters()} == {"cuda:1"}
    assert device_of(model[1].running_mean) == "cuda:1"
    for name, value in model.state_dict().items():
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value, before[name])
    model.to("cpu")
    assert {p.device for p in model.parameters()} == {"cpu"}


def test_an_unbuilt_model_remembers_where_it_was_sent(cupy):
    """`to` before the first call must not be forgotten: parameters are made later."""
    model = dl.Sequential(dl.layers.Dense(2)).to("cuda:0")
    model._name_descendants()
    model[0].build((1, 3))  # what the first call does; the stand-in cannot multiply
    assert model[0].weight.device == "cuda:0"


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, np.float32),
        ([1.0, 2.0], np.float32),
        ([[1, 2]], np.int64),
        (True, bool),
        (np.float64(2), np.float64),
        (np.float32(2), np.float32),
    ],
)
def test_python_numbers(value, dtype):
    array = from_python(value)
    assert isinstance(array, np.ndarray) and array.dtype == dtype
    np.testing.assert_array_equal(array, value)


FAULTS = """
import resource, sys
import numpy as np
import minidl as dl

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

dl.kernels.use(sys.argv[1])
dl.kernels.of(np)
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be told")
@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("choice", ["", "default"])
def test_freed_memory_is_used_again(kernels, choice):
    command = [sys.executable, "-c", FAULTS, kernels]
    environment = {**os.environ, "MINIDL_MALLOC": choice}
    pages = int(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert pages > 50 if choice else pages < 10
