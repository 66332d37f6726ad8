"""Convolution with 3x3 filters by Winograd's minimal filtering, compiled (Lavin and Gray, CVPR 2016).

The image is cut into tiles of m x m outputs, each seeing n x n = (m + 2) x (m + 2) pixels. With fixed matrices
A, B and G, a tile is A^T [sum over channels of (G w G^T) * (B^T d B)] A: n^2 products of (tiles, C) by (C, F)
instead of 9 m^2. `plain` says it in NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...backend import Array
from ...shapes import Pads
from ..threads import split
from . import winograd_loops as loops
from .compiling import scratch

BLOCK_TILES = 128  # tiles transformed at once


class Tile(NamedTuple):
    """Matrices for m x m outputs, and the compiled transforms."""

    a: Array  # (n, m)
    b: Array  # (n, n)
    g: Array  # (n, 3)
    from_image: Any
    to_image: Any


def cook_toom(points: tuple[float, ...]) -> tuple[Array, Array, Array]:
    """A, B and G for filters of 3 that evaluate polynomials at `points` and at infinity."""
    n, finite = len(points) + 1, np.array(points)
    m = n - 2
    a, b, g = np.zeros((n, m)), np.zeros((n, n)), np.zeros((n, 3))
    for j, point in enumerate(points):
        others = np.delete(finite, j)
        a[j], g[j] = point ** np.arange(m), point ** np.arange(3) / np.prod(point - others)
        b[: n - 1, j] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[:, -1] = np.poly(finite)[::-1]
    return a, b, g


TILES = {
    4: Tile(*cook_toom((0, 1, -1, 2, -2)), loops.image_to_tiles_4, loops.tiles_to_image_4),
    2: Tile(*cook_toom((0, 1, -1)), loops.image_to_tiles_2, loops.tiles_to_image_2),
}


def transform(w: Array, m: int) -> Array:
    """G w G^T of filters (3, 3, C, F), by position: (n^2, C, F)."""
    g = TILES[m].g
    u, both = np.empty((len(g) ** 2, w.shape[2] * w.shape[3]), w.dtype), np.kron(g, g).astype(w.dtype)
    flat = w.reshape(9, -1)
    split(lambda i, j: np.matmul(both, flat[:, i:j], out=u[:, i:j]), u.shape[1], 0.25 * u.size)
    return u.reshape(-1, *w.shape[2:])


def conv2d(
    x: Array, u: Array, b: Array | None, slope: float | None, pads: Pads, y: Array, m: int
) -> None:
    """Write the convolution of x (N, H, W, C) with transformed filters u (n^2, C, F) to y (N, OH, OW, F)."""
    (n, h, w, c), (_, oh, ow, f), kinds = x.shape, y.shape, TILES[m]
    ty, tx = -(-oh // m), -(-ow // m)
    lines, bias = x.reshape(n * h, w * c), np.zeros(f, y.dtype) if b is None else np.ascontiguousarray(b)

    def share(start: int, stop: int) -> None:
        v, product = _positions("tiles", len(u), x.dtype), _positions("products", len(u), x.dtype)
        step = _bands(tx, max(c, f))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            tiles = (last - first) * tx
            kinds.from_image(lines, v, n, h, pads[0][0], pads[1][0], ty, tx, c, first, last)
            np.matmul(_matrices(v, len(u), tiles, c), u, out=_matrices(product, len(u), tiles, f))
            kinds.to_image(product, y, ty, tx, bias, y.dtype.type(slope or 0), slope is None, first, last)

    split(share, n * ty, 0.01 * len(u) * n * ty * tx * c * f)


def grad_weight(dy: Array, x: Array, pads: Pads, dw: Array) -> Array:
    """Gradient of the filters, written to dw (3, 3, C, F); tiles of 4."""
    (n, h, w, c), (_, oh, ow, f), g = x.shape, dy.shape, TILES[4].g
    ty, tx = -(-oh // 4), -(-ow // 4)
    lines, lines_of_dy = x.reshape(n * h, w * c), dy.reshape(n * oh, ow * f)

    def share(start: int, stop: int) -> Array:
        v, z = _positions("tiles", 36, x.dtype), _positions("products", 36, x.dtype)
        step, total = _bands(tx, max(c, f)), np.zeros((36, c, f), x.dtype)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            tiles = (last - first) * tx
            loops.image_to_tiles_4(lines, v, n, h, pads[0][0], pads[1][0], ty, tx, c, first, last)
            loops.gradient_to_tiles_4(lines_of_dy, z, oh, ty, tx, f, first, last)
            seen = _matrices(v, 36, tiles, c).transpose(0, 2, 1)
            if first == start:
                np.matmul(seen, _matrices(z, 36, tiles, f), out=total)
            else:
                total += seen @ _matrices(z, 36, tiles, f)
        return total

    shares: Any = split(share, n * ty, 0.36 * n * ty * tx * c * f)
    total = shares[0]
    for other in shares[1:]:
        total += other
    flat, back, out = total.reshape(36, -1), np.kron(g, g).T.astype(x.dtype), dw.reshape(9, -1)
    split(lambda i, j: np.matmul(back, flat[:, i:j], out=out[:, i:j]), out.shape[1], 0.25 * total.size)
    return dw


def plain(x: Array, w: Array, pads: Pads, m: int) -> Array:
    """The same in plain NumPy, of (N, H, W, C) and (3, 3, C, F): the explanation, and what tests compare with."""
    a, b, g, *_ = TILES[m]
    oh, ow = (size + sum(pad) - 2 for size, pad in zip(x.shape[1:3], pads, strict=True))
    ty, tx = -(-oh // m), -(-ow // m)
    (top, bottom), (left, right) = pads
    more = (top, bottom + ty * m - oh), (left, right + tx * m - ow)  # whole tiles
    padded = np.pad(x, ((0, 0), *more, (0, 0)))
    d = np.lib.stride_tricks.sliding_window_view(padded, (m + 2, m + 2), axis=(1, 2))[:, ::m, ::m]
    u = np.einsum("ik,klcf,jl->ijcf", g, w, g)  # (n, n, C, F)
    v = np.einsum("ki,ztxckl,lj->ijztxc", b, d, b)  # (n, n, N, tiles down, tiles across, C)
    y = np.einsum("ip,ijztxf,jq->ztpxqf", a, np.einsum("ijztxc,ijcf->ijztxf", v, u), a)
    return y.reshape(len(x), ty * m, tx * m, -1)[:, :oh, :ow]


def _bands(tx: int, channels: int) -> int:
    """How many rows of tiles are transformed at once."""
    return max(min(BLOCK_TILES, loops.SPACING // channels) // tx, 1)


def _positions(name: str, count: int, dtype: Any) -> Array:
    return scratch(name, count * loops.SPACING, dtype)


def _matrices(flat: Array, count: int, tiles: int, channels: int) -> Array:
    """(positions, tiles, channels) in the memory that the transforms write."""
    rows = flat.reshape(count, loops.SPACING)[:, : tiles * channels]
    return rows.reshape(count, tiles, channels)
