"""Batch normalisation, compiled: sums of 128 rows in the precision of the data, of those in double."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array
from .. import reference
from ..threads import split
from .compiling import SMALL, folding, jit, ready, to_change


@jit
def _moments(x, shift, total, squares):
    """Add up x - shift and its squares, by column."""
    m, c = x.shape
    part, part2 = np.empty(c, x.dtype), np.empty(c, x.dtype)
    for start in range(0, m, 128):
        part[:] = 0
        part2[:] = 0
        for i in range(start, min(start + 128, m)):
            row = x[i]
            for j in range(c):
                d = row[j] - shift[j]
                part[j] += d
                part2[j] += d * d
        for j in range(c):
            total[j] += part[j]
            squares[j] += part2[j]


@jit
def _normalise(x, mean, scale, beta, y):
    m, c = x.shape
    for i in range(m):
        row, out = x[i], y[i]
        for j in range(c):
            out[j] = (row[j] - mean[j]) * scale[j] + beta[j]


@jit
def _gradient_sums(dy, x, mean, total, products):
    """Add up dy and dy (x - mean), by column."""
    m, c = dy.shape
    part, part2 = np.empty(c, dy.dtype), np.empty(c, dy.dtype)
    for start in range(0, m, 128):
        part[:] = 0
        part2[:] = 0
        for i in range(start, min(start + 128, m)):
            grad, row = dy[i], x[i]
            for j in range(c):
                part[j] += grad[j]
                part2[j] += grad[j] * (row[j] - mean[j])
        for j in range(c):
            total[j] += part[j]
            products[j] += part2[j]


@jit
def _normalise_grad(x, mean, scale, mean_dy, slope, g):
    m, c = g.shape
    for i in range(m):
        grad, row = g[i], x[i]
        for j in range(c):
            grad[j] = (grad[j] - mean_dy[j] - (row[j] - mean[j]) * slope[j]) * scale[j]


@jit
def _finish(count, shift, total, squares, eps, mean, inverse_std, running_mean, running_var, momentum):
    """From sums to statistics, and the averages towards those."""
    for j in range(shift.size):
        offset = total[j] / count
        var = max(squares[j] / count - offset * offset, 0.0)
        mean[j] = shift[j] + offset
        inverse_std[j] = 1 / math.sqrt(var + eps)
        if running_mean.size:
            running_mean[j] += momentum * (mean[j] - running_mean[j])
            running_var[j] += momentum * (var * count / (count - 1) - running_var[j])


@jit
def _shift(x, shift):
    """Means of a few rows: close to those of all, so that squares of differences do not cancel."""
    few = min(len(x), 128)
    shift[:] = 0
    for i in range(few):
        row = x[i]
        for j in range(row.size):
            shift[j] += row[j]
    for j in range(shift.size):
        shift[j] /= few


@jit
def _in_one_piece(x, gamma, beta, eps, y, mean, inverse_std, running_mean, running_var, momentum):
    c = x.shape[1]
    shift, total, squares = np.empty(c, x.dtype), np.zeros(c), np.zeros(c)
    _shift(x, shift)
    _moments(x, shift, total, squares)
    _finish(len(x), shift, total, squares, eps, mean, inverse_std, running_mean, running_var, momentum)
    _normalise(x, mean, gamma * inverse_std, beta, y)


@jit
def _grad_in_one_piece(x, mean, inverse_std, gamma, g, dgamma, dbeta):
    m, c = x.shape
    total, products = np.zeros(c), np.zeros(c)
    _gradient_sums(g, x, mean, total, products)
    _finish_grad(m, total, products, inverse_std, dgamma, dbeta)
    number = x.dtype.type(1) / x.dtype.type(m)
    _normalise_grad(x, mean, gamma * inverse_std, dbeta * number, dgamma * inverse_std * number, g)


@jit
def _finish_grad(m, total, products, inverse_std, dgamma, dbeta):
    for j in range(total.size):
        dbeta[j] = total[j]
        dgamma[j] = products[j] * inverse_std[j]


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    averages: tuple[Array, Array] | None = None,
    momentum: float = 0.0,
) -> tuple[Array, Array, Array]:
    if not ready(x, gamma, beta, *(averages or ())):
        return reference.batch_norm(x, gamma, beta, eps, averages, momentum)
    x, y = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    gamma, beta = np.ascontiguousarray(gamma), np.ascontiguousarray(beta)
    mean, inverse_std = np.empty(x.shape[1], x.dtype), np.empty(x.shape[1], x.dtype)
    statistics = mean, inverse_std, *(averages or (mean[:0], mean[:0])), momentum
    if x.size < SMALL:
        _in_one_piece(x, gamma, beta, eps, y, *statistics)
        return y, mean, inverse_std
    shift, k = np.empty_like(mean), folding(*x.shape)
    _shift(x, shift)
    wide, out, wide_shift = x.reshape(-1, k * len(shift)), y.reshape(-1, k * len(shift)), np.tile(shift, k)

    def sums(start: int, stop: int) -> Array:
        total = np.zeros((2, wide.shape[1]))
        _moments(wide[start:stop], wide_shift, *total)
        return total

    total: Any = sum(split(sums, len(wide), 0.5 * x.size))
    _finish(len(x), shift, *total.reshape(2, k, -1).sum(axis=1), eps, *statistics)
    columns = [np.tile(a, k) for a in (mean, gamma * inverse_std, beta)]
    split(lambda i, j: _normalise(wide[i:j], *columns, out[i:j]), len(wide), 0.5 * x.size)
    return y, mean, inverse_std


def normalise(x: Array, mean: Array, scale: Array, beta: Array) -> Array:
    if not ready(x, mean, scale, beta):
        return reference.normalise(x, mean, scale, beta)
    x, y, k = np.ascontiguousarray(x), np.empty(x.shape, x.dtype), folding(*x.shape)
    columns = [np.tile(a, k) if k > 1 else np.ascontiguousarray(a) for a in (mean, scale, beta)]
    wide, out = x.reshape(-1, k * len(mean)), y.reshape(-1, k * len(mean))
    split(lambda i, j: _normalise(wide[i:j], *columns, out[i:j]), len(wide), 0.5 * x.size)
    return y


def batch_norm_grad(
    dy: Array,
    x: Array,
    mean: Array,
    inverse_std: Array,
    gamma: Array,
    into: tuple[Array | None, Array | None] = (None, None),
    overwrite: bool = False,
) -> tuple[Array, Array, Array]:
    if not ready(dy, x, gamma):
        return reference.batch_norm_grad(dy, x, mean, inverse_std, gamma, into, overwrite)
    dx, x, gamma = to_change(dy, overwrite), np.ascontiguousarray(x), np.ascontiguousarray(gamma)
    dgamma, dbeta = (np.empty(len(mean), dy.dtype) if place is None else place for place in into)
    if x.size < SMALL:
        _grad_in_one_piece(x, mean, inverse_std, gamma, dx, dgamma, dbeta)
        return dx, dgamma, dbeta
    k, count = folding(*x.shape), len(x)
    wide, out = (a.reshape(-1, k * len(mean)) for a in (x, dx))
    wide_mean = np.tile(mean, k)

    def sums(start: int, stop: int) -> Array:
        total = np.zeros((2, wide.shape[1]))
        _gradient_sums(out[start:stop], wide[start:stop], wide_mean, *total)
        return total

    total: Any = sum(split(sums, len(wide), 0.7 * x.size))
    _finish_grad(count, *total.reshape(2, k, -1).sum(axis=1), inverse_std, dgamma, dbeta)
    rest = gamma * inverse_std, dbeta / count, dgamma * inverse_std / count
    columns = wide_mean, *(np.tile(a, k) for a in rest)
    split(lambda i, j: _normalise_grad(wide[i:j], *columns, out[i:j]), len(wide), 0.7 * x.size)
    return dx, dgamma, dbeta
