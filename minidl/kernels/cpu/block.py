"""A dense layer, batch norm, ELU and dropout in training: each of two threads has half of the rows from end to end.

Rows stay in the cache of the core that made them, forward and back; only sums over them are exchanged.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...backend import Array
from ...rng import Key, keep_threshold
from .. import blocks, threads
from . import partner
from .blas import FUNCTIONS
from .compiling import SINGLE, SMALL, jit, ready, to_change
from .elementwise import _elu_single
from .halves import FEWEST_ROWS, multiply_rows
from .masks import _dropout_grad, draw, start_of
from .norm import _finish, _finish_grad, _gradient_sums, _moments, _normalise, _normalise_grad, _shift
from .partner import halve

SHIFT, TOTAL, SQUARES = range(3)  # of the sums of a half, (3, O)
NO_DROPOUT = np.zeros(5, np.uint64)


@jit
def _product_and_sums(gemm, x, w, z, parts, start, stop):
    """Rows of z = x @ w, and their sums."""
    multiply_rows(gemm, x, w, z, start, stop)
    sums, shift = parts[min(start, 1)], np.empty(z.shape[1], z.dtype)
    _shift(z[start:stop], shift)
    sums[SHIFT], sums[TOTAL], sums[SQUARES] = shift, 0, 0
    _moments(z[start:stop], shift, sums[TOTAL], sums[SQUARES])


@jit
def _activate(z, mean, scale, beta, alpha, linear, limit, factor, key, y, slope, start, stop):
    """Rows of the result, and their slope, of those of x @ w."""
    flat, steep = y[start:stop].reshape(-1), slope[start:stop].reshape(-1)
    if linear:
        _normalise(z[start:stop], mean, scale, beta, y[start:stop])
        steep[:] = 1
    else:
        _normalise(z[start:stop], mean, scale, beta, slope[start:stop])
        _elu_single(steep, flat, alpha)
        for j in range(steep.size):
            steep[j] = 1 if steep[j] > 0 else flat[j] + alpha
    if limit:
        mask = np.empty(flat.size, np.bool_)
        draw(mask, start * z.shape[1] // 8, key, limit)
        _dropout_grad(mask, flat, factor)
        _dropout_grad(mask, steep, factor)


@jit
def _slope_and_sums(g, slope, z, mean, parts, start, stop):
    """Rows of the gradient that arrived, times the slope, and their sums."""
    sums, flat, steep = parts[min(start, 1)], g[start:stop].reshape(-1), slope[start:stop].reshape(-1)
    for j in range(flat.size):
        flat[j] *= steep[j]
    sums[TOTAL], sums[SQUARES] = 0, 0
    _gradient_sums(g[start:stop], z[start:stop], mean, sums[TOTAL], sums[SQUARES])


@jit
def _normalise_and_product(z, columns, g, gemm, w, dx, start, stop):
    """Rows of x @ w's gradient, and of x's unless it has none."""
    _normalise_grad(z[start:stop], columns[0], columns[1], columns[2], columns[3], g[start:stop])
    if dx.size:
        multiply_rows(gemm, g, w.T, dx, start, stop)


@jit
def _forward(mail, together, gemm, x, w, norm, statistics, y, slope, z, scalars, key):
    (bias, gamma, beta), (mean, inverse_std, running_mean, running_var) = norm, statistics
    (m, n), (eps, momentum, alpha, linear, limit, factor) = z.shape, scalars
    middle, parts = m // 16 * 8, np.empty((2, 3, n))  # dropout's numbers are made eight at a time
    halve(mail, together, _product_and_sums, m, middle, (gemm, x, w, z, parts))
    upper, lower, rest = parts[0], parts[1], m - middle
    for j in range(n):  # around the shift of the upper half
        further = lower[SHIFT, j] - upper[SHIFT, j]
        upper[SQUARES, j] += lower[SQUARES, j] + further * (2 * lower[TOTAL, j] + rest * further)
        upper[TOTAL, j] += lower[TOTAL, j] + rest * further
    averages = running_mean, running_var, momentum
    _finish(m, upper[SHIFT], upper[TOTAL], upper[SQUARES], eps, mean, inverse_std, *averages)
    for j in range(min(bias.size, running_mean.size)):
        running_mean[j] += momentum * bias[j]
    arguments = z, mean, gamma * inverse_std, beta, alpha, linear, limit, factor, key, y, slope
    halve(mail, together, _activate, m, middle, arguments)
    return True


@jit
def _backward(mail, together, gemm, slope, x, w, z, statistics, gamma, g, dx, dw, dgamma, dbeta):
    (m, n), (mean, inverse_std) = z.shape, statistics
    middle, parts, columns = m // 16 * 8, np.empty((2, 3, n)), np.empty((4, n), z.dtype)
    halve(mail, together, _slope_and_sums, m, middle, (g, slope, z, mean, parts))
    sums, number = parts[0] + parts[1], z.dtype.type(1) / z.dtype.type(m)
    _finish_grad(m, sums[TOTAL], sums[SQUARES], inverse_std, dgamma, dbeta)
    columns[0], columns[1] = mean, gamma * inverse_std
    columns[2], columns[3] = dbeta * number, dgamma * inverse_std * number
    halve(mail, together, _normalise_and_product, m, middle, (z, columns, g, gemm, w, dx))
    if dw.size:
        halve(mail, together, multiply_rows, len(dw), len(dw) // 2, (gemm, x.T, g, dw))
    return True


def block_pays(x: Array, w: Array) -> bool:
    if not ready(x, w) or x.dtype != SINGLE or x.dtype not in FUNCTIONS or x.ndim != 2 or w.ndim != 2:
        return False
    (m, k), n = x.shape, w.shape[1]
    small = m * n < SMALL and m * k * n / 50 < 2 * threads.GRAIN
    return small and m >= FEWEST_ROWS and min(k, n) > 1 and len(w) == k


def dense_block(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    eps: float,
    averages: tuple[Array, Array] | None,
    momentum: float,
    alpha: float | None,
    keep: float,
    key: Key | None,
) -> tuple[Array, Array, Array, Array, Array]:
    limit = 0 if key is None else keep_threshold(keep)
    able = block_pays(x, w) and ready(x, gamma, beta, *(averages or ()), *(() if b is None else (b,)))
    if not able or (key is not None and not 0 < limit < 2**32):
        return blocks.dense_block(x, w, b, gamma, beta, eps, averages, momentum, alpha, keep, key)
    shape = len(x), w.shape[1]
    z, y, slope = np.empty(shape, x.dtype), np.empty(shape, x.dtype), np.empty(shape, x.dtype)
    mean, inverse_std = np.empty(shape[1], x.dtype), np.empty(shape[1], x.dtype)
    nothing = mean[:0]
    norm = tuple(map(np.ascontiguousarray, (nothing if b is None else b, gamma, beta)))
    statistics = mean, inverse_std, *(averages or (nothing, nothing))
    factor = np.float32(1 / keep if limit else 1)
    scalars = eps, momentum, np.float32(alpha or 0), alpha is None, limit, factor
    x, w, gemm = np.ascontiguousarray(x), np.ascontiguousarray(w), FUNCTIONS[x.dtype]
    start = NO_DROPOUT if key is None else start_of(key)
    arguments = gemm, x, w, norm, statistics, y, slope, z, scalars, start
    partner.share(lambda mail, together: _forward(mail, together, *arguments))
    return y, slope, z, mean, inverse_std


def dense_block_grad(
    dy: Array,
    slope: Array,
    x: Array,
    w: Array,
    z: Array,
    mean: Array,
    inverse_std: Array,
    gamma: Array,
    needed: tuple[bool, bool] = (True, True),
    into: tuple[Array | None, Array | None, Array | None] = (None, None, None),
    overwrite: bool = False,
) -> tuple[Array | None, Array | None, Array, Array]:
    able = block_pays(x, w) and ready(dy, slope, x, z, mean, inverse_std, gamma)
    if not able or (into[0] is not None and not into[0].flags.c_contiguous):
        rest = mean, inverse_std, gamma, needed, into, overwrite
        return blocks.dense_block_grad(dy, slope, x, w, z, *rest)
    g = to_change(dy, overwrite)
    slope, x, w, z, gamma = map(np.ascontiguousarray, (slope, x, w, z, gamma))
    dw, dgamma, dbeta = (
        np.empty(like.shape, x.dtype) if place is None else place
        for place, like in zip(into, (w, gamma, gamma), strict=True)
    )
    dx = np.empty(x.shape if needed[0] else (0, 0), x.dtype)
    results = dx, dw if needed[1] else dw[:0], dgamma, dbeta
    arguments = FUNCTIONS[x.dtype], slope, x, w, z, (mean, inverse_std), gamma, g, *results
    partner.share(lambda mail, together: _backward(mail, together, *arguments))
    return dx if needed[0] else None, dw if needed[1] else None, dgamma, dbeta
