"""Convolution by Winograd's minimal filtering, compiled (Lavin and Gray, CVPR 2016).

The image is cut into tiles of m x m outputs, each seeing n x n pixels, n = m + r - 1, through filters of r x r.
With fixed matrices A, B and G, a tile is A^T [sum over channels of (G w G^T) * (B^T d B)] A: n^2 products of
(tiles, C) by (C, F) instead of r^2 m^2. `plain` says it in NumPy. Both gradients are its transposes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...backend import Array
from ...shapes import Pads
from ..threads import split
from . import winograd_3x3, winograd_5x5
from .blas import add_spans, multiply_spans
from .winograd_grid import Grid, grid_of, matrices, positions

CHANNELS_AT_ONCE = 32  # channels whose filters are transformed at once
MANY_SUMS = 2**20  # numbers from which threads add up one filter gradient together, not one each


class Tile(NamedTuple):
    """Matrices for m x m outputs, and the compiled transforms; those for gradients if they are worth it."""

    m: int
    a: Array  # (n, m)
    b: Array  # (n, n)
    g: Array  # (n, r)
    ragged: bool  # whether tiles at the edge may have fewer outputs, and fewer positions
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
        True,
        _three.image_to_tiles,
        _three.tiles_to_image,
        _three.gradient_to_tiles,
    ),
    "winograd3": Tile(
        *cook_toom((0, 1, -1, 2, -2, 0.5), 5),
        False,
        _five.image_to_tiles,
        _five.tiles_to_image,
        _five.gradient_to_tiles,
        _five.tiles_to_gradient,
    ),
}


def _grid(tile: Tile, image: Array) -> Grid:
    _, oh, ow, _ = image.shape
    return grid_of(tile.m, len(tile.a), tile.ragged, (oh, ow))


def transform(w: Array, tile: Tile, grid: Grid, turned: bool = False, swapped: bool = False) -> Array:
    """G w G^T of filters (r, r, C, F), for the grid's positions: (P, C, F).

    Of the filters turned around, or with C and F swapped, if that is wanted: BLAS is slower with a transposed factor.
    """
    both = np.kron(tile.g, tile.g).astype(w.dtype)[grid.positions, :: -1 if turned else 1]
    filters = w.reshape(-1, *w.shape[2:]).swapaxes(1, 2 if swapped else 1)  # (r^2, C, F) or (r^2, F, C)
    (_, k, n), u = filters.shape, np.empty((len(both), w.shape[2] * w.shape[3]), w.dtype)

    def share(start: int, stop: int) -> None:
        for i in range(start, stop, CHANNELS_AT_ONCE):  # a small copy if they are swapped
            j = min(i + CHANNELS_AT_ONCE, stop)
            np.matmul(both, filters[:, i:j].reshape(len(filters), -1), out=u[:, i * n : j * n])

    split(share, k, 0.25 * u.size, products=True)
    return u.reshape(-1, k, n)


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    slope: float | None,
    pads: Pads,
    y: Array,
    tile: Tile,
    turned: bool = False,
) -> None:
    """Write the convolution of x (N, H, W, C) with filters w (r, r, C, F) to y (N, OH, OW, F).

    If they are `turned`, with filters (r, r, F, C), turned around.
    """
    (n, h, width, c), f, grid, count = x.shape, y.shape[3], _grid(tile, y), len(tile.a) ** 2
    u, lines = transform(w, tile, grid, turned, swapped=turned), x.reshape(n * h, width * c)
    bias, linear = np.zeros(f, y.dtype) if b is None else np.ascontiguousarray(b), slope is None
    (top, _), (left, _) = pads

    def share(start: int, stop: int) -> None:
        v, product = (positions(name, count, x.dtype) for name in ("tiles", "products"))
        for block in grid.blocks(start, stop, max(c, f)):
            tile.from_image(lines, v, h, top, left, c, grid.numbers, block.part())
            seen, made = (matrices(a, count, block.tiles, k) for a, k in ((v, c), (product, f)))
            multiply_spans(seen, u, made, block.spans)
            tile.to_image(product, y, bias, y.dtype.type(slope or 0), linear, grid.numbers, block.part())

    split(share, n * grid.bands, 0.01 * n * grid.bands * grid.across * u.size, products=True)


def grad_input(dy: Array, w: Array, pads: Pads, dx: Array, tile: Tile) -> None:
    """Write the gradient of the image to dx (N, H, W, C), for filters w (r, r, C, F)."""
    r = len(w)
    if tile.to_gradient is None:  # a convolution with the filters turned around
        around: Any = tuple((r - 1 - a, r - 1 - b) for a, b in pads)
        conv2d(dy, w, None, None, around, dx, tile, turned=True)
        return
    (n, h, width, c), (_, oh, ow, f), grid, count = dx.shape, dy.shape, _grid(tile, dy), len(tile.a) ** 2
    u, ((top, _), (left, _)) = transform(w, tile, grid, swapped=True), pads
    lines, lines_of_dy = dx.reshape(n * h, width * c), dy.reshape(n * oh, ow * f)

    def share(start: int, stop: int) -> None:
        dx[start:stop] = 0
        z, product = (positions(name, count, dy.dtype) for name in ("tiles", "products"))
        for block in grid.blocks(start * grid.bands, stop * grid.bands, max(c, f)):
            tile.from_gradient(lines_of_dy, z, oh, f, grid.numbers, block.part())
            graded, made = (matrices(a, count, block.tiles, k) for a, k in ((z, f), (product, c)))
            multiply_spans(graded, u, made, block.spans)
            tile.to_gradient(product, lines, h, top, left, c, grid.numbers, block.part())

    split(share, n, 0.01 * n * grid.bands * grid.across * u.size, products=True)


def grad_weight(dy: Array, x: Array, pads: Pads, dw: Array, tile: Tile) -> None:
    """Write the gradient of the filters to dw (r, r, C, F)."""
    (n, h, width, c), (_, oh, ow, f), grid, count = x.shape, dy.shape, _grid(tile, dy), len(tile.a) ** 2
    lines, lines_of_dy, ((top, _), (left, _)) = x.reshape(n * h, width * c), dy.reshape(n * oh, ow * f), pads
    shape, bands, most = (len(grid.positions), c, f), n * grid.bands, max(c, f)

    def transform(v: Array, z: Array, part: tuple[int, int, int, int]) -> None:
        tile.from_image(lines, v, h, top, left, c, grid.numbers, part)
        tile.from_gradient(lines_of_dy, z, oh, f, grid.numbers, part)

    def alone(start: int, stop: int) -> Array:
        v, z = (positions(name, count, x.dtype) for name in ("tiles", "products"))
        total = (np.empty if start < stop else np.zeros)(shape, x.dtype)
        for block in grid.blocks(start, stop, most):
            transform(v, z, block.part())
            seen, graded = (matrices(a, count, block.tiles, k) for a, k in ((v, c), (z, f)))
            add_spans(seen, graded, total, block.spans, anew=block.first == start)
        return total

    def together() -> Array:
        v, z = (positions(name, count, x.dtype) for name in ("tiles", "products"))
        total = (np.empty if bands else np.zeros)(shape, x.dtype)
        for block in grid.blocks(0, bands, most):
            seen, graded = (matrices(a, count, block.tiles, k) for a, k in ((v, c), (z, f)))

            def some_tiles(i: int, j: int, block: Any = block) -> None:
                transform(v, z, block.part(i, j))

            def some_positions(
                i: int, j: int, block: Any = block, seen: Array = seen, graded: Array = graded
            ) -> None:
                add_spans(seen, graded, total[i:j], block.spans[i:j], anew=not block.first)

            split(some_tiles, block.last - block.first, 0.5 * count * block.tiles * (c + f))
            split(some_positions, len(total), 0.01 * block.tiles * total.size, products=True, at_once=3)
        return total

    if math.prod(shape) < MANY_SUMS:
        total: Any = sum(split(alone, bands, 0.01 * bands * grid.across * math.prod(shape), products=True))
    else:
        total = together()
    flat, out = total.reshape(len(total), -1), dw.reshape(-1, c * f)
    back = np.kron(tile.g, tile.g)[grid.positions].T.astype(x.dtype)
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
