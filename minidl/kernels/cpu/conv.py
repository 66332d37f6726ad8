"""Convolution and its gradients by the algorithm that `choose` names; each thread takes its share of the images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from ..threads import split
from . import direct, direct_image, products, winograd
from .algorithms import FILTERS, IMAGE, OUTPUT, choose
from .blas import add_product
from .columns import Columns
from .compiling import ready
from .elementwise import activate_rows
from .pool import empty_results, largest_of, max_pool


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    slope: float | None,
    out: Pair,
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
) -> Array:
    if not ready(x, w, w if b is None else b):
        return reference.conv2d(x, w, b, slope, out, strides, pads, dilation)
    name = choose(algorithm, OUTPUT, w.shape, out, strides, dilation)
    x, filters = np.ascontiguousarray(x), w.shape[3]
    y = np.empty((len(x), *out, filters), x.dtype)
    if name == "direct":
        direct.conv2d(x, w, b, slope, strides, pads, y)
        return y
    if (tile := winograd.TILES.get(name)) is not None:
        winograd.conv2d(x, w, b, slope, pads, y, tile)
        return y
    columns, flat, rows_of_y = (
        Columns(x, out, w.shape[:2], strides, pads, dilation),
        w.reshape(-1, filters),
        y.reshape(-1, filters),
    )

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            products.multiply(columns.seen(images), flat, rows_of_y[rows])
            activate_rows(rows_of_y[rows], b, slope)

    split(share, len(x), columns.nanoseconds * (1 + filters / 8), products=True)
    return y


def conv2d_max_pool(
    x: Array,
    w: Array,
    b: Array | None,
    slope: float | None,
    out: Pair,
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str,
    pool: tuple[Pair, Pair, Pair, Pads],
    places: bool = True,
) -> tuple[Array, Array | None]:
    size, kernel, steps, pool_pads = pool
    able = ready(x, w, w if b is None else b) and kernel[0] * kernel[1] <= 256
    if not able or choose(algorithm, OUTPUT, w.shape, out, strides, dilation) != "direct":
        return max_pool(conv2d(x, w, b, slope, out, strides, pads, dilation, algorithm), *pool, places)
    y, where = empty_results((len(x), *size, w.shape[3]), x.dtype)
    largest = largest_of(kernel, steps, pool_pads, places)
    direct.conv2d_max_pool(np.ascontiguousarray(x), w, b, slope, strides, pads, out, largest, y, where)
    return y, where if places else None


def conv2d_grad_input(
    dy: Array,
    w: Array,
    shape: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
) -> Array:
    if not ready(dy, w):
        return reference.conv2d_grad_input(dy, w, shape, strides, pads, dilation)
    dy, filters, out = np.ascontiguousarray(dy), w.shape[3], dy.shape[1:3]
    name = choose(algorithm, IMAGE, w.shape, out, strides, dilation)
    way = direct_image.best_way(shape[1:], w.shape, out, strides, dy.itemsize) if name == "direct" else None
    if way is not None:
        dx = np.empty(shape, dy.dtype)
        way(dy, w, pads, dx)
        return dx
    if (tile := winograd.TILES.get(name)) is not None:
        dx = np.empty(shape, dy.dtype)
        winograd.grad_input(dy, w, pads, dx, tile)
        return dx
    dx = np.zeros(shape, dy.dtype)
    columns, flat, rows_of_dy = (
        Columns(dx, out, w.shape[:2], strides, pads, dilation),
        w.reshape(-1, filters).T,
        dy.reshape(-1, filters),
    )

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            if columns.flat is not None:
                products.multiply(rows_of_dy[rows], flat, columns.flat[rows])
                continue
            cols = columns.room(images)
            products.multiply(rows_of_dy[rows], flat, cols)
            columns.add(images, cols)

    split(share, len(dx), columns.nanoseconds * (1 + filters / 8), products=True)
    return dx


def conv2d_grad_weight(
    dy: Array,
    x: Array,
    shape: tuple[int, int, int, int],
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
    into: Array | None = None,
) -> Array:
    if not ready(dy, x):
        return reference.conv2d_grad_weight(dy, x, shape, strides, pads, dilation, algorithm, into)
    dy, x, filters, out = np.ascontiguousarray(dy), np.ascontiguousarray(x), shape[3], dy.shape[1:3]
    dw = np.empty(shape, x.dtype) if into is None else into
    name = choose(algorithm, FILTERS, shape, out, strides, dilation)
    if name == "direct":
        direct.grad_weight(dy, x, strides, pads, dw)
        return dw
    if (tile := winograd.TILES.get(name)) is not None and tile.from_gradient is not None:
        winograd.grad_weight(dy, x, pads, dw, tile)
        return dw
    columns, rows_of_dy = Columns(x, out, shape[:2], strides, pads, dilation), dy.reshape(-1, filters)

    def share(start: int, stop: int) -> Array:
        total = (np.empty if start < stop else np.zeros)((columns.width, filters), x.dtype)
        for images, rows in columns.blocks(start, stop):
            anew = images.start == start
            add_product(columns.seen(images).T, rows_of_dy[rows], total, anew)
        return total

    shares: Any = split(share, len(x), columns.nanoseconds * (1 + filters / 8), products=True)
    flat = dw.reshape(-1, filters)
    flat[...] = shares[0]
    for other in shares[1:]:
        flat += other
    return dw
