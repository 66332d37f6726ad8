"""Matrix products by Intel's matrix unit, which multiplies bfloat16 only, where that takes less time than BLAS does.

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
from ..threads import split
from . import matrix_unit
from .compiling import SINGLE, jit, scratch
from .elementwise import add_and_activate
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
BLOCK = 256  # lines of the larger factor that are laid out at once, of
TERMS = 800  # terms at most: 1.2 MB, for the second cache
FEWEST = 2**28  # multiplications, some milliseconds by BLAS, for which it pays to compile all this
# Nanoseconds (Emerald Rapids): a multiplication by BLAS and by the unit, a number to lay out, a call.
BLAS_RATE, UNIT_RATE, LAYING_OUT, CALL = 1 / 75, 1 / 175, 0.5, 6000


@lru_cache(maxsize=1024)
def unit_pays(m: int, k: int, n: int, dtype: Any) -> bool:
    """Whether a product of (M, K) by (K, N) takes less time by the matrix unit."""
    whole = math.prod(SIDE * _chunks(length) for length in (m, k, n))
    unit = CALL + UNIT_RATE * whole + LAYING_OUT * k * (m + n)
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
    a number of a or b is infinite or nan, which has no parts, or if numbers of a row of `out` are no neighbours.
    """
    (m, k), n = a.shape, b.shape[1]
    if out.strides[1] != out.itemsize:
        return False
    across = m <= n  # whether the left factor is the smaller one, and blocks are columns of the result
    small, large = (_in_lines(a), _in_lines(b.T)) if across else (_in_lines(b.T), _in_lines(a))
    bands, chunks = _chunks(len(small)), _chunks(k)
    block = BLOCK if len(large) >= 8 * BLOCK else BLOCK // 2
    step = SIDE * -(-chunks // -(-chunks * SIDE // TERMS))  # terms at once: equal parts of all
    whole = _room("factor", bands * chunks)
    after = np.zeros(0 if slope is None else n, out.dtype) if bias is None else np.ascontiguousarray(bias)
    activation = out.dtype.type(slope or 0), slope is None

    def share(i: int, j: int) -> Any:
        part, b = (out[:, i:j], after[i:j]) if across else (out[i:j], after)
        room = _room("block", block * step // SIDE**2)
        return _make(whole, large[i:j], across, part, room, block, step, CONFIGURATION, b, *activation)

    costs = (LAYING_OUT * small.size, UNIT_RATE * m * k * n) if together else (0, 0)
    rests = split(lambda i, j: _lay_out_whole(small, i, j, not across, whole, step), bands, costs[0])
    rests += split(share, len(large), costs[1], at_once=block)
    return not math.isnan(sum(rests))


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
def _lay_out_whole(matrix, first, last, right, whole, step):
    """Write bands first..last of a factor to their places among all bands, for each part of the terms."""
    rest, bands, terms = matrix.dtype.type(0), (len(matrix) + SIDE - 1) // SIDE, matrix.shape[1]
    lines = matrix[first * SIDE : last * SIDE]
    for start in range(0, terms, step):
        chunks = (min(step, terms - start) + SIDE - 1) // SIDE
        place = (start // SIDE * bands + first * chunks) * CHUNK
        rest += _lay_out(lines[:, start : start + step], right, whole.ctypes.data + place, chunks)
    return rest


@jit
def _add_tile(left, right, chunks, part, anew, spare):
    """part = or += the product of 32 lines and 32 lines that are laid out; if it is smaller, by way of `spare`."""
    high, wide = part.shape
    if high == SIDE and wide == SIDE:
        tile(left, right, chunks, part.ctypes.data, part.strides[0], anew)
        return
    some = spare[:high, :wide]
    if not anew:
        some[:] = part
    tile(left, right, chunks, spare.ctypes.data, spare.strides[0], anew)
    part[:] = some


@jit
def _make(whole, others, across, c, room, block, step, configuration, bias, slope, linear):
    """c = what the factor in `whole` gives with the lines of the other one; nan if one of those is infinite or nan."""
    count, terms = c.shape[0] if across else c.shape[1], others.shape[1]
    rest, bands, spare = c.dtype.type(0), (count + SIDE - 1) // SIDE, np.empty((SIDE, SIDE), c.dtype)
    configure(configuration.ctypes.data)
    for i in range(0, len(others), block):
        some = others[i : i + block]
        for start in range(0, terms, step):
            chunks = (min(step, terms - start) + SIDE - 1) // SIDE
            rest += _lay_out(some[:, start : start + step], across, room.ctypes.data, chunks)
            for j in range(0, count, SIDE):
                seen = whole.ctypes.data + (start // SIDE * bands + j // SIDE * chunks) * CHUNK
                if across:
                    band, b = c[j : j + SIDE, i : i + block], bias[i : i + block]
                else:
                    band, b = c[i : i + block, j : j + SIDE], bias[j : j + SIDE]
                for k in range(0, len(some), SIDE):
                    laid = room.ctypes.data + k // SIDE * chunks * CHUNK
                    if across:
                        _add_tile(seen, laid, chunks, band[:, k : k + SIDE], start == 0, spare)
                    else:
                        _add_tile(laid, seen, chunks, band[k : k + SIDE], start == 0, spare)
                if b.size and start + step >= terms:
                    add_and_activate(band, b, slope, linear)
    release()
    return rest
