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
from .compiling import SINGLE, SMALL, Job, jit, ready, to_change
from .elementwise import _elu_single
from .halves import FEWEST_ROWS, describe, multiply_rows, product
from .masks import _dropout_grad, draw, start_of
from .norm import _finish, _finish_grad, _gradient_sums, _moments, _normalise, _normalise_grad, _shift
from .partner import FUNCTION, MIDDLE, ROWS, doubles, halve, mail_at, singles

# What the mail says beside a product: the units O; addresses of the rows (M, O) of x @ w, of the result, of its slope
# and of the gradient, of columns (4, O) and of the sums of each half (2, 3, O); numbers of ELU and of dropout.
UNITS, Z, Y, SLOPE, G, COLUMNS, SUMS, ALPHA, LINEAR, LIMIT, FACTOR, PHILOX = range(28, 40)
SHIFT, TOTAL, SQUARES = range(3)  # of a half's sums
NO_DROPOUT = np.zeros(5, np.uint64)


@jit
def _rows(mail, name, start, stop):
    n = mail[UNITS]
    return singles(mail[name] + 4 * start * n, (stop - start, n))


@jit
def _sums(mail, half):
    n = mail[UNITS]
    return doubles(mail[SUMS] + 8 * half * 3 * n, (3, n))


@Job
def _product_and_sums(place, start, stop):
    """Rows of x @ w, and their sums."""
    mail = mail_at(place)
    multiply_rows(mail, start, stop)
    z, sums = _rows(mail, Z, start, stop), _sums(mail, min(start, 1))
    shift = np.empty(mail[UNITS], z.dtype)
    _shift(z, shift)
    sums[SHIFT], sums[TOTAL], sums[SQUARES] = shift, 0, 0
    _moments(z, shift, sums[TOTAL], sums[SQUARES])


@Job
def _activate(place, start, stop):
    """Rows of the result, and their slope, of those of x @ w."""
    mail = mail_at(place)
    n, alpha, linear = mail[UNITS], np.float32(mail.view(np.float64)[ALPHA]), mail[LINEAR] != 0
    z, y, slope = _rows(mail, Z, start, stop), _rows(mail, Y, start, stop), _rows(mail, SLOPE, start, stop)
    columns = singles(mail[COLUMNS], (4, n))
    flat, steep = y.reshape(-1), slope.reshape(-1)
    if linear:
        _normalise(z, columns[0], columns[1], columns[2], y)
        steep[:] = 1
    else:
        _normalise(z, columns[0], columns[1], columns[2], slope)
        _elu_single(steep, flat, alpha)
        for j in range(steep.size):
            steep[j] = 1 if steep[j] > 0 else flat[j] + alpha
    if mail[LIMIT]:
        mask, factor = np.empty(flat.size, np.bool_), np.float32(mail.view(np.float64)[FACTOR])
        key = mail[PHILOX : PHILOX + 5].view(np.uint64)
        draw(mask, start * n // 8, key, mail[LIMIT])
        _dropout_grad(mask, flat, factor)
        _dropout_grad(mask, steep, factor)


@Job
def _slope_and_sums(place, start, stop):
    """Rows of the gradient that arrived, times the slope, and their sums."""
    mail = mail_at(place)
    g, sums = _rows(mail, G, start, stop), _sums(mail, min(start, 1))
    flat, steep = g.reshape(-1), _rows(mail, SLOPE, start, stop).reshape(-1)
    for j in range(flat.size):
        flat[j] *= steep[j]
    sums[TOTAL], sums[SQUARES] = 0, 0
    mean = singles(mail[COLUMNS], mail[UNITS])
    _gradient_sums(g, _rows(mail, Z, start, stop), mean, sums[TOTAL], sums[SQUARES])


@Job
def _normalise_and_product(place, start, stop):
    """Rows of x @ w's gradient, and of x's unless the mail has no product."""
    mail = mail_at(place)
    columns, g = singles(mail[COLUMNS], (4, mail[UNITS])), _rows(mail, G, start, stop)
    z = _rows(mail, Z, start, stop)
    _normalise_grad(z, columns[0], columns[1], columns[2], columns[3], g)
    if mail[Y]:
        multiply_rows(mail, start, stop)


@jit
def _address(mail, z, slope, columns, parts):
    """Write into the mail what forward and backward have in common; dropout's numbers are made eight at a time."""
    mail[ROWS], mail[MIDDLE] = len(z), len(z) // 16 * 8
    mail[UNITS], mail[Z], mail[SLOPE] = z.shape[1], z.ctypes.data, slope.ctypes.data
    mail[COLUMNS], mail[SUMS] = columns.ctypes.data, parts.ctypes.data


@jit
def _do(mail, together, job):
    mail[FUNCTION] = job
    halve(mail, together)


@jit
def _forward(mail, together, gemm, jobs, x, w, norm, statistics, y, slope, z, scalars, start, room):
    (bias, gamma, beta), (mean, inverse_std, running_mean, running_var) = norm, statistics
    (m, n), (eps, momentum, alpha, linear, limit, factor) = z.shape, scalars
    parts, columns = room
    describe(mail, gemm, x, w, z)
    _address(mail, z, slope, columns, parts)
    _do(mail, together, jobs[0])
    upper, lower, rest = parts[0], parts[1], m - mail[MIDDLE]
    for j in range(n):  # around the shift of the upper half
        further = lower[SHIFT, j] - upper[SHIFT, j]
        upper[SQUARES, j] += lower[SQUARES, j] + further * (2 * lower[TOTAL, j] + rest * further)
        upper[TOTAL, j] += lower[TOTAL, j] + rest * further
    averages = running_mean, running_var, momentum
    _finish(m, upper[SHIFT], upper[TOTAL], upper[SQUARES], eps, mean, inverse_std, *averages)
    for j in range(min(bias.size, running_mean.size)):
        running_mean[j] += momentum * bias[j]
    columns[0], columns[1], columns[2] = mean, gamma * inverse_std, beta
    mail[Y], mail[LINEAR], mail[LIMIT] = y.ctypes.data, linear, limit
    mail.view(np.float64)[ALPHA], mail.view(np.float64)[FACTOR] = alpha, factor
    mail[PHILOX : PHILOX + 5] = start.view(np.int64)
    _do(mail, together, jobs[1])
    return True


@jit
def _backward(mail, together, gemm, jobs, slope, x, w, z, statistics, gamma, g, dx, dw, dgamma, dbeta, room):
    m, (mean, inverse_std), (parts, columns) = len(z), statistics, room
    columns[0], mail[G] = mean, g.ctypes.data
    _address(mail, z, slope, columns, parts)
    _do(mail, together, jobs[0])
    sums, number = parts[0] + parts[1], z.dtype.type(1) / z.dtype.type(m)
    _finish_grad(m, sums[TOTAL], sums[SQUARES], inverse_std, dgamma, dbeta)
    columns[1], columns[2], columns[3] = gamma * inverse_std, dbeta * number, dgamma * inverse_std * number
    mail[Y] = dx.ctypes.data if dx.size else 0
    if dx.size:
        describe(mail, gemm, g, w.T, dx)
    _do(mail, together, jobs[1])
    if dw.size:
        describe(mail, gemm, x.T, g, dw)
        _do(mail, together, jobs[2])
    return True


def _room(n: int) -> tuple[Array, Array]:
    """For sums and columns; made by the caller, for Numba frees its own arrays after the last time it sees them used."""
    return np.empty((2, 3, n)), np.empty((4, n), np.float32)


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
    scalars = eps, momentum, alpha or 0.0, alpha is None, limit, 1 / keep if limit else 1.0
    x, w, room = np.ascontiguousarray(x), np.ascontiguousarray(w), _room(shape[1])
    gemm, jobs = FUNCTIONS[x.dtype], (_product_and_sums.address, _activate.address)
    start = NO_DROPOUT if key is None else start_of(key)
    partner.share(
        lambda mail, together: _forward(
            mail, together, gemm, jobs, x, w, norm, statistics, y, slope, z, scalars, start, room
        )
    )
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
    gemm, jobs = (
        FUNCTIONS[x.dtype],
        (_slope_and_sums.address, _normalise_and_product.address, product.address),
    )
    room = _room(len(gamma))
    results = dx, dw if needed[1] else dw[:0], dgamma, dbeta
    arrays = slope, x, w, z, (mean, inverse_std), gamma, g
    partner.share(lambda mail, together: _backward(mail, together, gemm, jobs, *arrays, *results, room))
    return dx if needed[0] else None, dw if needed[1] else None, dgamma, dbeta
