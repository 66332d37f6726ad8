"""Activations and bias, compiled: one pass over memory each. Gradients are computed in place, which is twice as fast."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array
from .. import reference
from ..threads import split, split_arrays
from .compiling import WORTH_FOLDING, delivered, folding, jit, ready, to_change

PIECE = 1024  # numbers of ELU at a time: their powers of 2 stay in the nearest cache
LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)


@jit
def _leaky(x, y, slope):
    if slope == 0:  # not 0 * x: that is nan for -inf
        for j in range(x.size):
            y[j] = 0 if x[j] <= 0 else x[j]
    else:
        for j in range(x.size):
            y[j] = slope * x[j] if x[j] <= 0 else x[j]


@jit
def _leaky_grad(y, g, slope):
    if slope == 0:
        for j in range(g.size):
            g[j] = g[j] if y[j] > 0 else 0
    else:
        for j in range(g.size):
            g[j] = g[j] if y[j] > 0 else slope * g[j]


def leaky_relu(x: Array, slope: float) -> Array:
    if not ready(x):
        return reference.leaky_relu(x, slope)
    return _map(lambda x, y: _leaky(x, y, x.dtype.type(slope)), np.empty(x.shape, x.dtype), x)


def leaky_relu_grad(dy: Array, y: Array, slope: float, overwrite: bool = False) -> Array:
    if not ready(dy, y):
        return reference.leaky_relu_grad(dy, y, slope, overwrite)
    return _map(lambda y, g: _leaky_grad(y, g, y.dtype.type(slope)), to_change(dy, overwrite), y)


def _map(loop: Any, result: Array, *arrays: Array, cost: float = 0.5) -> Array:
    """``loop(*flat arrays, flat result)`` over shares of arrays of one shape."""
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    split_arrays(loop, [*flat, result.reshape(-1)], cost * result.size)
    return result


# ELU ------------------------------------------------------------------------------------------------


@jit
def _elu(x, y, alpha):
    for j in range(x.size):
        v = x[j]
        y[j] = v if v > 0 else alpha * math.expm1(v)


@jit
def _elu_single(x, y, alpha):
    """float32, so that the loops become vector code: e^v - 1 = 2^n (e^r - 1) + 2^n - 1, |r| <= ln(2) / 2."""
    half, one = np.float32(0.5), np.float32(1)
    bits = np.empty(PIECE, np.int32)
    power = bits.view(np.float32)
    for start in range(0, x.size, PIECE):
        piece, result = x[start : start + PIECE], y[start : start + PIECE]
        for j in range(piece.size):  # 2^n, by writing n into the exponent
            v = min(max(piece[j], np.float32(-87)), np.float32(0))
            bits[j] = (np.int32(np.floor(v * LOG2_E + half)) + np.int32(127)) << np.int32(23)
        for j in range(result.size):
            v = min(max(piece[j], np.float32(-87)), np.float32(0))
            n = np.floor(v * LOG2_E + half)
            r = v - n * LN2_HIGH - n * LN2_LOW
            p = np.float32(1 / 720) + r * np.float32(1 / 5040)
            p = np.float32(1 / 24) + r * (np.float32(1 / 120) + r * p)
            p = r + r * r * (half + r * (np.float32(1 / 6) + r * p))
            negative = alpha * (power[j] * p + (power[j] - one))
            result[j] = negative if piece[j] <= 0 else piece[j]


@jit
def _elu_grad(x, y, g, alpha):
    for j in range(g.size):
        g[j] = g[j] if x[j] > 0 else g[j] * (y[j] + alpha)


@jit
def affine_rows(y, scale, shift, alpha, linear):
    """y (M, C) = y * scale + shift, and ELU unless it is to stay linear; float32, in this thread alone."""
    m, c = y.shape
    some = max(PIECE // c, 1)
    part = np.empty((some, c), y.dtype)
    for start in range(0, m, some):
        rows = y[start : start + some]
        for i in range(len(rows)):
            row, out = rows[i], part[i]
            for j in range(c):
                out[j] = row[j] * scale[j] + shift[j]
        if linear:
            rows[:] = part[: len(rows)]
        else:
            _elu_single(part[: len(rows)].reshape(-1), rows.reshape(-1), alpha)


def elu(x: Array, alpha: float) -> Array:
    if not ready(x):
        return reference.elu(x, alpha)
    y = np.empty(x.shape, x.dtype)
    if x.dtype == np.float64:
        return _map(lambda x, y: _elu(x, y, alpha), y, x, cost=10)
    return _map(lambda x, y: _elu_single(x, y, np.float32(alpha)), y, x, cost=2)


def elu_grad(dy: Array, x: Array, y: Array, alpha: float, overwrite: bool = False) -> Array:
    if not ready(dy, x, y):
        return reference.elu_grad(dy, x, y, alpha, overwrite)
    return _map(lambda x, y, g: _elu_grad(x, y, g, y.dtype.type(alpha)), to_change(dy, overwrite), x, y)


# Bias and activation after a matrix product ---------------------------------------------------------


@jit
def add_and_activate(y, b, slope, linear):
    m, c = y.shape
    for i in range(m):
        row = y[i]
        if linear:
            for j in range(c):
                row[j] += b[j]
        elif slope == 0:
            for j in range(c):
                v = row[j] + b[j]
                row[j] = 0 if v <= 0 else v
        else:
            for j in range(c):
                v = row[j] + b[j]
                row[j] = slope * v if v <= 0 else v


@jit
def _bias_activation_grad(y, g, sums, slope):
    m, c = g.shape
    part = np.empty(c, g.dtype)
    for start in range(0, m, 128):  # sums of 128 rows in g's precision, of those in double
        part[:] = 0
        for i in range(start, min(start + 128, m)):
            grad, out = g[i], y[i]
            if slope == 0:
                for j in range(c):
                    v = grad[j] if out[j] > 0 else 0
                    grad[j] = v
                    part[j] += v
            else:
                for j in range(c):
                    v = grad[j] if out[j] > 0 else slope * grad[j]
                    grad[j] = v
                    part[j] += v
        for j in range(c):
            sums[j] += part[j]


@jit
def _all_bias_activation_grad(y, g, db, slope):
    sums = np.zeros(db.size)
    _bias_activation_grad(y, g, sums, slope)
    for j in range(db.size):
        db[j] = sums[j]


def activate_rows(y: Array, b: Array | None, slope: float | None) -> None:
    """`bias_activation` in this thread alone, on contiguous rows of the twins' dtypes."""
    if b is not None and y.size < WORTH_FOLDING:
        add_and_activate(y, b, y.dtype.type(slope or 0), slope is None)
    elif b is not None or slope is not None:
        bias, k = np.zeros(y.shape[1], y.dtype) if b is None else np.ascontiguousarray(b), folding(*y.shape)
        wide = y.reshape(-1, k * len(bias))
        add_and_activate(wide, np.tile(bias, k) if k > 1 else bias, y.dtype.type(slope or 0), slope is None)


def bias_activation(y: Array, b: Array | None, slope: float | None) -> None:
    if not y.flags.c_contiguous or not ready(y, y if b is None else b):
        reference.bias_activation(y, b, slope)
    elif y.size < WORTH_FOLDING:
        activate_rows(y, b, slope)
    else:
        split(lambda i, j: activate_rows(y[i:j], b, slope), len(y), 0.5 * y.size)


def bias_activation_grad(
    dy: Array, y: Array, slope: float, into: Array | None = None, overwrite: bool = False
) -> tuple[Array, Array]:
    if not ready(dy, y):
        return reference.bias_activation_grad(dy, y, slope, into, overwrite)
    g, y, slope = to_change(dy, overwrite), np.ascontiguousarray(y), y.dtype.type(slope)
    if g.size < WORTH_FOLDING:
        db = np.empty(g.shape[1], g.dtype) if into is None else into
        _all_bias_activation_grad(y, g, db, slope)
        return g, db
    k = folding(*g.shape)
    wide_y, wide_g = (a.reshape(-1, k * g.shape[1]) for a in (y, g))

    def share(start: int, stop: int) -> Array:
        sums = np.zeros(wide_g.shape[1])
        _bias_activation_grad(wide_y[start:stop], wide_g[start:stop], sums, slope)
        return sums

    return g, delivered(split(share, len(wide_g), 0.7 * dy.size), k, dy.dtype, into)
