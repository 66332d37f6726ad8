"""Convolution as matrix products over blocks of columns, compiled.

Each thread takes its share of the images. It makes the columns of a few images, small enough to be still in
the cache when the matrix product reads them; they are never kept.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from ..threads import split
from . import winograd
from .algorithms import choose
from .compiling import jit, ready, scratch
from .elementwise import activate_rows

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 512  # of columns: at least one of both

# h w c: image; oh ow: output; kh kw: kernel; sh sw: strides; dh dw: dilation; top left: padding


@jit
def _fill_columns(lines, cols, h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw):
    for r in range(len(cols)):
        i, oy, ox = r // (oh * ow), r // ow % oh, r % ow
        for ky in range(kh):
            iy, ix = oy * sh + ky * dh - top, ox * sw - left
            row = cols[r, ky * kw * c : (ky + 1) * kw * c]
            if iy < 0 or iy >= h:
                row[:] = 0
            elif dw == 1 and ix >= 0 and ix + kw <= w:  # one run of KW * C neighbours
                seen = lines[i * h + iy, ix * c : (ix + kw) * c]
                for j in range(kw * c):
                    row[j] = seen[j]
            else:
                for kx in range(kw):
                    px = ix + kx * dw
                    for j in range(c):
                        row[kx * c + j] = lines[i * h + iy, px * c + j] if 0 <= px < w else 0


@jit
def _fill_rows(lines, rows, h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw):
    """The transpose, for one channel and stride 1: each offset sees a run of neighbours in every line."""
    for line in range(rows.shape[1] // ow):
        i, oy = line // oh, line % oh
        for ky in range(kh):
            iy = oy + ky * dh - top
            for kx in range(kw):
                run = rows[ky * kw + kx, line * ow : (line + 1) * ow]
                shift = kx * dw - left
                begin, end = max(0, -shift), min(ow, w - shift)
                if iy < 0 or iy >= h or end <= begin:
                    run[:] = 0
                    continue
                seen, inside = lines[i * h + iy, begin + shift : end + shift], run[begin:end]
                for j in range(end - begin):
                    inside[j] = seen[j]
                run[:begin] = 0
                run[end:] = 0


@jit
def _add_columns(lines, cols, h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw):
    for r in range(len(cols)):
        i, oy, ox = r // (oh * ow), r // ow % oh, r % ow
        for ky in range(kh):
            iy, ix = oy * sh + ky * dh - top, ox * sw - left
            row = cols[r, ky * kw * c : (ky + 1) * kw * c]
            if iy < 0 or iy >= h:
                continue
            if dw == 1 and ix >= 0 and ix + kw <= w:
                seen = lines[i * h + iy, ix * c : (ix + kw) * c]
                for j in range(kw * c):
                    seen[j] += row[j]
                continue
            for kx in range(kw):
                px = ix + kx * dw
                if 0 <= px < w:
                    for j in range(c):
                        lines[i * h + iy, px * c + j] += row[kx * c + j]


class _Columns:
    """The columns of x for one geometry, block by block."""

    def __init__(self, x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair):
        n, h, w, c = x.shape
        self.pixels, self.width = out[0] * out[1], kernel[0] * kernel[1] * c
        self.lines = x.reshape(n * h, w * c)
        self.height = h
        self.geometry = h, w, c, *out, *kernel, *strides, pads[0][0], pads[1][0], *dilation
        self.plain = kernel == strides == (1, 1) and pads == ((0, 0), (0, 0))  # x itself is the columns
        self.flat = x.reshape(-1, c) if self.plain else None
        self.one_channel = c == 1 and strides == (1, 1)
        bytes_of_one = max(self.pixels * self.width * x.itemsize, 1)
        self.count = max(BLOCK_BYTES // bytes_of_one, -(-BLOCK_ROWS // max(self.pixels, 1)))
        self.nanoseconds = n * self.pixels * self.width * 0.4

    def blocks(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """(images, rows) of a share of the images."""
        step = stop - start if self.plain else self.count
        for i in range(start, stop, step or 1):
            j = min(i + step, stop)
            yield slice(i, j), slice(i * self.pixels, j * self.pixels)

    def seen(self, images: slice) -> Array:
        """What the output pixels of `images` see, (rows, KH * KW * C)."""
        if self.flat is not None:
            return self.flat[images.start * self.pixels : images.stop * self.pixels]
        cols = self.room(images, transposed=self.one_channel)
        if self.one_channel:
            _fill_rows(self._lines_of(images), cols.T, *self.geometry)
        else:
            _fill_columns(self._lines_of(images), cols, *self.geometry)
        return cols

    def room(self, images: slice, transposed: bool = False) -> Array:
        """Memory for the columns of `images`, the same for all blocks of a thread."""
        rows = (images.stop - images.start) * self.pixels
        cols = scratch("columns", rows * self.width, self.lines.dtype)
        return cols.reshape(self.width, rows).T if transposed else cols.reshape(rows, self.width)

    def add(self, images: slice, cols: Array) -> None:
        """Add columns back to the pixels that they came from."""
        _add_columns(self._lines_of(images), cols, *self.geometry)

    def _lines_of(self, images: slice) -> Array:
        return self.lines[images.start * self.height : images.stop * self.height]


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
    if not ready(x, w):
        return reference.conv2d(x, w, b, slope, out, strides, pads, dilation)
    x, filters = np.ascontiguousarray(x), w.shape[3]
    y = np.empty((len(x), *out, filters), x.dtype)
    if tile := choose(algorithm, w.shape, out, strides, dilation):
        winograd.conv2d(x, winograd.transform(w, tile), b, slope, pads, y, tile)
        return y
    columns, flat, rows_of_y = _Columns(x, out, w.shape[:2], strides, pads, dilation), w.reshape(-1, filters), y.reshape(-1, filters)

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            np.matmul(columns.seen(images), flat, out=rows_of_y[rows])
            activate_rows(rows_of_y[rows], b, slope)

    split(share, len(x), columns.nanoseconds * (1 + filters / 8))
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
    if tile := choose(algorithm, (*w.shape[:2], w.shape[3], w.shape[2]), shape[1:3], strides, dilation):
        dx = np.empty(shape, dy.dtype)
        turned = winograd.transform(w[::-1, ::-1], tile).transpose(0, 2, 1)
        frame = tuple((2 - before, 2 - after) for before, after in pads)
        winograd.conv2d(dy, turned, None, None, frame, dx, tile)
        return dx
    dx = np.zeros(shape, dy.dtype)
    columns, flat, rows_of_dy = _Columns(dx, out, w.shape[:2], strides, pads, dilation), w.reshape(-1, filters).T, dy.reshape(-1, filters)

    def share(start: int, stop: int) -> None:
        for images, rows in columns.blocks(start, stop):
            if columns.flat is not None:
                np.matmul(rows_of_dy[rows], flat, out=columns.flat[rows])
                continue
            cols = columns.room(images)
            np.matmul(rows_of_dy[rows], flat, out=cols)
            columns.add(images, cols)

    split(share, len(dx), columns.nanoseconds * (1 + filters / 8))
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
    if choose(algorithm, shape, out, strides, dilation) == 4:
        return winograd.grad_weight(dy, x, pads, dw)
    columns, rows_of_dy = _Columns(x, out, shape[:2], strides, pads, dilation), dy.reshape(-1, filters)

    def share(start: int, stop: int) -> Array:
        total: Array | None = None
        for images, rows in columns.blocks(start, stop):
            part = columns.seen(images).T @ rows_of_dy[rows]
            total = part if total is None else np.add(total, part, out=total)
        return np.zeros((columns.width, filters), x.dtype) if total is None else total

    shares: Any = split(share, len(x), columns.nanoseconds * (1 + filters / 8))
    flat = dw.reshape(-1, filters)
    flat[...] = shares[0]
    for other in shares[1:]:
        flat += other
    return dw
