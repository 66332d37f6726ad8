"""Matrix products in the calling thread: by BLAS, or by Intel's matrix unit, which multiplies bfloat16 only.

A float32 has 24 bits of mantissa and a bfloat16 has 8, so a float32 is the sum of three, x = x0 + x1 + x2, and

    a b = a0 b0 + (a0 b1 + a1 b0) + (a0 b2 + a1 b1 + a2 b0) + what is below float32's precision

Six products by the unit, with sums in float32, take less time than one by BLAS, and are as precise (docs/adr/0016). Both
factors are laid out anew, in blocks that stay in the cache. `plain` says it in NumPy.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ...backend import Array
from ..threads import split
from . import matrix_unit
from .compiling import SINGLE, jit, scratch
from .matrix_unit import (
    BYTES,
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
ROWS, COLUMNS, TERMS = 1024, 256, 1024  # of a block that is laid out at once
# Nanoseconds: a multiplication by BLAS and by the unit, a number to lay out, a call.
BLAS_RATE, UNIT_RATE, LAYING_OUT, CALL = 1 / 75, 1 / 175, 0.35, 6000


@lru_cache(maxsize=1024)
def unit_pays(m: int, k: int, n: int, dtype: Any) -> bool:
    """Whether a product of (M, K) by (K, N) takes less time by the matrix unit."""
    whole = math.prod(SIDE * _chunks(length) for length in (m, k, n))
    unit = CALL + UNIT_RATE * whole + LAYING_OUT * k * (m + n)
    return USED and dtype == SINGLE and unit < BLAS_RATE * m * k * n


def multiply(a: Array, b: Array, out: Array) -> None:
    """Write a (M, K) times b (K, N) to `out`."""
    if not unit_pays(*a.shape, b.shape[1], out.dtype) or math.isnan(_by_unit(a[None], b[None], out[None], False)):
        np.matmul(a, b, out=out)


def add_products(a: Array, b: Array, total: Array) -> None:
    """Add a (P, M, K) times b (P, K, N) to total (P, M, N). What is infinite in a factor may be nan in the total."""
    if unit_pays(*a.shape[1:], b.shape[2], total.dtype):
        _by_unit(a, b, total, True)
    else:
        total += a @ b


def _by_unit(a: Array, b: Array, c: Array, add: bool) -> float:
    """c = a b, or c += a b, for stacks of matrices; returns nan if a number of a or b is infinite or nan."""
    a, columns, chunks = _in_lines(a), _in_lines(b.swapaxes(1, 2)), min(_chunks(a.shape[2]), TERMS // SIDE)
    left = _room("left factor", min(_chunks(a.shape[1]), ROWS // SIDE) * chunks)
    right = _room("right factor", min(_chunks(columns.shape[1]), COLUMNS // SIDE) * chunks)
    return _multiply_stacks(a, columns, c, add, left, right, CONFIGURATION)


class Factors:
    """Right-hand factors (P, K, N), laid out once for many products.

    Parameters
    ----------
    shape : (P, K, N)
    terms : function
        ``terms(i, j)`` returns rows i..j of all factors, (P, j - i, N).
    """

    def __init__(self, shape: tuple[int, int, int], terms: Callable[[int, int], Array]):
        (count, k, n), self.shape = shape, shape
        self.chunks, panels = _chunks(k), _chunks(n)
        self.parts = _aligned(np.empty(count * panels * self.chunks * CHUNK + BYTES, np.uint8))

        def share(start: int, stop: int) -> None:
            for chunk in range(start, stop):
                some = terms(chunk * SIDE, min((chunk + 1) * SIDE, k)).transpose(0, 2, 1)
                _lay_out_chunk(some, self.parts[chunk * CHUNK :], self.chunks)

        split(share, self.chunks, 1.0 * count * k * n, products=True)


def multiply_all(a: Array, b: Array | Factors, out: Array) -> None:
    """Write a (P, M, K) times b (P, K, N) to out (P, M, N)."""
    if isinstance(b, Factors):
        left = _room("left factor", _chunks(a.shape[1]) * b.chunks)
        _multiply_factors(a, b.parts, b.chunks, out, left, CONFIGURATION)
    else:
        np.matmul(a, b, out=out)


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
    """Matrices, or copies of them, whose numbers are neighbours along one axis."""
    return x if x.itemsize in x.strides[1:] else np.ascontiguousarray(x)


def _room(name: str, chunks: int) -> Array:
    return scratch(name, chunks * CHUNK, np.dtype(np.uint8))


def _aligned(x: Array) -> Array:
    return x[-x.ctypes.data % BYTES :]


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
def _multiply_stacks(a, columns, c, add, left, right, configuration):
    """c (P, M, N) = or += what a (P, M, K) and columns (P, N, K) give, block by block; nan if one of their numbers is infinite or nan."""
    (count, m, k), n, rest = a.shape, columns.shape[1], c.dtype.type(0)
    spare, lefts, rights = np.empty((SIDE, SIDE), c.dtype), left.ctypes.data, right.ctypes.data
    configure(configuration.ctypes.data)
    for p in range(count):
        for start in range(0, k, TERMS):
            stop, anew = min(start + TERMS, k), start == 0 and not add
            chunks = (stop - start + SIDE - 1) // SIDE
            for i in range(0, m, ROWS):
                rest += _lay_out(a[p, i : i + ROWS, start:stop], False, lefts, chunks)
                for j in range(0, n, COLUMNS):
                    some = columns[p, j : j + COLUMNS, start:stop]
                    rest += _lay_out(some, True, rights, chunks)
                    _add_tiles(lefts, rights, chunks, c[p, i : i + ROWS, j : j + COLUMNS], anew, spare)
    release()
    return rest


@jit
def _lay_out_chunk(columns, parts, chunks):
    """One chunk of terms of right-hand factors (P, N, terms)."""
    count, n, _ = columns.shape
    for p in range(count):
        _lay_out(columns[p], True, parts.ctypes.data + p * ((n + SIDE - 1) // SIDE) * chunks * CHUNK, chunks)


@jit
def _multiply_factors(a, parts, chunks, c, left, configuration):
    """c (P, M, N) from a (P, M, K) and factors that are laid out."""
    spare = np.empty((SIDE, SIDE), c.dtype)
    size = (c.shape[2] + SIDE - 1) // SIDE * chunks * CHUNK
    configure(configuration.ctypes.data)
    for p in range(len(a)):
        _lay_out(a[p], False, left.ctypes.data, chunks)
        _add_tiles(left.ctypes.data, parts.ctypes.data + p * size, chunks, c[p], True, spare)
    release()
