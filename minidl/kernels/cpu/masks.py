"""Dropout with its random numbers made on the way: Philox4x64-10, the same numbers as NumPy's."""

# mypy: disable-error-code="no-untyped-def,call-arg,var-annotated"

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic

from ...backend import Array
from ...rng import Key, keep_threshold, philox_start
from .. import reference
from ..threads import split
from .compiling import jit, ready

BLOCK = 1024  # numbers drawn at once; a Philox block is 8 of them
M0, M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
W0, W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@intrinsic
def _product(context, a, b):
    """The upper and lower 64 bits of a * b: one instruction, which Python has no word for."""
    result = types.UniTuple(types.uint64, 2)

    def generate(context, builder, signature, arguments):
        from llvmlite import ir

        wide, half = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        words = builder.trunc(builder.lshr(product, wide(64)), half), builder.trunc(product, half)
        return context.make_tuple(builder, result, words)

    return result(types.uint64, types.uint64), generate


@jit
def philox_words(words, first, key0, key1, c1, c2, c3):
    """Fill `words` with the output of the blocks from number `first` on (see `rng.philox4x64`)."""
    for block in range(words.size // 4):
        a, b, c, d = first + np.uint64(block) + np.uint64(1), c1, c2, c3
        k0, k1 = key0, key1
        for _ in range(10):
            high0, low0 = _product(M0, a)
            high1, low1 = _product(M1, c)
            a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
            k0, k1 = k0 + W0, k1 + W1
        words[4 * block], words[4 * block + 1] = a, b
        words[4 * block + 2], words[4 * block + 3] = c, d


@jit
def _dropout(x, y, mask, first, key0, key1, c1, c2, c3, threshold, scale):
    words = np.empty(BLOCK // 2, np.uint64)
    bits = words.view(np.uint32)
    for start in range(0, x.size, BLOCK):
        block = first + np.uint64(start // 8)
        philox_words(words, block, key0, key1, c1, c2, c3)
        some, result, kept = x[start : start + BLOCK], y[start : start + BLOCK], mask[start : start + BLOCK]
        for j in range(some.size):
            kept[j] = bits[j] < threshold
            result[j] = some[j] * scale if bits[j] < threshold else 0


@jit
def _dropout_grad(dy, mask, dx, scale):
    for j in range(dy.size):
        dx[j] = dy[j] * scale if mask[j] else 0


def dropout(x: Array, keep: float, key: Key) -> tuple[Array, Array]:
    threshold = keep_threshold(keep)
    if not ready(x) or not 0 < threshold < 2**32:
        return reference.dropout(x, keep, key)
    y, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, bool)
    flat, out, kept = np.ascontiguousarray(x).reshape(-1), y.reshape(-1), mask.reshape(-1)
    (k0, k1), (_, c1, c2, c3) = philox_start(key)
    words = [np.uint64(word) for word in (k0, k1, c1, c2, c3)]
    limit, scale = np.uint32(threshold), x.dtype.type(1 / keep)

    def share(start: int, stop: int) -> None:
        part = slice(start * BLOCK, min(stop * BLOCK, out.size))
        first = np.uint64(start * BLOCK // 8)
        _dropout(flat[part], out[part], kept[part], first, *words, limit, scale)

    split(share, -(-out.size // BLOCK), 2.0 * out.size)
    return y, mask


def dropout_grad(dy: Array, mask: Array, keep: float) -> Array:
    if not ready(dy) or not keep:
        return reference.dropout_grad(dy, mask, keep)
    dx, flat, kept = np.empty(dy.shape, dy.dtype), np.ascontiguousarray(dy).reshape(-1), mask.reshape(-1)
    out, scale = dx.reshape(-1), dy.dtype.type(1 / keep)
    split(lambda i, j: _dropout_grad(flat[i:j], kept[i:j], out[i:j], scale), out.size, 0.5 * out.size)
    return dx
