"""How kernels are compiled: at the first call, once for each machine, kept on disk.

Kernels are serial and release the interpreter lock; `threads.split` runs them on several cores.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numba
import numpy as np
from numba.core import event

from ...backend import Array

# No `nnan` or `reassoc`: nan and inf mean what they mean, and sums keep their order.
jit: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_memory = threading.local()


class _Notice(event.Listener):
    """Says once that kernels are being compiled, for the first run takes longer than all others."""

    said = False

    def on_start(self, event: Any) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith(__package__ or "")
        if ours and not _Notice.said:
            _Notice.said = True
            text = "minidl: compiling kernels for this machine; later runs take them from the disk"
            print(text, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Notice())


def ready(*arrays: Array) -> bool:
    """Whether the twins handle these dtypes: all float32 or all float64."""
    first = arrays[0].dtype
    if first != SINGLE and first != DOUBLE:
        return False
    return all([a.dtype == first for a in arrays[1:]])


def scratch(name: str, size: int, dtype: Any) -> Array:
    """Uninitialised memory for `size` numbers, the same at each call in a thread: its pages stay mapped."""
    buffer = getattr(_memory, name, None)
    if buffer is None or buffer.nbytes < size * dtype.itemsize:
        buffer = np.empty(size * dtype.itemsize, np.uint8)
        setattr(_memory, name, buffer)
    return buffer[: size * dtype.itemsize].view(dtype)
