"""Matrix products on our own threads, each a share of the rows or columns of the result."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ...backend import Array
from .. import reference
from ..threads import split
from .compiling import delivered, folding, jit, ready

ALONE = 2**18  # multiplications up to which BLAS keeps to one thread by itself


@jit
def _sum_rows(x, sums):
    m, c = x.shape
    part = np.empty(c, x.dtype)
    for start in range(0, m, 128):  # 128 rows in x's precision, the parts in double
        part[:] = 0
        for i in range(start, min(start + 128, m)):
            row = x[i]
            for j in range(c):
                part[j] += row[j]
        for j in range(c):
            sums[j] += part[j]


def sum_rows(x: Array, into: Array | None = None) -> Array:
    if not ready(x) or x.ndim != 2:
        return reference.sum_rows(x, into)
    k = folding(*x.shape)
    wide = np.ascontiguousarray(x).reshape(-1, k * x.shape[1])

    def share(start: int, stop: int) -> Array:
        sums = np.zeros(wide.shape[1])
        _sum_rows(wide[start:stop], sums)
        return sums

    return delivered(split(share, len(wide), 0.3 * x.size), k, x.dtype, into)


def matmul(a: Array, b: Array, into: Array | None = None) -> Array:
    if a.ndim != 2 or b.ndim != 2 or a.dtype != b.dtype:
        return reference.matmul(a, b, into)
    (m, k), n = a.shape, b.shape[1]
    if m * k * n <= ALONE:
        return np.matmul(a, b, out=into)
    out = np.empty((m, n), a.dtype) if into is None else into
    nanoseconds = m * k * n / 50
    if m >= n:
        split(lambda i, j: np.matmul(a[i:j], b, out=out[i:j]), m, nanoseconds, True)
    else:
        split(lambda i, j: np.matmul(a, b[:, i:j], out=out[:, i:j]), n, nanoseconds, True)
    return out
