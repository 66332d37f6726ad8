"""Matrix products and sums over rows."""

from __future__ import annotations

import math

import cupy

from ...backend import Array
from .. import reference
from .blas import multiply, multiply_stacks
from .elementwise import bias_activation
from .launching import contiguous, launch_column_sums, ready

THIN = 4  # rows of a product that are summed up column by column: cuBLAS has no kernel that divides so little work


def matmul(a: Array, b: Array, into: Array | None = None) -> Array:
    if not ready(a, b) or (into is not None and not into.flags.c_contiguous):
        return reference.matmul(a, b, into)
    if a.ndim == 1 or b.ndim == 1:  # a vector on the left is a row, on the right a column
        shape = a.shape[:-1] + (b.shape[:-2] + b.shape[-1:] if b.ndim > 1 else ())
        return matmul(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b).reshape(shape)
    if b.ndim > 2:
        return _stacks(a, b)
    shape = (*a.shape[:-1], b.shape[1])
    y = cupy.empty(shape, a.dtype) if into is None else into
    if a.ndim > 2:  # the leading axes as one
        rows = math.prod(shape[:-1])
        multiply(contiguous(a)[0].reshape(rows, a.shape[-1]), b, y.reshape(rows, shape[-1]))
    elif 0 < len(a) <= THIN and a.shape[1] and all(m.flags.c_contiguous for m in (a, b)):
        sizes, constants = (len(a), *b.shape), (("THIN_ROWS", len(a)),)
        launch_column_sums("thin.thin_product", *sizes, a, b, y, T=a.dtype, constants=constants)
    else:
        multiply(a, b, y)
    return y


def dense(x: Array, w: Array, b: Array | None, slope: float | None) -> Array:
    y = matmul(x, w)
    bias_activation(y, b, slope)
    return y


def _stacks(a: Array, b: Array) -> Array:
    """Stacks of matrices whose leading axes broadcast; one matrix on the left is not copied."""
    leading = cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count, (m, k), n = math.prod(leading), a.shape[-2:], b.shape[-1]
    y = cupy.zeros((*leading, m, n), a.dtype) if not k else cupy.empty((*leading, m, n), a.dtype)
    if y.size and k:
        multiply_stacks(_stack(a, leading, count), _stack(b, leading, count), y.reshape(count, m, n))
    return y


def _stack(x: Array, leading: tuple[int, ...], count: int) -> Array:
    matrix = x.shape[-2:]
    if math.prod(x.shape[:-2]) == 1:
        return cupy.broadcast_to(contiguous(x)[0].reshape(1, *matrix), (count, *matrix))
    return cupy.ascontiguousarray(cupy.broadcast_to(x, (*leading, *matrix))).reshape(count, *matrix)


def sum_rows(x: Array, into: Array | None = None) -> Array:
    if not ready(x) or x.ndim != 2:
        return reference.sum_rows(x, into)
    (x,) = contiguous(x)
    sums = cupy.empty(x.shape[1], x.dtype) if into is None else into
    launch_column_sums("columns.sum_rows", 1, *x.shape, x, sums, T=x.dtype)
    return sums
