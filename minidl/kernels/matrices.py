"""Reference kernels of matrices: products, what follows them, and sums over rows. Each thread takes its share of the rows."""

from __future__ import annotations

from ..backend import Array, array_module
from .threads import over_rows

MULTIPLICATION = 0.02  # nanoseconds


def matmul(a: Array, b: Array, into: Array | None = None) -> Array:
    """a @ b, written to `into` if given."""
    xp = array_module(a)
    if a.ndim != 2 or b.ndim != 2:
        return xp.matmul(a, b, out=into)
    y = xp.empty((len(a), b.shape[1]), dtype=xp.result_type(a, b)) if into is None else into
    over_rows(lambda rows: xp.matmul(a[rows], b, out=y[rows]), a, MULTIPLICATION * a.size * b.shape[1])
    return y


def bias_activation(y: Array, b: Array | None, slope: float | None) -> None:
    """What follows a matrix product, in place: y += b, then `leaky_relu` unless slope is None. (M, C), (C,)"""
    if b is not None:
        y += b
    if slope is not None:
        array_module(y).maximum(y, slope * y if slope else 0, out=y)


def sum_rows(x: Array, into: Array | None = None) -> Array:
    """Sum of (M, C) over M, written to `into` if given."""
    return delivered(over_rows(lambda rows: sums_of(x[rows]), x, 0.5 * x.size), into)


def sums_of(x: Array) -> Array:
    """The same in this thread. BLAS is several times faster than ``x.sum(axis=0)``."""
    return array_module(x).ones(len(x), dtype=x.dtype) @ x


def delivered(sums: list[Array], into: Array | None = None) -> Array:
    """The total of the threads' sums, written to `into` if given."""
    total = sum(sums[1:], sums[0])
    if into is None:
        return total
    into[...] = total
    return into
