"""Products too small to wake a thread for, by two calls of BLAS: for the upper and the lower half of the rows."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...backend import Array
from . import partner
from .blas import FUNCTIONS, PLAIN, double_gemm, order_of, single_gemm
from .compiling import Job, jit
from .elementwise import affine_rows
from .partner import ARGUMENTS, FUNCTION, MIDDLE, ROWS, halve, mail_at, singles

FEWEST_ROWS = 32  # worth halving
# What the mail says of a product c = a b, and of what is done to its rows then.
GEMM, WIDTH, A_ORDER, B_ORDER, N, K, A, A_STEP, B, B_STEP, C, C_STEP = range(ARGUMENTS, ARGUMENTS + 12)
SCALE, SHIFT, ALPHA, LINEAR = range(ARGUMENTS + 12, ARGUMENTS + 16)
NOTHING = np.empty(0, np.float32), np.empty(0, np.float32), None  # to be done to a product


@jit
def describe(mail, gemm, a, b, c):
    """Write into the mail: c = a b by the function at this address, in halves; False if the orders do not do."""
    (a_order, a_step), (b_order, b_step), (c_order, c_step) = order_of(a), order_of(b), order_of(c)
    if a_order == 0 or b_order == 0 or c_order != PLAIN:
        return False
    mail[ROWS], mail[MIDDLE] = len(c), len(c) // 2
    mail[GEMM], mail[WIDTH], mail[N], mail[K] = gemm, c.itemsize, c.shape[1], a.shape[1]
    mail[A_ORDER], mail[A], mail[A_STEP] = a_order, a.ctypes.data, a_step
    mail[B_ORDER], mail[B], mail[B_STEP] = b_order, b.ctypes.data, b_step
    mail[C], mail[C_STEP] = c.ctypes.data, c_step
    return True


@jit
def multiply_rows(mail, start, stop):
    """Rows of the product that the mail describes."""
    gemm, a_order, b_order, n, k, size = (
        mail[GEMM],
        mail[A_ORDER],
        mail[B_ORDER],
        mail[N],
        mail[K],
        mail[WIDTH],
    )
    a, a_step, b, b_step, c, c_step = mail[A], mail[A_STEP], mail[B], mail[B_STEP], mail[C], mail[C_STEP]
    a += start * size * (a_step if a_order == PLAIN else 1)
    c += start * size * c_step
    if size == 4:
        single_gemm(gemm, a_order, b_order, stop - start, n, k, a, a_step, b, b_step, 0, c, c_step)
    else:
        double_gemm(gemm, a_order, b_order, stop - start, n, k, a, a_step, b, b_step, 0, c, c_step)


@Job
def product(place, start, stop):
    """Rows of a product."""
    multiply_rows(mail_at(place), start, stop)


@Job
def _affine_product(place, start, stop):
    """And `affine_rows`, while they are in the nearest cache."""
    mail = mail_at(place)
    multiply_rows(mail, start, stop)
    n = mail[N]
    rows = singles(mail[C] + 4 * start * n, (stop - start, n))
    alpha = np.float32(mail.view(np.float64)[ALPHA])
    affine_rows(rows, singles(mail[SCALE], n), singles(mail[SHIFT], n), alpha, mail[LINEAR] != 0)


@jit
def _multiply(mail, together, job, gemm, a, b, c, scale, shift, alpha, linear):
    if not describe(mail, gemm, a, b, c):
        return False
    mail[FUNCTION], mail[SCALE], mail[SHIFT], mail[LINEAR] = job, scale.ctypes.data, shift.ctypes.data, linear
    mail.view(np.float64)[ALPHA] = alpha
    halve(mail, together)
    return True


def multiply(a: Array, b: Array, out: Array, affine: tuple[Array, Array, float | None] = NOTHING) -> bool:
    """Write a (M, K) times b (K, N), of one dtype, to `out`; False if this is not for two.

    With `affine`, scale and shift (N,) of float32 and ELU's alpha or None, out = elu(a b * scale + shift) in one piece.
    """
    gemm = FUNCTIONS.get(a.dtype)
    if gemm is None or out.dtype != a.dtype or len(a) < FEWEST_ROWS:
        return False
    scale, shift, alpha = affine
    job = (_affine_product if len(scale) else product).address
    last = scale, shift, alpha or 0.0, alpha is None
    return partner.share(lambda mail, together: _multiply(mail, together, job, gemm, a, b, out, *last))
