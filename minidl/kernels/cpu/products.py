"""Matrix products in the calling thread: by BLAS, or by Intel's matrix unit, which multiplies bfloat16 only.

A float32 has 24 bits of mantissa and a bfloat16 has 8, so a float32 is the sum of three, x = x0 + x1 + x2, and

    a b = a0 b0 + (a0 b1 + a1 b0) + (a0 b2 + a1 b1 + a2 b0) + what is below float32's precision

Six products by the unit, with sums in float32, take less time than one by BLAS, and are as precise (docs/adr/0016). Both
factors are laid out anew, in blocks that stay in the cache. `plain` says it in NumPy.
"""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any

import numpy as np

from ...backend import Array
from . import matrix_unit
from .compiling import SINGLE, jit, scratch
from .matrix_unit import (
    CHUNK,
    CONFIGURATION,
    LINES,
    PAIRS,
    PARTS,
    SIDE,
    TILE,
    configure,
    pack_left,
    pack_left_turned,
    pack_right,
    pack_right_turned,
    release,
    tile,
)

USED = matrix_unit.PERMITTED and os.environ.get("MINIDL_MATRIX_UNIT") != "0"
ROWS, COLUMNS, TERMS = 512, 512, 512  # of a block that is laid out at once: 1.5 MB each for the second cache
# Nanoseconds (Emerald Rapids): a multiplication by BLAS and by the unit, a number to lay out, a call.
BLAS_RATE, UNIT_RATE, LAYING_OUT, CALL = 1 / 75, 1 / 175, 0.5, 6000


@lru_cache(maxsize=1024)
def unit_pays(m: int, k: int, n: int, dtype: Any) -> bool:
    """Whether a product of (M, K) by (K, N) takes less time by the matrix unit."""
    whole = math.prod(SIDE * _chunks(length) for length in (m, k, n))
    unit = CALL + UNIT_RATE * whole + LAYING_OUT * k * (m + n)
    return USED and dtype == SINGLE and unit < BLAS_RATE * m * k * n


def multiply(a: Array, b: Array, out: Array) -> None:
    """Write a (M, K) times b (K, N) to `out`."""
    in_rows = out.strides[1] == out.itemsize
    if not in_rows or not unit_pays(*a.shape, b.shape[1], out.dtype) or not _by_unit(a, b, out):
        np.matmul(a, b, out=out)


def _by_unit(a: Array, b: Array, c: Array) -> bool:
    """c = a b by the matrix unit; False if a number of a or b is infinite or nan, which has no parts."""
    a, columns, chunks = _in_lines(a), _in_lines(b.T), min(_chunks(a.shape[1]), TERMS // SIDE)
    left = _room("left factor", min(_chunks(len(a)), ROWS // SIDE) * chunks)
    right = _room("right factor", min(_chunks(len(columns)), COLUMNS // SIDE) * chunks)
    return not math.isnan(_multiply(a, columns, c, left, right, CONFIGURATION))


def plain(a: Array, b: Array) -> Array:
    """The same in NumPy: the explanation, and what tests compare with."""
    left, right = _parts(a), _parts(b)
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for i, j in PAIRS:
        total += left[i] @ right[j]
    return total


def _parts(x: Array) -> list[Array]:
    """Three float32 arrays that hold bfloat16 and add up to x: the upper 16 bits of what is left each time."""
    found = []
    for _ in range(PARTS):
        found.append((x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
        x = x - found[-1]
    return found


def _chunks(count: int) -> int:
    return -(-count // SIDE)


def _in_lines(x: Array) -> Array:
    """The matrix, or a copy, whose numbers are neighbours along one axis."""
    return x if x.itemsize in x.strides else np.ascontiguousarray(x)


def _room(name: str, chunks: int) -> Array:
    return scratch(name, chunks * CHUNK, np.dtype(np.uint8))


@jit
def _lay_out(matrix, right, target, chunks):
    """Write a factor's rows (columns if it is the right one) of terms, `chunks` apart; nan if one is infinite or nan."""
    (rows, terms), (down, along), rest = matrix.shape, matrix.strides, matrix.dtype.type(0)
    edge, in_line = np.empty((LINES, SIDE), matrix.dtype), along == matrix.itemsize
    below, beside = (rows + LINES - 1) // LINES, (terms + SIDE - 1) // SIDE
    for number in range(below * beside):  # as the numbers lie in memory
        band, chunk = (number // beside, number % beside) if in_line else (number % below, number // below)
        first, start = band * LINES, chunk * SIDE
        out = target + (band // 2 * chunks + chunk) * CHUNK + band % 2 * TILE
        source, step = matrix.ctypes.data + first * down + start * along, down if in_line else along
        whole = first + LINES <= rows and start + SIDE <= terms
        if not whole:
            part = matrix[first : first + LINES, start : start + SIDE]
            edge[:] = 0
            edge[: part.shape[0], : part.shape[1]] = part
            source, step = edge.ctypes.data, edge.strides[0]
        if right and (in_line or not whole):
            rest += pack_right_turned(source, step, out)
        elif right:
            rest += pack_right(source, step, out)
        elif in_line or not whole:
            rest += pack_left(source, step, out)
        else:
            rest += pack_left_turned(source, step, out)
    return rest


@jit
def _add_tiles(left, right, chunks, c, anew, spare):
    """c (M, N) = or += the product of two factors that are laid out; tiles that are not whole go through `spare`."""
    m, n = c.shape
    for i in range(0, m, SIDE):
        for j in range(0, n, SIDE):
            a, b = left + i // SIDE * chunks * CHUNK, right + j // SIDE * chunks * CHUNK
            part = c[i : i + SIDE, j : j + SIDE]
            high, wide = part.shape
            if high == SIDE and wide == SIDE:
                tile(a, b, chunks, part.ctypes.data, c.strides[0], anew)
                continue
            some = spare[:high, :wide]
            if not anew:
                some[:] = part
            tile(a, b, chunks, spare.ctypes.data, spare.strides[0], anew)
            part[:] = some


@jit
def _multiply(a, columns, c, left, right, configuration):
    """c (M, N) = what a (M, K) and columns (N, K) give, block by block; nan if one of their numbers is infinite or nan."""
    (m, k), n, rest = a.shape, len(columns), c.dtype.type(0)
    spare, lefts, rights = np.empty((SIDE, SIDE), c.dtype), left.ctypes.data, right.ctypes.data
    configure(configuration.ctypes.data)
    for start in range(0, k, TERMS):
        stop = min(start + TERMS, k)
        chunks = (stop - start + SIDE - 1) // SIDE
        for i in range(0, m, ROWS):
            rest += _lay_out(a[i : i + ROWS, start:stop], False, lefts, chunks)
            for j in range(0, n, COLUMNS):
                rest += _lay_out(columns[j : j + COLUMNS, start:stop], True, rights, chunks)
                _add_tiles(lefts, rights, chunks, c[i : i + ROWS, j : j + COLUMNS], start == 0, spare)
    release()
    return rest
