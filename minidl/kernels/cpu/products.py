"""Matrix products by Intel's matrix unit, which multiplies 8-bit integers, where that takes less time than BLAS does.

Numbers become whole ones of three digits, x = x0 2**16 + x1 2**8 + x2, between -128 and 127 (see `digits`), and

    a b = a0 b0 2**32 + (a0 b1 + a1 b0) 2**24 + (a0 b2 + a1 b1 + a2 b0) 2**16 + what is below float32's precision

The unit's sums of these are exact. This is the scheme of Ozaki et al. (Numerical Algorithms 59, 2012) on integers, as
Ootomo, Ozaki and Yokota have it (DGEMM on integer matrix multiplication unit, 2024). It takes less time than one
product by BLAS; docs/adr/0016 says how precise it is. Both factors are laid out anew, in blocks that stay in the cache.
`plain` says it in NumPy.
"""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any

import numpy as np

from ...backend import Array
from ..threads import split
from . import matrix_unit
from .compiling import SINGLE, jit, scratch
from .digits import INFINITE, digits_of, lay_out, lay_out_whole, singles
from .elementwise import add_and_activate
from .matrix_unit import CHUNK, CONFIGURATION, DEPTH, LEVELS, SIDE, SUMS, configure, deliver, release, tile

USED = matrix_unit.PERMITTED and os.environ.get("MINIDL_MATRIX_UNIT") != "0"
BLOCK = 256  # lines of the larger factor that are laid out at once, of
TERMS = 1024  # terms at most: 0.8 MB, for the second cache; float32 holds the sum of so many products of two digits
FEWEST = 2**28  # multiplications, some milliseconds by BLAS, for which it pays to compile all this
# Nanoseconds (Emerald Rapids): a multiplication by BLAS and by the unit, a number to lay out, one of the result, a call.
BLAS_RATE, UNIT_RATE, LAYING_OUT, DELIVERY, CALL = 1 / 75, 1 / 220, 0.7, 0.7, 6000
BYTE, WORD = np.dtype(np.uint8), np.dtype(np.int32)


@lru_cache(maxsize=1024)
def unit_pays(m: int, k: int, n: int, dtype: Any) -> bool:
    """Whether a product of (M, K) by (K, N) takes less time by the matrix unit."""
    whole = math.prod(SIDE * -(-length // SIDE) for length in (m, n)) * DEPTH * -(-k // DEPTH)
    unit = CALL + UNIT_RATE * whole + LAYING_OUT * k * (m + n) + DELIVERY * m * n * -(-k // TERMS)
    return USED and dtype == SINGLE and m * k * n >= FEWEST and unit < BLAS_RATE * m * k * n


def multiply(a: Array, b: Array, out: Array) -> None:
    """Write a (M, K) times b (K, N) to `out`, in this thread."""
    if not unit_pays(*a.shape, b.shape[1], out.dtype) or not by_unit(a, b, out):
        np.matmul(a, b, out=out)


def by_unit(
    a: Array,
    b: Array,
    out: Array,
    bias: Array | None = None,
    slope: float | None = None,
    together: bool = False,
) -> bool:
    """Write a (M, K) times b (K, N) to `out` by the matrix unit, or those of all threads; then `bias_activation`.

    The smaller factor is laid out as a whole. Then threads take blocks of the larger one until none is left: where
    another program uses a core's unit as well, it has half of its speed. False, and nothing that counts in `out`, if
    a number of a or b is infinite or nan, which has no digits, or if numbers of a row of `out` are no neighbours.
    """
    (m, k), n = a.shape, b.shape[1]
    if out.strides[1] != out.itemsize:
        return False
    across = m <= n  # whether the left factor is the smaller one, and blocks are columns of the result
    small, large = (_in_lines(a), _in_lines(b.T)) if across else (_in_lines(b.T), _in_lines(a))
    bands, step = -(-len(small) // SIDE), _step(k)
    block = BLOCK if len(large) >= 8 * BLOCK else BLOCK // 2
    whole = scratch("factor", bands * -(-k // DEPTH) * CHUNK, BYTE)
    scales = np.zeros((-(-k // step), bands * SIDE), out.dtype)
    after = np.zeros(0 if slope is None else n, out.dtype) if bias is None else np.ascontiguousarray(bias)
    activation = out.dtype.type(slope or 0), slope is None

    def share(i: int, j: int) -> Any:
        part, b = (out[:, i:j], after[i:j]) if across else (out[i:j], after)
        rooms = scratch("block", block * step // SIDE // DEPTH * CHUNK, BYTE), scratch("sums", 3 * SUMS, WORD)
        return _make(
            whole, scales, large[i:j], across, part, rooms, block, step, CONFIGURATION, b, *activation
        )

    costs = (LAYING_OUT * small.size, UNIT_RATE * m * k * n) if together else (0, 0)
    largest = split(lambda i, j: lay_out_whole(small, i, j, not across, whole, scales, step), bands, costs[0])
    largest += split(share, len(large), costs[1], at_once=block)
    return max(largest) < INFINITE


def plain(a: Array, b: Array) -> Array:
    """The same in NumPy, to the last bit: the explanation, and what tests compare with."""
    total, step = np.zeros((len(a), b.shape[1]), np.float32), _step(a.shape[1])
    for start in range(0, a.shape[1], step):
        left, down = digits_of(a[:, start : start + step])
        right, across = digits_of(b[start : start + step].T)
        sums = (sum(left[i] @ right[j].T for i, j in pairs) for pairs in LEVELS)
        high, middle, low = (np.asarray(x, np.float32) for x in sums)
        total += (2**16 * high + (2**8 * middle + low)) * np.outer(down, across)
    return total


def _step(terms: int) -> int:
    """How many terms are summed up by the unit at once: equal parts of all."""
    chunks = -(-terms // DEPTH)
    return DEPTH * -(-chunks // -(-chunks * DEPTH // TERMS))


def _in_lines(x: Array) -> Array:
    """The matrix, or a copy, whose numbers are neighbours along one axis."""
    return x if x.itemsize in x.strides else np.ascontiguousarray(x)


@jit
def _add_tile(factors, chunks, scales, c, anew, sums, spare, ahead):
    """c = or += the product of 32 lines and 32 lines that are laid out; if it is smaller, by way of `spare`."""
    (high, wide), whole = c.shape, c.shape[0] == SIDE and c.shape[1] == SIDE
    (left, right), (down, across) = factors, scales
    target, step = (c.ctypes.data, c.strides[0]) if whole else (spare.ctypes.data, spare.strides[0])
    tile(left, right, chunks, sums.ctypes.data, target, step, ahead)
    deliver(sums.ctypes.data, down.ctypes.data, across.ctypes.data, target, step, anew or not whole)
    if not whole and anew:
        c[:] = spare[:high, :wide]
    elif not whole:
        c += spare[:high, :wide]


@jit
def _make(whole, scales, others, across, c, rooms, block, step, configuration, bias, slope, linear):
    """c = what the factor in `whole` gives with the lines of the other one; return as `_measure` does."""
    count = c.shape[0] if across else c.shape[1]
    (room, sums), most, bands = rooms, 0, (count + SIDE - 1) // SIDE
    others_scales, spare = np.zeros(block, c.dtype), np.empty((SIDE, SIDE), c.dtype)
    configure(configuration.ctypes.data)
    for i in range(0, len(others), block):
        for part in range(len(scales)):
            some, anew = others[i : i + block, part * step : (part + 1) * step], part == 0
            chunks = (some.shape[1] + DEPTH - 1) // DEPTH
            panel = chunks * CHUNK
            most = max(most, lay_out(some, across, room.ctypes.data, chunks, others_scales))
            for j in range(0, count, SIDE):
                seen = whole.ctypes.data + part * step // DEPTH * bands * CHUNK + j // SIDE * panel
                band = c[j : j + SIDE, i : i + block] if across else c[i : i + block, j : j + SIDE]
                for k in range(0, len(some), SIDE):
                    laid, ahead = room.ctypes.data + k // SIDE * panel, seen + panel + k // SIDE * panel // 8
                    ours, theirs = scales[part, j:], others_scales[k:]
                    if across:
                        target, factors, lines = band[:, k : k + SIDE], (seen, laid), (ours, theirs)
                    else:
                        target, factors, lines = band[k : k + SIDE], (laid, seen), (theirs, ours)
                    _add_tile(factors, chunks, lines, target, anew, sums, spare, ahead)
                if bias.size and part == len(scales) - 1:
                    b = bias[i : i + block] if across else bias[j : j + SIDE]
                    for k in range(len(band)):
                        row = singles(band.ctypes.data + k * band.strides[0], (1, band.shape[1]))
                        add_and_activate(row, b, slope, linear)
    release()
    return most
