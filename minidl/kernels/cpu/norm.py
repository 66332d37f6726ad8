"""Batch normalisation, compiled: sums of 128 rows in the precision of the data, of those in double."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...backend import Array
from .. import reference
from ..threads import split
from .compiling import jit, ready


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
def _normalise_grad(dy, x, mean, scale, mean_dy, slope, dx):
    m, c = dy.shape
    for i in range(m):
        grad, row, out = dy[i], x[i], dx[i]
        for j in range(c):
            out[j] = (grad[j] - mean_dy[j] - (row[j] - mean[j]) * slope[j]) * scale[j]


def batch_norm(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array, Array]:
    if not ready(x, gamma, beta):
        return reference.batch_norm(x, gamma, beta, eps)
    x, y = np.ascontiguousarray(x), np.empty(x.shape, x.dtype)
    shift = x[:128].mean(axis=0)  # close to the mean, so that squares do not cancel

    def sums(start: int, stop: int) -> Array:
        total = np.zeros((2, len(shift)))
        _moments(x[start:stop], shift, *total)
        return total

    offset, square = sum(split(sums, len(x), 0.5 * x.size)) / len(x)
    mean = (shift + offset).astype(x.dtype)
    var = np.maximum(square - offset * offset, 0.0).astype(x.dtype)
    inverse_std = 1 / np.sqrt(var + x.dtype.type(eps))
    columns = mean, gamma * inverse_std, np.ascontiguousarray(beta)
    split(lambda i, j: _normalise(x[i:j], *columns, y[i:j]), len(x), 0.5 * x.size)
    return y, mean, inverse_std, var


def batch_norm_grad(
    dy: Array, x: Array, mean: Array, inverse_std: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    if not ready(dy, x, gamma):
        return reference.batch_norm_grad(dy, x, mean, inverse_std, gamma)
    dy, x = np.ascontiguousarray(dy), np.ascontiguousarray(x)
    dx, count = np.empty_like(dy), len(dy)

    def sums(start: int, stop: int) -> Array:
        total = np.zeros((2, len(mean)))
        _gradient_sums(dy[start:stop], x[start:stop], mean, *total)
        return total

    dbeta, product = sum(split(sums, count, 0.7 * x.size)).astype(dy.dtype)  # type: ignore[attr-defined]
    dgamma = product * inverse_std
    columns = mean, gamma * inverse_std, dbeta / count, dgamma * inverse_std / count
    split(lambda i, j: _normalise_grad(dy[i:j], x[i:j], *columns, dx[i:j]), count, 0.7 * x.size)
    return dx, dgamma, dbeta
