"""How kernels are compiled: at the first call, once for each machine, kept on disk.

Kernels are serial and release the interpreter lock; `threads.split` runs them on several cores.
"""

from __future__ import annotations

import mmap
import sys
import threading
import weakref
import zlib
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import event

from ...backend import Array
from ...files import write_atomically

# No `nnan` or `reassoc`: nan and inf mean what they mean, and sums keep their order.
FREEDOMS = {"contract", "nsz", "arcp"}
jit: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FREEDOMS)
inlined: Any = numba.njit(inline="always", error_model="numpy", fastmath=FREEDOMS)  # part of what calls it


SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
SMALL = 100_000  # numbers for which one call in one thread is the fastest
WORTH_FOLDING = 10_000  # numbers whose rows are worth the time to fold and unfold them


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
    for array in arrays:
        if array.dtype is not first and array.dtype != first:  # most are the very same object
            return False
    return first in (SINGLE, DOUBLE)


def to_change(array: Array, overwrite: bool) -> Array:
    """The array itself if it may be overwritten, or a copy; C-contiguous."""
    return array if overwrite and array.flags.c_contiguous else array.copy()


def folding(rows: int, columns: int) -> int:
    """How many rows to take as one longer row, so that inner loops over few columns are worth their start."""
    k = 1
    while rows * columns >= WORTH_FOLDING and columns * k < 64 and rows % (2 * k) == 0:
        k *= 2
    return k


def delivered(parts: list[Array], k: int, dtype: Any, into: Array | None) -> Array:
    """The total of the threads' sums over rows folded by k, in this type; written to `into` if given."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    if k > 1:
        total = total.reshape(k, -1).sum(axis=0)
    if into is None:
        return total.astype(dtype, copy=False)
    into[...] = total
    return into


def discard_stale(folder: Path) -> None:
    """Delete what was compiled from other sources than these, from the folder where Numba keeps it.

    Numba looks at the file of a kernel only, not at those whose functions and constants went into it.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    stamp = f"{zlib.crc32(b''.join(source.read_bytes() for source in sources)):08x}"
    note = folder / "minidl-sources"
    try:
        if note.is_file() and note.read_text(encoding="ascii") == stamp:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for compiled in (*folder.glob("*.nbi"), *folder.glob("*.nbc")):
            compiled.unlink(missing_ok=True)
        write_atomically(note, lambda path: path.write_text(stamp, encoding="ascii"))
    except OSError:
        pass  # a folder that cannot be written is not written by Numba either


class _Buffers:
    """Those of one thread, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Array] = {}
        _everyones.add(self)


class _Mine(threading.local):
    def __init__(self) -> None:
        self.buffers = _Buffers()


_everyones: weakref.WeakSet[_Buffers] = weakref.WeakSet()
_mine = _Mine()


def scratch(name: str, size: int, dtype: Any) -> Array:
    """Uninitialised memory for `size` numbers, the same at each call in a thread: its pages stay mapped."""
    buffers = _mine.buffers.by_name
    buffer = buffers.get(name)
    if buffer is None or buffer.nbytes < size * dtype.itemsize:
        buffer = buffers[name] = np.frombuffer(mmap.mmap(-1, size * dtype.itemsize), np.uint8)
    return buffer[: size * dtype.itemsize].view(dtype)


def free_scratch() -> None:
    """Give back the memory that kernels keep from call to call; they take it again when they need it."""
    for buffers in list(_everyones):
        buffers.by_name.clear()
