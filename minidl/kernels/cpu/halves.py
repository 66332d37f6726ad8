"""Products too small to wake a thread for, by two calls of BLAS: for the upper and the lower half of the rows."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...backend import Array
from ..reference import Affine
from . import partner
from .blas import FUNCTIONS, PLAIN, double_gemm, order_of, single_gemm
from .compiling import SINGLE, jit
from .digits import singles
from .elementwise import affine_rows
from .partner import halve

FEWEST_ROWS = 32  # worth halving


@jit
def in_order(a, b, c):
    """Whether BLAS can do with the orders of a matrix product's arrays."""
    return order_of(a)[0] != 0 and order_of(b)[0] != 0 and order_of(c)[0] == PLAIN


@jit
def multiply_rows(gemm, a, b, c, start, stop):
    """Rows of c = a b, by the function at this address."""
    (a_order, a_step), (b_order, b_step), (_, c_step) = order_of(a), order_of(b), order_of(c)
    k, n, size = a.shape[1], b.shape[1], c.itemsize
    left = a.ctypes.data + start * size * (a_step if a_order == PLAIN else 1)
    right, out, rows = b.ctypes.data, c.ctypes.data + start * size * c_step, stop - start
    if size == 4:
        single_gemm(gemm, a_order, b_order, rows, n, k, left, a_step, right, b_step, 0, out, c_step)
    else:
        double_gemm(gemm, a_order, b_order, rows, n, k, left, a_step, right, b_step, 0, out, c_step)


@jit
def _multiply(mail, together, gemm, a, b, c):
    if not in_order(a, b, c):
        return False
    halve(mail, together, multiply_rows, len(c), len(c) // 2, (gemm, a, b, c))
    return True


def multiply(a: Array, b: Array, out: Array) -> bool:
    """Write a (M, K) times b (K, N), of one dtype, to `out`; False if this is not for two."""
    gemm = FUNCTIONS.get(a.dtype)
    if gemm is None or out.dtype != a.dtype or len(a) < FEWEST_ROWS:
        return False
    return partner.share(lambda mail, together: _multiply(mail, together, gemm, a, b, out))


# Layers one after the other: each half of the rows goes through all of them. What is known of each: numbers of a row
# before and after it, whether it is linear, addresses of its matrix, its scale and its shift.


@jit
def _describe(layer, w, scale, shift, linear):
    layer[0], layer[1], layer[2] = w.shape[0], w.shape[1], linear
    layer[3], layer[4], layer[5] = w.ctypes.data, scale.ctypes.data, shift.ctypes.data


@jit
def _rows_through(gemm, x, layers, alphas, rooms, y, start, stop):
    """Rows of y, of those of x; what is between two layers stays in the nearest cache."""
    rows, room, before = stop - start, rooms[min(start, 1)], x[start:].ctypes.data
    for i in range(len(layers)):
        k, n, linear, w, scale, shift = layers[i]
        after = y[start:].ctypes.data if i + 1 == len(layers) else room[i % 2].ctypes.data
        single_gemm(gemm, PLAIN, PLAIN, rows, n, k, before, k, w, n, 0, after, n)
        results = singles(after, (rows, n))
        affine_rows(results, singles(scale, n), singles(shift, n), alphas[i], linear != 0)
        before = after


@jit
def _through(mail, together, gemm, x, layers, alphas, y):
    m, middle = len(x), len(x) // 2
    rooms = np.empty((2, 2, (m - middle) * layers[:, 1].max()), x.dtype)
    halve(mail, together, _rows_through, m, middle, (gemm, x, layers, alphas, rooms, y))
    return True


def through(x: Array, layers: Sequence[Affine]) -> Array:
    """`reference.dense_affine` of float32 by two threads, if the first has `FEWEST_ROWS` or more."""
    table, alphas, kept = np.empty((len(layers), 6), np.int64), np.zeros(len(layers), SINGLE), []
    for i, (w, scale, shift, alpha) in enumerate(layers):
        n = w.shape[1]
        arrays = [
            np.ascontiguousarray(w),
            np.ones(n, SINGLE) if scale is None else np.ascontiguousarray(scale),
            np.zeros(n, SINGLE) if shift is None else np.ascontiguousarray(shift),
        ]
        _describe(table[i], *arrays, alpha is None)
        alphas[i] = alpha or 0
        kept.append(arrays)  # the table has their addresses only
    x, y = np.ascontiguousarray(x), np.empty((len(x), n), SINGLE)
    gemm = FUNCTIONS[SINGLE]
    partner.share(lambda mail, together: _through(mail, together, gemm, x, table, alphas, y))
    return y
