"""Convolution by Winograd's minimal filtering, compiled (Lavin and Gray, CVPR 2016).

The image is cut into tiles of m x m outputs, each seeing n x n pixels, n = m + r - 1, through filters of r x r.
With fixed matrices A, B and G, a tile is A^T [sum over channels of (G w G^T) * (B^T d B)] A: n^2 products of
(tiles, C) by (C, F) instead of r^2 m^2. `plain` says it in NumPy. Both gradients are its transposes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...backend import Array
from ...shapes import Pads
from ..threads import split
from . import winograd_3x3, winograd_5x5
from .blas import add_products
from .compiling import scratch
from .winograd_bands import SPACING

BLOCK_TILES, BLOCK_NUMBERS = 96, 8192  # tiles transformed at once, or more of fewer channels: so many numbers
CHANNELS_AT_ONCE = 32  # channels whose filters are transformed at once
MANY_SUMS = 2**20  # numbers from which threads add up one filter gradient together, not one each


class Tile(NamedTuple):
    """Matrices for m x m outputs, and the compiled transforms; those for gradients if they are worth it."""

    m: int
    a: Array  # (n, m)
    b: Array  # (n, n)
    g: Array  # (n, r)
    from_image: Any
    to_image: Any
    from_gradient: Any = None
    to_gradient: Any = None


def cook_toom(points: tuple[float, ...], r: int) -> tuple[int, Array, Array, Array]:
    """m, A, B and G for filters of r that evaluate polynomials at `points` and at infinity."""
    n, finite = len(points) + 1, np.array(points)
    m = n - r + 1
    a, b, g = np.zeros((n, m)), np.zeros((n, n)), np.zeros((n, r))
    for j, point in enumerate(points):
        others = np.delete(finite, j)
        a[j], g[j] = point ** np.arange(m), point ** np.arange(r) / np.prod(point - others)
        b[: n - 1, j] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[:, -1] = np.poly(finite)[::-1]
    return m, a, b, g


_three, _five = winograd_3x3, winograd_5x5
TILES = {
    "winograd4": Tile(
        *cook_toom((0, 1, -1, 2, -2), 3),
        _three.image_to_tiles_4,
        _three.tiles_to_image_4,
        _three.gradient_to_tiles_4,
    ),
    "winograd2": Tile(*cook_toom((0, 1, -1), 3), _three.image_to_tiles_2, _three.tiles_to_image_2),
    "winograd3": Tile(
        *cook_toom((0, 1, -1, 2, -2, 0.5), 5),
        _five.image_to_tiles,
        _five.tiles_to_image,
        _five.gradient_to_tiles,
        _five.tiles_to_gradient,
    ),
}


def transform(w: Array, tile: Tile, turned: bool = False, swapped: bool = False) -> Array:
    """G w G^T of filters (r, r, C, F), by position: (n^2, C, F).

    Of the filters turned around, or with C and F swapped, if that is wanted: BLAS is slower with a transposed factor.
    """
    both = np.kron(tile.g, tile.g).astype(w.dtype)[:, :: -1 if turned else 1]
    filters = w.reshape(-1, *w.shape[2:]).swapaxes(1, 2 if swapped else 1)  # (r^2, C, F) or (r^2, F, C)
    (_, k, n), u = filters.shape, np.empty((len(both), w.shape[2] * w.shape[3]), w.dtype)

    def share(start: int, stop: int) -> None:
        for i in range(start, stop, CHANNELS_AT_ONCE):  # a small copy if they are swapped
            j = min(i + CHANNELS_AT_ONCE, stop)
            np.matmul(both, filters[:, i:j].reshape(len(filters), -1), out=u[:, i * n : j * n])

    split(share, k, 0.25 * u.size, products=True)
    return u.reshape(-1, k, n)


def conv2d(
    x: Array, u: Array, b: Array | None, slope: float | None, pads: Pads, y: Array, tile: Tile
) -> None:
    """Write the convolution of x (N, H, W, C) with transformed filters u (n^2, C, F) to y (N, OH, OW, F)."""
    (n, h, w, c), (_, oh, ow, f) = x.shape, y.shape
    ty, tx = -(-oh // tile.m), -(-ow // tile.m)
    lines, bias = x.reshape(n * h, w * c), np.zeros(f, y.dtype) if b is None else np.ascontiguousarray(b)

    def share(start: int, stop: int) -> None:
        v, product = (_positions(name, len(u), x.dtype) for name in ("tiles", "products"))
        for first, last, tiles in _blocks(start, stop, tx, max(c, f)):
            tile.from_image(lines, v, n, h, pads[0][0], pads[1][0], ty, tx, c, first, last)
            np.matmul(_matrices(v, len(u), tiles, c), u, out=_matrices(product, len(u), tiles, f))
            tile.to_image(product, y, ty, tx, bias, y.dtype.type(slope or 0), slope is None, first, last)

    split(share, n * ty, 0.01 * len(u) * n * ty * tx * c * f, products=True)


def grad_input(dy: Array, w: Array, pads: Pads, dx: Array, tile: Tile) -> None:
    """Write the gradient of the image to dx (N, H, W, C), for filters w (r, r, C, F)."""
    r = len(w)
    if tile.to_gradient is None:  # a convolution with the filters turned around
        turned = transform(w, tile, turned=True, swapped=True)
        conv2d(dy, turned, None, None, tuple((r - 1 - a, r - 1 - b) for a, b in pads), dx, tile)  # type: ignore
        return
    (n, h, width, c), (_, oh, ow, f), u = dx.shape, dy.shape, transform(w, tile, swapped=True)
    ty, tx = -(-oh // tile.m), -(-ow // tile.m)
    lines, lines_of_dy = dx.reshape(n * h, width * c), dy.reshape(n * oh, ow * f)

    def share(start: int, stop: int) -> None:
        dx[start:stop] = 0
        z, product = (_positions(name, len(u), dy.dtype) for name in ("tiles", "products"))
        for first, last, tiles in _blocks(start * ty, stop * ty, tx, max(c, f)):
            tile.from_gradient(lines_of_dy, z, oh, ty, tx, f, first, last)
            np.matmul(_matrices(z, len(u), tiles, f), u, out=_matrices(product, len(u), tiles, c))
            tile.to_gradient(product, lines, h, pads[0][0], pads[1][0], ty, tx, c, first, last)

    split(share, n, 0.01 * len(u) * n * ty * tx * c * f, products=True)


def grad_weight(dy: Array, x: Array, pads: Pads, dw: Array, tile: Tile) -> None:
    """Write the gradient of the filters to dw (r, r, C, F)."""
    (n, h, w, c), (_, oh, ow, f), count = x.shape, dy.shape, len(tile.g) ** 2
    ty, tx = -(-oh // tile.m), -(-ow // tile.m)
    lines, lines_of_dy = x.reshape(n * h, w * c), dy.reshape(n * oh, ow * f)

    def transform(v: Array, z: Array, first: int, last: int) -> None:
        tile.from_image(lines, v, n, h, pads[0][0], pads[1][0], ty, tx, c, first, last)
        tile.from_gradient(lines_of_dy, z, oh, ty, tx, f, first, last)

    def alone(start: int, stop: int) -> Array:
        v, z = (_positions(name, count, x.dtype) for name in ("tiles", "products"))
        total = (np.empty if start < stop else np.zeros)((count, c, f), x.dtype)
        for first, last, tiles in _blocks(start, stop, tx, max(c, f)):
            transform(v, z, first, last)
            seen, graded = _matrices(v, count, tiles, c).transpose(0, 2, 1), _matrices(z, count, tiles, f)
            add_products(seen, graded, total, anew=first == start)
        return total

    def together() -> Array:
        v, z = (_positions(name, count, x.dtype) for name in ("tiles", "products"))
        total = (np.empty if n * ty else np.zeros)((count, c, f), x.dtype)
        for first, last, tiles in _blocks(0, n * ty, tx, max(c, f)):
            seen, graded = _matrices(v, count, tiles, c).transpose(0, 2, 1), _matrices(z, count, tiles, f)

            def some_tiles(i: int, j: int, first: int = first) -> None:
                transform(v[i * tx * c :], z[i * tx * f :], first + i, first + j)

            def some_positions(
                i: int, j: int, seen: Array = seen, graded: Array = graded, anew: bool = first == 0
            ) -> None:
                add_products(seen[i:j], graded[i:j], total[i:j], anew)

            split(some_tiles, last - first, 0.5 * count * tiles * (c + f))
            split(some_positions, count, 0.01 * count * tiles * c * f, products=True)
        return total

    if count * c * f < MANY_SUMS:
        total: Any = sum(split(alone, n * ty, 0.01 * count * n * ty * tx * c * f, products=True))
    else:
        total = together()
    flat, back, out = (
        total.reshape(count, -1),
        np.kron(tile.g, tile.g).T.astype(x.dtype),
        dw.reshape(-1, c * f),
    )
    split(lambda i, j: np.matmul(back, flat[:, i:j], out=out[:, i:j]), c * f, 0.25 * total.size, True)


def plain(x: Array, w: Array, pads: Pads, tile: Tile) -> Array:
    """The same in plain NumPy, of (N, H, W, C) and (r, r, C, F): the explanation, and what tests compare with."""
    m, a, b, g, r = *tile[:4], len(w)
    oh, ow = (size + sum(pad) - r + 1 for size, pad in zip(x.shape[1:3], pads, strict=True))
    ty, tx = -(-oh // m), -(-ow // m)
    (top, bottom), (left, right) = pads
    whole_tiles = (top, bottom + ty * m - oh), (left, right + tx * m - ow)
    padded = np.pad(x, ((0, 0), *whole_tiles, (0, 0)))
    d = np.lib.stride_tricks.sliding_window_view(padded, (len(a), len(a)), axis=(1, 2))[:, ::m, ::m]
    u = np.einsum("ik,klcf,jl->ijcf", g, w, g)  # (n, n, C, F)
    v = np.einsum("ki,ztxckl,lj->ijztxc", b, d, b)  # (n, n, N, tiles down, tiles across, C)
    y = np.einsum("ip,ijztxf,jq->ztpxqf", a, np.einsum("ijztxc,ijcf->ijztxf", v, u), a)
    return y.reshape(len(x), ty * m, tx * m, -1)[:, :oh, :ow]


def _blocks(start: int, stop: int, tx: int, channels: int) -> Any:
    """(first band, last band, tiles) that are transformed at once."""
    tiles = min(max(BLOCK_TILES, BLOCK_NUMBERS // channels), SPACING // channels)
    step = max(tiles // tx, 1)
    for first in range(start, stop, step):
        last = min(first + step, stop)
        yield first, last, (last - first) * tx


def _positions(name: str, count: int, dtype: Any) -> Array:
    return scratch(name, count * SPACING, dtype)


def _matrices(flat: Array, count: int, tiles: int, channels: int) -> Array:
    """(positions, tiles, channels) in the memory that the transforms write."""
    rows = flat.reshape(count, SPACING)[:, : tiles * channels]
    return rows.reshape(count, tiles, channels)
