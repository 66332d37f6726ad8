"""Convolution and its gradients by the algorithm that `choose` names; each thread takes its share of the images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from ..threads import split
from . import winograd
from .algorithms import choose, side_by_side
from .columns import Columns
from .compiling import ready
from .elementwise import activate_rows

# Neighbouring pixels side by side: as if they were one pixel of a convolution with more filters, which are
# wider. Their windows overlap, so there are fewer columns, and the matrix product has a better shape.


def _widen(w: Array, side: int) -> Array:
    """(KH, KW, C, F) -> (KH, KW + side - 1, C, side * F): filters for `side` neighbours."""
    kh, kw, c, f = w.shape
    wide = np.zeros((kh, kw + side - 1, c, side, f), w.dtype)
    for p in range(side):
        wide[:, p : p + kw, :, p] = w
    return wide.reshape(kh, kw + side - 1, c, side * f)


def _narrow(wide: Array, side: int, dw: Array) -> Array:
    """The transpose of `_widen`, written to dw."""
    kw, parts = dw.shape[1], wide.reshape(*wide.shape[:3], side, dw.shape[3])
    dw[...] = parts[:, :kw, :, 0]
    for p in range(1, side):
        dw += parts[:, p : p + kw, :, p]
    return dw


def _beside(dy: Array, side: int) -> Array:
    n, oh, ow, f = dy.shape
    return dy.reshape(n, oh, ow // side, side * f)


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
    tile = winograd.TILES.get(choose(algorithm, w.shape, out, strides, dilation))
    if tile is None and (side := side_by_side(w.shape, out, strides, dilation)) > 1:
        wide, bias = _widen(w, side), None if b is None else np.tile(b, side)
        y = conv2d(x, wide, bias, slope, (out[0], out[1] // side), (1, side), pads, dilation)
        return y.reshape(len(x), *out, w.shape[3])
    x, filters = np.ascontiguousarray(x), w.shape[3]
    y = np.empty((len(x), *out, filters), x.dtype)
    if tile is not None:
        winograd.conv2d(x, winograd.transform(w, tile), b, slope, pads, y, tile)
        return y
    columns, flat, rows_of_y = (
        Columns(x, out, w.shape[:2], strides, pads, dilation),
        w.reshape(-1, filters),
        y.reshape(-1, filters),
    )

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            np.matmul(columns.seen(images), flat, out=rows_of_y[rows])
            activate_rows(rows_of_y[rows], b, slope)

    split(share, len(x), columns.nanoseconds * (1 + filters / 8), products=True)
    return y


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
    tile = winograd.TILES.get(choose(algorithm, w.shape, out, strides, dilation))
    if tile is not None:
        dx = np.empty(shape, dy.dtype)
        winograd.grad_input(dy, w, pads, dx, tile)
        return dx
    if (side := side_by_side(w.shape, out, strides, dilation)) > 1:
        return conv2d_grad_input(_beside(dy, side), _widen(w, side), shape, (1, side), pads, dilation)
    dx = np.zeros(shape, dy.dtype)
    columns, flat, rows_of_dy = (
        Columns(dx, out, w.shape[:2], strides, pads, dilation),
        w.reshape(-1, filters).T,
        dy.reshape(-1, filters),
    )

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            if columns.flat is not None:
                np.matmul(rows_of_dy[rows], flat, out=columns.flat[rows])
                continue
            cols = columns.room(images)
            np.matmul(rows_of_dy[rows], flat, out=cols)
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
    tile = winograd.TILES.get(choose(algorithm, shape, out, strides, dilation))
    if tile is None and (side := side_by_side(shape, out, strides, dilation)) > 1:
        wide = shape[0], shape[1] + side - 1, shape[2], side * filters
        return _narrow(conv2d_grad_weight(_beside(dy, side), x, wide, (1, side), pads, dilation), side, dw)
    if tile is not None and tile.from_gradient is not None:
        winograd.grad_weight(dy, x, pads, dw, tile)
        return dw
    columns, rows_of_dy = Columns(x, out, shape[:2], strides, pads, dilation), dy.reshape(-1, filters)

    def share(start: int, stop: int) -> Array:
        total: Array | None = None
        for images, rows in columns.blocks(start, stop):
            part = columns.seen(images).T @ rows_of_dy[rows]
            total = part if total is None else np.add(total, part, out=total)
        return np.zeros((columns.width, filters), x.dtype) if total is None else total

    shares: Any = split(share, len(x), columns.nanoseconds * (1 + filters / 8), products=True)
    flat = dw.reshape(-1, filters)
    flat[...] = shares[0]
    for other in shares[1:]:
        flat += other
    return dw
