"""Dropout with its random numbers made on the way: Philox4x64-10, the same numbers as NumPy's."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ...backend import Array
from ...rng import Key, keep_threshold, philox_start
from .. import reference
from ..threads import split, split_arrays
from .compiling import jit, ready, to_change

LANES = 64  # blocks of Philox computed side by side: each loop over them becomes vector code
BLOCK = 8 * LANES  # the 32-bit numbers that they give
PIECE = 16 * BLOCK  # numbers whose mask stays in the nearest cache
M0, M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
W0, W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
HALF, LOWER = np.uint64(32), np.uint64(2**32 - 1)


@register_jitable(inline="always")
def _product(x, factor):
    """The upper and lower 64 bits of x * factor, by halves."""
    low = (x & LOWER) * (factor & LOWER)
    cross = (x & LOWER) * (factor >> HALF)
    middle = (x >> HALF) * (factor & LOWER) + (low >> HALF) + (cross & LOWER)
    high = (x >> HALF) * (factor >> HALF) + (cross >> HALF) + (middle >> HALF)
    return high, (middle << HALF) | (low & LOWER)


@jit
def _philox(words, lanes, first, start):
    """Fill `words` (LANES, 4) with the output of the blocks from number `first` on (see `rng.philox4x64`)."""
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    key0, key1, c1, c2, c3 = start[0], start[1], start[2], start[3], start[4]
    for j in range(LANES):
        a[j], b[j], c[j], d[j] = first + np.uint64(j) + np.uint64(1), c1, c2, c3
    for _ in range(10):
        for j in range(LANES):
            high0, low0 = _product(a[j], M0)
            high1, low1 = _product(c[j], M1)
            a[j], b[j], c[j], d[j] = high1 ^ b[j] ^ key0, low1, high0 ^ d[j] ^ key1, low0
        key0, key1 = key0 + W0, key1 + W1
    for j in range(LANES):
        words[j, 0], words[j, 1], words[j, 2], words[j, 3] = a[j], b[j], c[j], d[j]


@jit
def draw(mask, first, start_of_key, threshold):
    """Whether the numbers from block `first` on are below the threshold."""
    words, lanes = np.empty((LANES, 4), np.uint64), np.empty((4, LANES), np.uint64)
    bits, limit = words.reshape(-1).view(np.uint32), np.uint32(threshold)
    for start in range(0, mask.size, BLOCK):
        _philox(words, lanes, np.uint64(first + start // 8), start_of_key)
        kept = mask[start : start + BLOCK]
        for j in range(kept.size):
            kept[j] = bits[j] < limit


@jit
def _dropout(x, y, mask, first, start_of_key, threshold, scale):
    factor = x.dtype.type(scale)
    for start in range(0, x.size, PIECE):
        some, result, kept = x[start : start + PIECE], y[start : start + PIECE], mask[start : start + PIECE]
        draw(kept, first + start // 8, start_of_key, threshold)
        for j in range(some.size):
            result[j] = some[j] * factor if kept[j] else 0


@jit
def _dropout_grad(mask, g, scale):
    for j in range(g.size):
        g[j] = g[j] * scale if mask[j] else 0


def start_of(key: Key) -> Array:
    """Where its random numbers start, for the kernels: five numbers of this type would take longer to pass."""
    (k0, k1), (_, c1, c2, c3) = philox_start(key)
    return np.array((k0, k1, c1, c2, c3), np.uint64)


def dropout(x: Array, keep: float, key: Key) -> tuple[Array, Array]:
    threshold = keep_threshold(keep)
    if not ready(x) or not 0 < threshold < 2**32:
        return reference.dropout(x, keep, key)
    y, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, bool)
    flat, out, kept = np.ascontiguousarray(x).reshape(-1), y.reshape(-1), mask.reshape(-1)
    start_of_key = start_of(key)

    def share(start: int, stop: int) -> None:
        part = slice(start * BLOCK, min(stop * BLOCK, out.size))
        _dropout(flat[part], out[part], kept[part], start * BLOCK // 8, start_of_key, threshold, 1 / keep)

    split(share, -(-out.size // BLOCK), 2.0 * out.size)
    return y, mask


def dropout_grad(dy: Array, mask: Array, keep: float, overwrite: bool = False) -> Array:
    if not ready(dy) or not keep:
        return reference.dropout_grad(dy, mask, keep, overwrite)
    dx, scale = to_change(dy, overwrite), dy.dtype.type(1 / keep)
    arrays = mask.reshape(-1), dx.reshape(-1)
    split_arrays(lambda kept, g: _dropout_grad(kept, g, scale), arrays, 0.5 * dx.size)
    return dx
