"""Numba twins of the kernels that benchmarks show to matter; every other name is the reference's.

Kernels are serial and release the interpreter lock: on few cores a large pass over memory gains nothing
from threads, and threads of our own would fight with those of BLAS (docs/adr/0005). They compile at the
first call and are kept on disk. Columns of a convolution are made block by block, so that a block is still
in the cache when the matrix product reads it, and are never kept.
"""

# mypy: disable-error-code="no-redef"

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from ..backend import Array
from ..shapes import Pads, Pair
from . import loops, reference
from .reference import *  # noqa: F403 - whatever has no twin below

_memory = threading.local()
BLOCK_BYTES = 1 << 23  # of columns: large enough for two threads of BLAS, small enough for the cache

_jit: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
_fill_columns = _jit(loops.fill_columns)
_add_columns = _jit(loops.add_columns)
_max_windows = _jit(loops.max_windows)
_give_to_winners = _jit(loops.give_to_winners)
_moments = _jit(loops.moments)
_normalise = _jit(loops.normalise)
_gradient_sums = _jit(loops.gradient_sums)
_normalise_grad = _jit(loops.normalise_grad)


def _ready(*arrays: Array) -> bool:
    """Whether the twins handle these dtypes: all float32 or all float64."""
    return all(a.dtype == arrays[0].dtype for a in arrays) and arrays[0].dtype in (np.float32, np.float64)


# Convolution ----------------------------------------------------------------------------------------


def conv2d(
    x: Array, w: Array, b: Array | None, out: Pair, strides: Pair, pads: Pads, dilation: Pair
) -> Array:
    if not _ready(x, w):
        return reference.conv2d(x, w, b, out, strides, pads, dilation)
    x, flat = np.ascontiguousarray(x), w.reshape(-1, w.shape[3])
    y = np.empty((len(x) * out[0] * out[1], w.shape[3]), x.dtype)
    for images, rows, cols in _blocks(x, out, w.shape[:2]):
        _columns(_fill_columns, x[images], cols, out, w.shape[:2], strides, pads, dilation)
        np.matmul(cols, flat, out=y[rows])
        if b is not None:
            y[rows] += b
    return y.reshape(len(x), *out, w.shape[3])


def conv2d_grad_input(
    dy: Array, w: Array, shape: tuple[int, ...], strides: Pair, pads: Pads, dilation: Pair
) -> Array:
    if not _ready(dy, w):
        return reference.conv2d_grad_input(dy, w, shape, strides, pads, dilation)
    out, dx = dy.shape[1:3], np.zeros(shape, dy.dtype)
    rows_of_dy, flat = dy.reshape(-1, w.shape[3]), w.reshape(-1, w.shape[3]).T
    for images, rows, cols in _blocks(dx, out, w.shape[:2]):
        np.matmul(rows_of_dy[rows], flat, out=cols)
        _columns(_add_columns, dx[images], cols, out, w.shape[:2], strides, pads, dilation)
    return dx


def conv2d_grad_weight(
    dy: Array, x: Array, shape: tuple[int, int, int, int], strides: Pair, pads: Pads, dilation: Pair
) -> Array:
    if not _ready(dy, x):
        return reference.conv2d_grad_weight(dy, x, shape, strides, pads, dilation)
    x, rows_of_dy = np.ascontiguousarray(x), dy.reshape(-1, shape[3])
    dw = np.zeros((shape[0] * shape[1] * shape[2], shape[3]), x.dtype)
    for images, rows, cols in _blocks(x, dy.shape[1:3], shape[:2]):
        _columns(_fill_columns, x[images], cols, dy.shape[1:3], shape[:2], strides, pads, dilation)
        dw += cols.T @ rows_of_dy[rows]
    return dw.reshape(shape)


def _blocks(x: Array, out: Pair, kernel: Pair) -> Iterator[tuple[slice, slice, Array]]:
    """(images, rows of the output, buffer of columns) for as many images at a time as fill a block."""
    pixels, width = out[0] * out[1], kernel[0] * kernel[1] * x.shape[3]
    count = max(BLOCK_BYTES // max(pixels * width * x.itemsize, 1), 1)
    buffer = _scratch(min(count, len(x)) * pixels * width, x.dtype).reshape(-1, width)
    for start in range(0, len(x), count):
        stop = min(start + count, len(x))
        yield slice(start, stop), slice(start * pixels, stop * pixels), buffer[: (stop - start) * pixels]


def _scratch(size: int, dtype: Any) -> Array:
    """Uninitialised memory for `size` numbers, the same at each call in a thread: its pages stay mapped."""
    buffer = getattr(_memory, "buffer", None)
    if buffer is None or buffer.nbytes < size * dtype.itemsize:
        buffer = _memory.buffer = np.empty(size * dtype.itemsize, np.uint8)
    return buffer[: size * dtype.itemsize].view(dtype)


def _columns(
    loop: Any, x: Array, cols: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair
) -> None:
    """Run one of the two loops below between images and their columns."""
    n, h, w, c = x.shape
    geometry = *out, *kernel, *strides, pads[0][0], pads[1][0], *dilation
    loop(x.reshape(n * h, w * c), cols, h, w, c, *geometry)


# Pooling --------------------------------------------------------------------------------------------


def max_pool(x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads) -> tuple[Array, Array]:
    if not _ready(x) or kernel[0] * kernel[1] > 256:
        return reference.max_pool(x, out, kernel, strides, pads)
    y = np.empty((len(x), *out, x.shape[3]), x.dtype)
    where = np.empty(y.shape, np.uint8)
    _max_windows(np.ascontiguousarray(x), y, where, *kernel, *strides, pads[0][0], pads[1][0])
    return y, where


def max_pool_grad(
    dy: Array, where: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads
) -> Array:
    if not _ready(dy) or where.dtype != np.uint8:
        return reference.max_pool_grad(dy, where, shape, kernel, strides, pads)
    dx = np.zeros(shape, dy.dtype)
    _give_to_winners(np.ascontiguousarray(dy), where, dx, *kernel, *strides, pads[0][0], pads[1][0])
    return dx


# Batch normalisation --------------------------------------------------------------------------------


def batch_norm(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    if not _ready(x, gamma, beta):
        return reference.batch_norm(x, gamma, beta, eps)
    x = np.ascontiguousarray(x)
    mean, var = (a.astype(x.dtype) for a in _moments(x))
    inverse_std = 1 / np.sqrt(var + x.dtype.type(eps))
    y, normalised = np.empty_like(x), np.empty_like(x)
    _normalise(x, mean, inverse_std, gamma, beta, y, normalised)
    return y, normalised, inverse_std, mean, var


def batch_norm_grad(
    dy: Array, normalised: Array, gamma: Array, inverse_std: Array
) -> tuple[Array, Array, Array]:
    if not _ready(dy, normalised, gamma):
        return reference.batch_norm_grad(dy, normalised, gamma, inverse_std)
    dy = np.ascontiguousarray(dy)
    dbeta, dgamma = (a.astype(dy.dtype) for a in _gradient_sums(dy, normalised))
    dx = np.empty_like(dy)
    _normalise_grad(dy, normalised, gamma * inverse_std, dbeta / len(dy), dgamma / len(dy), dx)
    return dx, dgamma, dbeta
