"""How kernels are compiled and started.

A ``.cu`` file is compiled once for each set of types and constants. The geometry of windows is such a constant, so
that divisions by it are cheap; the number of images is not, so that a short last batch needs no compilation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from ...backend import Array

FOLDER = Path(__file__).parent
THREADS = 256  # in a block, as in common.cuh
LARGEST = 2**31 - 2**16  # numbers in an array: kernels count in 32 bits
PROCESSORS = 132  # of a large GPU
BLOCKS = 3 * PROCESSORS  # that sums over rows aim at
COLUMNS = 32  # that one of them sums up, as in common.cuh
TICKETS = 4096
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
NAMES = {"f": "float", "d": "double", "B": "unsigned char", "b": "signed char", "i": "int", "l": "long long", "q": "long long"}  # fmt: skip

Constants = tuple[tuple[str, int], ...]


def source(file: str, types: Mapping[str, Any], constants: Constants = ()) -> str:
    """CUDA C of a file for these types and constants."""
    lines = [f"typedef {NAMES[np.dtype(dtype).char]} {name};" for name, dtype in types.items()]
    lines += [f"constexpr int {name} = {value};" for name, value in constants]
    return "\n".join([*lines, _text("common.cuh"), _text(f"{file}.cu")])


def _text(name: str) -> str:
    """A file with those that it includes."""
    text = (FOLDER / name).read_text(encoding="ascii")
    return re.sub(r'#include "([\w.]+)"', lambda found: _text(found[1]), text)


@cache
def _kernel(file: str, name: str, types: tuple[tuple[str, Any], ...], constants: Constants) -> Any:
    return _module(file, types, constants).get_function(name)


@cache
def _module(file: str, types: tuple[tuple[str, Any], ...], constants: Constants) -> Any:
    return cupy.RawModule(code=source(file, dict(types), constants), options=("-std=c++17", "-restrict"))


def launch(
    kernel: str,
    grid: tuple[int, ...],
    *arguments: Any,
    constants: Constants = (),
    threads: int = THREADS,
    **types: Any,
) -> None:
    """Start ``"file.name"`` with `grid` blocks of `threads` threads, unless there is none.

    Arguments are contiguous arrays, None for a null pointer, and NumPy numbers of exactly the kernel's types.
    """
    if all(grid):
        file, _, name = kernel.partition(".")
        _kernel(file, name, tuple(types.items()), constants)(grid, (threads,), arguments)


def launch_each(kernel: str, count: int, *arguments: Any, constants: Constants = (), **types: Any) -> None:
    """The same with one thread for each of `count` things."""
    launch(kernel, (-(-count // THREADS),), *arguments, constants=constants, **types)


def launch_column_sums(
    kernel: str,
    quantities: int,
    rows: int,
    columns: int,
    *arguments: Any,
    T: Any,
    constants: Constants = (),
) -> None:
    """Start a kernel that ends in `column_sums` of common.cuh, on enough blocks to fill the device."""
    tiles, lanes = -(-columns // COLUMNS), THREADS // min(max(columns, 1), COLUMNS)
    splits = min(max(rows // (8 * lanes), 1), -(-BLOCKS // max(tiles, 1))) if tiles <= TICKETS else 1
    partial = cupy.empty(splits * quantities * columns, np.float64) if splits > 1 else None
    rest = np.int32(rows), np.int32(columns), partial, tickets()
    launch(kernel, (tiles, splits), *arguments, *rest, constants=constants, T=T)


def tickets() -> Array:
    """Counters of blocks that have finished: zero before each kernel and after it."""
    return _tickets(cupy.cuda.runtime.getDevice())


@cache
def _tickets(device: int) -> Array:
    return cupy.zeros(TICKETS, np.uint32)


def ready(*arrays: Array) -> bool:
    """Whether the twins handle these: all float32 or all float64, and not too large."""
    first = arrays[0].dtype
    return first in (SINGLE, DOUBLE) and all([a.dtype == first and a.size < LARGEST for a in arrays])


def contiguous(*arrays: Array) -> tuple[Array, ...]:
    """The arrays as the kernels read them; a copy only of those that are not in C order."""
    return tuple([a if a.flags.c_contiguous else cupy.ascontiguousarray(a) for a in arrays])


def number_and_place(value: Any) -> tuple[Any, Array | None]:
    """A rate or step as kernels take it: a number, and the array that it is to be read from (`rng.Counted`)."""
    place = getattr(value, "place", None)
    return (value, None) if place is None else (value.offset, place)
