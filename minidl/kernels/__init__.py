"""Hot loops on plain arrays. `reference` specifies every kernel; faster twins share its names."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np

from ..backend import keep_freed_memory
from . import reference

_choice = "auto"
_fast: ModuleType | None = None  # the twins for NumPy arrays, once they are loaded
_cuda: ModuleType | None = None  # and those for CuPy arrays


def use(name: str) -> None:
    """Choose the kernel set: "auto" (the fastest that is installed) or "reference" (plain array code)."""
    global _choice
    if name not in ("auto", "reference"):
        raise ValueError(f"kernels must be 'auto' or 'reference', got {name!r}")
    if name == "reference":
        keep_freed_memory()
    _choice = name


def of(array_module: ModuleType) -> ModuleType:
    """The kernels for arrays of `array_module` (numpy or cupy)."""
    if _choice == "reference":
        return reference
    return (_fast or _load()) if array_module is np else (_cuda or _load_cuda())


def conditions() -> dict[str, str | int]:
    """Which kernels compute on the CPU, and by how many threads: rounding depends on both."""
    if of(np) is reference:
        return {"kernels": "NumPy", "threads": 1}
    from .cpu import products
    from .threads import thread_count

    return {"kernels": "Numba and AMX" if products.USED else "Numba", "threads": thread_count()}


def _load_cuda() -> ModuleType:
    """The CUDA twins: imported when there are CuPy arrays, so CuPy is there too."""
    global _cuda
    from . import cuda

    _cuda = cuda
    return cuda


def _load() -> ModuleType:
    """Numba's twins if it is installed: imported at the first use, for that takes a moment."""
    global _fast
    keep_freed_memory()
    if any(importlib.util.find_spec(name) is None for name in ("numba", "threadpoolctl")):
        _fast = reference
    else:
        from . import cpu

        _fast = cpu
    return _fast
