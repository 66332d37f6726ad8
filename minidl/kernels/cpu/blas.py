"""NumPy's own BLAS, called from compiled code: without the interpreter, and adding to what is there."""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...backend import Array
from .. import threads
from .compiling import DOUBLE, SINGLE, jit, ready

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # CBLAS's words
# Addresses of the products by dtype; none if NumPy has another BLAS than that of its wheels.
FUNCTIONS = dict(
    zip(
        (SINGLE, DOUBLE),
        threads.blas.addresses("scipy_cblas_sgemm64_", "scipy_cblas_dgemm64_"),
        strict=False,
    )
)


def _gemm(dtype: Any) -> Any:
    """c = a b, or c += a b, by the CBLAS function at an address, whose integers have 64 bits."""

    @intrinsic
    def gemm(context, function, a_order, b_order, m, n, k, a, a_step, b, b_step, add, c, c_step):
        def generate(context, builder, signature, arguments):
            number = ir.FloatType() if dtype is types.float32 else ir.DoubleType()
            word, size = ir.IntType(32), ir.IntType(64)
            kinds = [*[word] * 3, *[size] * 3, number, *[size] * 4, number, *[size] * 2]
            function, a_order, b_order, m, n, k, a, a_step, b, b_step, add, c, c_step = arguments
            orders = [word(ROW_MAJOR), builder.trunc(a_order, word), builder.trunc(b_order, word)]
            before = builder.sitofp(add, number)  # the weight of what is in c
            values = [*orders, m, n, k, number(1), a, a_step, b, b_step, before, c, c_step]
            place = builder.inttoptr(function, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
            builder.call(place, values)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 13), generate

    return gemm


single_gemm, double_gemm = _gemm(types.float32), _gemm(types.float64)


@jit
def order_of(x):
    """(CBLAS's word, numbers from line to line) of a matrix that lies in memory by rows or by columns, or (0, 0)."""
    (rows, columns), (down, along), size = x.shape, x.strides, x.itemsize
    if rows == 1:  # then the step from row to row means nothing
        down = columns * size
    if columns == 1:
        along = rows * size
    if (along == size or columns == 1) and down >= columns * size:
        return PLAIN, down // size
    if (down == size or rows == 1) and along >= rows * size:
        return TRANSPOSED, along // size
    return 0, 0


@jit
def _add_product(function, a, b, c, add):
    """c = or += a b; c lies in memory by rows, without gaps."""
    (a_order, a_step), (b_order, b_step) = order_of(a), order_of(b)
    (m, n), k = c.shape, a.shape[1]
    left, right, out = a.ctypes.data, b.ctypes.data, c.ctypes.data
    if k == 0:
        if not add:
            c[:] = 0
    elif c.itemsize == 4:
        single_gemm(function, a_order, b_order, m, n, k, left, a_step, right, b_step, add, out, n)
    else:
        double_gemm(function, a_order, b_order, m, n, k, left, a_step, right, b_step, add, out, n)


@jit
def _in_order(a, b):
    return order_of(a)[0] != 0 and order_of(b)[0] != 0


def add_product(a: Array, b: Array, total: Array, anew: bool = False) -> None:
    """Add a (M, K) times b (K, N) to total (M, N), or write it there, in this thread."""
    function = FUNCTIONS.get(total.dtype)
    able = function is not None and total.size and ready(a, b, total) and total.flags.c_contiguous
    if able and _in_order(a, b):
        _add_product(function, a, b, total, 0 if anew else 1)
    else:
        np.matmul(a, b, out=total) if anew else np.add(total, a @ b, out=total)


# Many products of one size: `spans` (P, 3) says of each where its factor is, and which rows of it count.


@jit
def _multiply_spans(function, a, b, c, spans):
    for i in range(len(spans)):
        p, start, stop = spans[i]
        _add_product(function, a[p, start:stop], b[i], c[p, start:stop], 0)


@jit
def _add_spans(function, a, b, total, spans, add):
    for i in range(len(spans)):
        p, start, stop = spans[i]
        _add_product(function, a[p, start:stop].T, b[p, start:stop], total[i], add)


def multiply_spans(a: Array, b: Array, c: Array, spans: Array) -> None:
    """Write rows of a (., M, K) times b (P, K, N) to the same rows of c (., M, N), one after the other, in this thread."""
    function = FUNCTIONS.get(c.dtype)
    if function is not None:
        _multiply_spans(function, a, b, c, spans)
        return
    for factor, (p, start, stop) in zip(b, spans, strict=True):
        np.matmul(a[p, start:stop], factor, out=c[p, start:stop])


def add_spans(a: Array, b: Array, total: Array, spans: Array, anew: bool) -> None:
    """Add rows of a (., M, K), turned, times those of b (., M, N) to total (P, K, N), or write it there; in this thread."""
    function = FUNCTIONS.get(total.dtype)
    if function is not None:
        _add_spans(function, a, b, total, spans, 0 if anew else 1)
        return
    for sums, (p, start, stop) in zip(total, spans, strict=True):
        product = a[p, start:stop].T @ b[p, start:stop]
        sums[...] = product if anew else sums + product
