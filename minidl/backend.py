"""Arrays and devices: which array module an array belongs to, and how to move it.

Only this file and ``kernels/cuda`` know that CuPy exists; CuPy is imported when a GPU is asked for.
"""

from __future__ import annotations

import ctypes
import os
import sys
import zlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # a numpy.ndarray or a cupy.ndarray

_modules: dict[type, ModuleType] = {}
_precision = "fp32"


class DeviceError(RuntimeError):
    """A device was asked for that this machine cannot give, or arrays of two devices were mixed."""


def array_module(array: Array) -> ModuleType:
    """``numpy`` or ``cupy``, whichever `array` belongs to; anything that is no CuPy array is NumPy's."""
    kind = type(array)
    module = _modules.get(kind)
    if module is None:
        module = sys.modules["cupy"] if kind.__module__.split(".")[0] == "cupy" else np
        _modules[kind] = module
    return module


def is_array(value: object) -> bool:
    """Whether `value` is a NumPy or CuPy array."""
    return isinstance(value, np.ndarray) or array_module(value) is not np


def cupy_module() -> ModuleType:
    """CuPy, checked to work: raises DeviceError that says what is missing and how to get it."""
    try:
        import cupy
    except ImportError as error:
        raise DeviceError(
            "device 'cuda' needs CuPy, which is not installed. Install one of "
            "'minidl[cuda12]' or 'minidl[cuda13]' (never both), or use device='cpu'."
        ) from error
    if not cupy.is_available():
        raise DeviceError(
            "device 'cuda' needs an NVIDIA GPU with a driver: CuPy is installed but finds none. "
            "Check 'nvidia-smi', or use device='cpu'."
        )
    return cupy


def resolve_device(device: str = "auto") -> str:
    """Turn 'auto', 'cpu', 'cuda' or 'cuda:N' into 'cpu' or 'cuda:N'.

    Only 'auto' falls back to the CPU silently.

    Raises
    ------
    DeviceError
        CuPy, the driver or the numbered GPU is missing.
    ValueError
        The name is none of the four.
    """
    if device == "cpu":
        return "cpu"
    if device == "auto":
        try:
            cupy_module()
        except DeviceError:
            return "cpu"
        return "cuda:0"
    name, _, number = str(device).partition(":")
    if name != "cuda" or (number and not number.isdigit()) or str(device).endswith(":"):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N' with N = 0, 1, ..., got {device!r}"
        )
    count = cupy_module().cuda.runtime.getDeviceCount()
    index = int(number or 0)
    if index >= count:
        raise DeviceError(f"device 'cuda:{index}' was asked for, but this machine has {count} GPU(s)")
    return f"cuda:{index}"


def device_of(array: Array) -> str:
    """'cpu' for a NumPy array, 'cuda:N' for a CuPy array."""
    return "cpu" if array_module(array) is np else f"cuda:{array.device.id}"


def to_device(array: Array, device: str) -> Array:
    """`array` on `device` (a name that `resolve_device` gave); the same object if it is there already."""
    if device_of(array) == device:
        return array
    if device == "cpu":
        return to_numpy(array)
    cupy = cupy_module()
    with cupy.cuda.Device(int(device.partition(":")[2] or 0)):
        return cupy.asarray(array)


def to_numpy(array: Array) -> np.ndarray:
    """`array` as a NumPy array, copied from the GPU if it lives there."""
    return np.asarray(array) if array_module(array) is np else array.get()


def common_module(op: str, arrays: Sequence[Any]) -> ModuleType:
    """The array module of all `arrays` (numbers count as neither); DeviceError if they are mixed."""
    for array in arrays:
        if type(array) is not np.ndarray:
            break
    else:
        return np
    found: ModuleType | None = None
    place = ""
    for array in arrays:
        if is_array(array):
            module = array_module(array)
            if found is not None and (module is not found or device_of(array) != place):
                where = ", ".join(f"{a.shape} on {device_of(a)}" for a in arrays if is_array(a))
                raise DeviceError(
                    f"{op}: all arrays must be on one device, got {where}; "
                    f"move the model with model.to(device) or the array with to_device"
                )
            found, place = module, device_of(array)
    return found or np


def unit_gradient(array: Array) -> Array:
    """Ones in the shape of `array`, not to be written to: the gradient of a result with respect to itself."""
    if type(array) is np.ndarray or array.shape:
        return array_module(array).ones_like(array)
    return _one_on(device_of(array), array.dtype, array_module(array))


@cache
def _one_on(device: str, dtype: Any, xp: ModuleType) -> Array:
    """Made once for each device, so that a training step need not."""
    return xp.ones((), dtype)


def precision(name: str | None = None) -> str:
    """How a GPU multiplies float32 matrices: "fp32" (the default), or "tf32".

    TF32 rounds the factors to 10 bits of mantissa (a relative error of 5e-4 each) and adds up in float32; on tensor
    cores it is several times faster. Without `name` nothing is changed. Returns what is in force.

    Raises
    ------
    ValueError
        The name is neither.
    """
    global _precision
    if name is not None:
        if name not in ("fp32", "tf32"):
            raise ValueError(f"precision must be 'fp32' or 'tf32', got {name!r}")
        _precision = name
    return _precision


def from_python(value: Any) -> np.ndarray:
    """Numbers and nested lists as an array; Python floats give float32, the default of this library."""
    array = np.asarray(value)
    if array.dtype == np.float64 and not isinstance(value, np.generic):
        return array.astype(np.float32)
    return array


def checksum(array: Array) -> int:
    """CRC-32 of the values."""
    return zlib.crc32(to_numpy(array).tobytes())


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next array instead of returning it to the system.

    A training step frees and allocates the same large arrays again and again; mapping fresh pages for
    each takes a quarter to a third of its time (docs/adr/0006). Only glibc can be told; MINIDL_MALLOC=default
    leaves it as it is.
    """
    mallopt = _allocator("mallopt")
    if mallopt is not None and os.environ.get("MINIDL_MALLOC") != "default":
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: below it, arrays come from the heap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: so much may lie free at its end
        mallopt(-2, 2**26)  # M_TOP_PAD: it grows by so much at a time


def return_freed_memory() -> None:
    """Give the system what is free now, all the same: for what is done once and frees much. Only glibc can be told."""
    trim = _allocator("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _allocator(name: str) -> Any:
    """This function of the C library, or None; looked up once, for each look leaves a cycle of classes behind."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
