"""Batch normalisation: one launch for the statistics, one for the rest, each way."""

from __future__ import annotations

import cupy
import numpy as np

from ...backend import Array
from .. import reference
from .launching import contiguous, launch_column_sums, launch_each, ready


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    averages: tuple[Array, Array] | None = None,
    momentum: float = 0.0,
) -> tuple[Array, Array, Array]:
    if not ready(x, gamma, beta):
        return reference.batch_norm(x, gamma, beta, eps, averages, momentum)
    x, gamma, beta = contiguous(x, gamma, beta)
    if averages is not None and not (ready(x, *averages) and all(a.flags.c_contiguous for a in averages)):
        return reference.batch_norm(x, gamma, beta, eps, averages, momentum)
    y, (mean, inverse_std) = cupy.empty(x.shape, x.dtype), cupy.empty((2, x.shape[1]), x.dtype)
    number, count = x.dtype.type, len(x)
    correction = 1.0 if averages is None else count / (count - 1)
    numbers = np.float64(eps), number(momentum), number(correction)
    running = averages or (None, None)
    launch_column_sums("columns.moments", 2, *x.shape, x, mean, inverse_std, *running, *numbers, T=x.dtype)
    _normalise(x, mean, gamma, inverse_std, beta, y)
    return y, mean, inverse_std


def normalise(x: Array, mean: Array, scale: Array, beta: Array) -> Array:
    if not ready(x, mean, scale, beta):
        return reference.normalise(x, mean, scale, beta)
    x, mean, scale, beta = contiguous(x, mean, scale, beta)
    y = cupy.empty(x.shape, x.dtype)
    _normalise(x, mean, scale, None, beta, y)
    return y


def _normalise(x: Array, mean: Array, scale: Array, inverse_std: Array | None, beta: Array, y: Array) -> None:
    sizes = np.int32(x.size), np.int32(x.shape[1])
    launch_each("columns.normalise", x.size, x, mean, scale, inverse_std, beta, y, *sizes, T=x.dtype)


def batch_norm_grad(
    dy: Array,
    x: Array,
    mean: Array,
    inverse_std: Array,
    gamma: Array,
    into: tuple[Array | None, Array | None] = (None, None),
    overwrite: bool = False,
) -> tuple[Array, Array, Array]:
    if not ready(dy, x, mean, inverse_std, gamma):
        return reference.batch_norm_grad(dy, x, mean, inverse_std, gamma, into, overwrite)
    dy, x, gamma = contiguous(dy, x, gamma)
    dx = cupy.empty(dy.shape, dy.dtype)
    dgamma, dbeta = (cupy.empty(len(mean), dy.dtype) if place is None else place for place in into)
    arrays = dy, x, mean, inverse_std
    launch_column_sums("columns.norm_gradient_sums", 2, *x.shape, *arrays, dgamma, dbeta, T=x.dtype)
    sizes = np.int32(x.shape[0]), np.int32(x.shape[1]), np.int32(x.size)
    launch_each("columns.norm_gradient", x.size, *arrays, gamma, dgamma, dbeta, dx, *sizes, T=x.dtype)
    return dx, dgamma, dbeta
