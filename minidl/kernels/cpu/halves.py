"""Products too small to wake a thread for, by two calls of BLAS: for the upper and the lower half of the rows."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...backend import Array
from . import partner
from .blas import FUNCTIONS, PLAIN, double_gemm, order_of, single_gemm
from .compiling import jit
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
def _affine_product(gemm, a, b, c, scale, shift, alpha, linear, start, stop):
    """And `affine_rows`, while they are in the nearest cache."""
    multiply_rows(gemm, a, b, c, start, stop)
    affine_rows(c[start:stop], scale, shift, alpha, linear)


@jit
def _multiply(mail, together, gemm, a, b, c):
    if not in_order(a, b, c):
        return False
    halve(mail, together, multiply_rows, len(c), len(c) // 2, (gemm, a, b, c))
    return True


@jit
def _multiply_affine(mail, together, gemm, a, b, c, scale, shift, alpha, linear):
    if not in_order(a, b, c):
        return False
    arguments = gemm, a, b, c, scale, shift, alpha, linear
    halve(mail, together, _affine_product, len(c), len(c) // 2, arguments)
    return True


def multiply(a: Array, b: Array, out: Array, affine: tuple[Array, Array, float | None] | None = None) -> bool:
    """Write a (M, K) times b (K, N), of one dtype, to `out`; False if this is not for two.

    With `affine`, scale and shift (N,) of float32 and ELU's alpha or None, out = elu(a b * scale + shift) in one piece;
    `out` has no gaps then.
    """
    gemm = FUNCTIONS.get(a.dtype)
    if gemm is None or out.dtype != a.dtype or len(a) < FEWEST_ROWS:
        return False
    if affine is None:
        return partner.share(lambda mail, together: _multiply(mail, together, gemm, a, b, out))
    scale, shift, alpha = affine
    rest = scale, shift, np.float32(alpha or 0), alpha is None
    return partner.share(lambda mail, together: _multiply_affine(mail, together, gemm, a, b, out, *rest))
