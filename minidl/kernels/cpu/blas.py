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
    if along == size and down >= columns * size:
        return PLAIN, down // size
    if down == size and along >= rows * size:
        return TRANSPOSED, along // size
    return 0, 0


@jit
def _add_products(function, a, b, total, add):
    m, n, k = total.shape[1], total.shape[2], a.shape[2]
    for p in range(len(total)):
        (a_order, a_step), (b_order, b_step), c = order_of(a[p]), order_of(b[p]), total[p].ctypes.data
        left, right = a[p].ctypes.data, b[p].ctypes.data
        if total.itemsize == 4:
            single_gemm(function, a_order, b_order, m, n, k, left, a_step, right, b_step, add, c, n)
        else:
            double_gemm(function, a_order, b_order, m, n, k, left, a_step, right, b_step, add, c, n)


@jit
def _in_order(a, b):
    return order_of(a)[0] != 0 and order_of(b)[0] != 0


def add_products(a: Array, b: Array, total: Array, anew: bool = False) -> None:
    """Add a (P, M, K) times b (P, K, N) to total (P, M, N), or write it there, one after the other, in this thread."""
    function = FUNCTIONS.get(total.dtype)
    able = function is not None and total.size and ready(a, b, total) and total.flags.c_contiguous
    if able and _in_order(a[0], b[0]):
        _add_products(function, a, b, total, 0 if anew else 1)
    else:
        for x, y, z in zip(a, b, total, strict=True):
            np.matmul(x, y, out=z) if anew else np.add(z, x @ y, out=z)
