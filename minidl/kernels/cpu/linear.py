"""Matrix products on our own threads, each a share of the rows or columns of the result.

BLAS copies both matrices into blocks first. Where one of them is a few columns or rows (the last layer of a
classifier) this takes longer than the product, which is made by the tile of `microkernel` then; if the larger one is
transposed, from whole lines of it, for what is next to each other in a column lies far apart in memory. A few rows
times a transposed matrix (the gradient of a small batch) take several times as long as the same with both turned
around. Products too small to wake a thread for are halved with a `partner`.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...backend import Array
from .. import reference, threads
from ..reference import Affine
from ..threads import split
from . import halves, products
from .blas import FUNCTIONS
from .compiling import SINGLE, WORTH_FOLDING, delivered, folding, jit, ready
from .elementwise import activate_rows, affine_rows, bias_activation
from .microkernel import NARROW, NARROW_ROWS, WIDE, WIDE_ROWS, narrow_tile, wide_tile

ALONE = 2**18  # multiplications up to which BLAS keeps to one thread by itself
FEW, MANY = 16, 2**22  # columns or rows of a thin matrix, and multiplications from which the tile is faster
LOW, SLOW = 32, 2**17  # rows of a low matrix; multiplications from which BLAS is slow with a transposed one
TERMS = 256  # that are summed up in one go, for precision
LINES = 16  # of a transposed matrix that are read side by side: as many as the processor fetches ahead


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


@jit
def _sum_all_rows(x, sums):
    total = np.zeros(x.shape[1])
    _sum_rows(x, total)
    for j in range(sums.size):
        sums[j] = total[j]


def sum_rows(x: Array, into: Array | None = None) -> Array:
    if not ready(x) or x.ndim != 2:
        return reference.sum_rows(x, into)
    if x.size < WORTH_FOLDING:
        total = np.empty(x.shape[1], x.dtype) if into is None else into
        _sum_all_rows(np.ascontiguousarray(x), total)
        return total
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
    if 1 < m <= LOW and m * k * n > SLOW and b.flags.f_contiguous and not b.flags.c_contiguous:
        flipped = matmul(b.T, np.ascontiguousarray(a.T)).T
        if into is None:
            return np.ascontiguousarray(flipped)
        into[...] = flipped
        return into
    if m * k * n <= ALONE:
        return np.matmul(a, b, out=into)
    out = np.empty((m, n), a.dtype) if into is None else into
    nanoseconds = m * k * n / 50
    if nanoseconds < 2 * threads.GRAIN and halves.multiply(a, b, out):
        return out
    if min(k, n) <= FEW and m * k * n >= MANY and ready(a, out) and out.flags.c_contiguous:
        turned = n <= FEW and a.strides[0] == a.itemsize
        _turned_product(a.T, b, out) if turned else _thin_product(a, b, out)
    elif products.unit_pays(m, k, n, out.dtype) and products.by_unit(a, b, out, together=True):
        pass
    elif m >= n:
        split(lambda i, j: np.matmul(a[i:j], b, out=out[i:j]), m, nanoseconds, True)
    else:
        split(lambda i, j: np.matmul(a, b[:, i:j], out=out[:, i:j]), n, nanoseconds, True)
    return out


def dense(x: Array, w: Array, b: Array | None, slope: float | None) -> Array:
    (m, k), n = x.shape, w.shape[1]
    nanoseconds = m * k * n / 50
    large = nanoseconds >= 2 * threads.GRAIN and min(k, n) > FEW and ready(x, w, w if b is None else b)
    if large and products.unit_pays(m, k, n, x.dtype):
        y = np.empty((m, n), x.dtype)
        if products.by_unit(x, w, y, b, slope, together=True):
            return y
    if not large or 2 * m < n:
        y = matmul(x, w)
        bias_activation(y, b, slope)
        return y
    y = np.empty((m, n), x.dtype)

    def share(i: int, j: int) -> None:
        np.matmul(x[i:j], w, out=y[i:j])
        activate_rows(y[i:j], b, slope)

    split(share, m, nanoseconds, products=True)
    return y


def dense_affine(x: Array, layers: Sequence[Affine]) -> Array:
    if x.dtype != SINGLE or not all(_is_ready(x, *layer) for layer in layers):
        return reference.dense_affine(x, layers)
    counts = [len(x) * w.size for w, *_ in layers]  # of multiplications
    small = sum(counts) > ALONE and max(counts) / 50 < 2 * threads.GRAIN
    if small and len(x) >= halves.FEWEST_ROWS and SINGLE in FUNCTIONS:
        return halves.through(x, layers)
    if len(layers) == 1:
        return _affine(x, *layers[0])
    for layer in layers:
        x = dense_affine(x, [layer])
    return x


def _is_ready(x: Array, w: Array, scale: Array | None, shift: Array | None, alpha: float | None) -> bool:
    return w.size > 0 and ready(x, w, w if scale is None else scale, w if shift is None else shift)


def _affine(x: Array, w: Array, scale: Array | None, shift: Array | None, alpha: float | None) -> Array:
    if scale is None and alpha is None:
        return dense(x, w, shift, None)
    (m, k), n = x.shape, w.shape[1]
    y = np.empty((m, n), x.dtype)
    scale = np.ones(n, x.dtype) if scale is None else np.ascontiguousarray(scale)
    shift = np.zeros(n, x.dtype) if shift is None else np.ascontiguousarray(shift)

    def share(i: int, j: int) -> None:
        products.multiply(x[i:j], w, y[i:j])
        affine_rows(y[i:j], scale, shift, np.float32(alpha or 0), alpha is None)

    split(share, m, m * k * n / 50 + m * n, products=True)
    return y


@jit
def _tiles(a, step, places, depth, b, zeros, edge, y):
    """y = a b by tiles of rows and columns; `a` is an address, `places` are its rows', `step` leads along them."""
    m, n = y.shape
    size, one = y.itemsize, y.dtype.type(1)
    narrow, wide = NARROW // size, WIDE // size
    rows = NARROW_ROWS if n <= narrow else WIDE_ROWS
    for p in range(m - 1 - (m - 1) % rows, -1, -rows):  # backwards: the last of `a` may still be in the cache
        target, at = y[p:] if p + rows <= m else edge, places[p:].ctypes.data
        for k in range(0, depth, TERMS):
            seen, terms = a + k * step * size, min(TERMS, depth - k)
            for first in range(0, n, wide):
                width, rhs = min(n - first, wide), b[k, first:].ctypes.data
                c = target[0, first:].ctypes.data
                start, line = (c, n) if k else (zeros.ctypes.data, 0)
                if n <= narrow:
                    narrow_tile(y, seen, at, 0, step, 1, terms, rhs, n, start, line, one, c, n, width)
                else:
                    wide_tile(y, seen, at, 0, step, 1, terms, rhs, n, start, line, one, c, n, width)
    y[m - m % rows :] = edge[: m % rows]


@lru_cache(maxsize=256)
def _rows(count: int, step: int) -> Array:
    """Where the rows of a matrix begin; then zeros, to fill the last tile."""
    return np.concatenate([np.arange(count) * step, np.zeros(NARROW_ROWS, int)])


@jit
def _add_turned(lines, b, places, y):
    """y (N, M) += b^T lines, of b (K, N) and lines (K, M): a few lines at a time, from their first number to their last."""
    (depth, m), n, size, one = lines.shape, b.shape[1], y.itemsize, y.dtype.type(1)
    wide, step, line = WIDE // size, lines.strides[0] // size, y.strides[0] // size
    for k in range(0, depth, LINES):
        terms, left = min(LINES, depth - k), b[k:].ctypes.data
        for first in range(0, m, wide):
            width, right = min(m - first, wide), lines[k, first:].ctypes.data
            for r in range(0, n, WIDE_ROWS):
                at, c = places[r:].ctypes.data, y[r, first:].ctypes.data
                wide_tile(y, left, at, 0, n, 1, terms, right, step, c, line, one, c, line, width)


def _turned_product(lines: Array, b: Array, y: Array) -> None:
    """Write lines (K, M), turned, times b (K, N) to y (M, N), where N is small."""
    n = b.shape[1]
    b, places = np.ascontiguousarray(b), _rows(n, 1)

    def share(i: int, j: int) -> None:
        total = np.zeros((n + WIDE_ROWS, j - i), y.dtype)  # room for the rows that the last tile has more
        _add_turned(lines[:, i:j], b, places, total)
        y[i:j] = total[:n].T

    split(share, len(y), lines.size / 20 + lines.size * n / 100)


def _thin_product(a: Array, b: Array, y: Array) -> None:
    """Write a (M, K) times b (K, N) to y, where K or N is small; `a` may be transposed, or any view."""
    (m, k), n = a.shape, b.shape[1]
    b, zeros = np.ascontiguousarray(b), np.zeros(WIDE // y.itemsize, y.dtype)
    to_row, step = (stride // y.itemsize for stride in a.strides)
    places = _rows(m, to_row)

    def share(i: int, j: int) -> None:
        edge = np.empty((NARROW_ROWS, n), y.dtype)
        _tiles(a.ctypes.data, step, places[i : j + NARROW_ROWS], k, b, zeros, edge, y[i:j])

    split(share, m, (m * n + k * (m + n)) / 20 + m * k * n / 100)
