"""Convolution without columns: each tile of output pixels and filters is summed up in registers (`microkernel`).

The gradient of the filters is a product of what each offset sees with the gradient, summed over pixels by the same
tile; that of the image is in `direct_image`. An image that needs padding is copied into a frame of zeros first.

A vector holds 16 numbers. Where so few filters leave half of it empty, some neighbouring pixels share it: their
windows side by side are one window, a little wider, with as many times the filters, zero where a pixel does not look.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from ..threads import split
from .compiling import delivered, jit, scratch
from .microkernel import NARROW, NARROW_ROWS, WIDE, WIDE_ROWS, narrow_tile, wide_tile
from .winograd_bands import copy_band

PIXELS = 1024  # that are summed up in one go, for precision
TO_POOL = 2**19  # bytes of a result that are pooled while they are in the cache

# Images and gradients are lines: (N, H, W * C).


@jit
def _convolve(lines, frame, top, left, places, w, bias, slope, y):
    kh, run, f = w.shape
    narrow, wide, pixels = NARROW // y.itemsize, WIDE // y.itemsize, y.shape[1]
    for i in range(len(lines)):
        image = lines[i]
        if frame.size:
            copy_band(image, frame, -top, len(image), left)
            image = frame
        for first in range(0, f, wide):
            width = min(f - first, wide)
            rows = NARROW_ROWS if width <= narrow else WIDE_ROWS
            a, b = image.ctypes.data, w[0, 0, first:].ctypes.data
            start = bias[first:].ctypes.data
            for p in range(0, pixels, rows):
                q = min(p, pixels - rows)  # the last tile does some pixels again
                seen, out = places[q:].ctypes.data, y[i, q, first:].ctypes.data
                line = image.shape[1]
                if width <= narrow:
                    narrow_tile(y, a, seen, line, 1, kh, run, b, f, start, 0, slope, out, f, width)
                else:
                    wide_tile(y, a, seen, line, 1, kh, run, b, f, start, 0, slope, out, f, width)


@jit
def _sum_products(lines, frame, top, left, places, dy, sh, step, total):
    """Add to total (offsets, F) what each offset sees times dy (N, OH, OW, F); `step` from pixel to pixel."""
    n, oh, ow, f = dy.shape
    narrow, wide, one = NARROW // dy.itemsize, WIDE // dy.itemsize, dy.dtype.type(1)
    some = max(PIXELS // ow, 1)
    for i in range(n):
        image = lines[i]
        if frame.size:
            copy_band(image, frame, -top, len(image), left)
            image = frame
        for oy in range(0, oh, some):
            outer, line = min(some, oh - oy), sh * image.shape[1]
            a = image[oy * sh :].ctypes.data
            for first in range(0, f, wide):
                width = min(f - first, wide)
                b = dy[i, oy, 0, first:].ctypes.data
                for r in range(0, len(places) - NARROW_ROWS, NARROW_ROWS if width <= narrow else WIDE_ROWS):
                    at, out = places[r:].ctypes.data, total[r, first:].ctypes.data
                    if width <= narrow:
                        narrow_tile(dy, a, at, line, step, outer, ow, b, f, out, f, one, out, f, width)
                    else:
                        wide_tile(dy, a, at, line, step, outer, ow, b, f, out, f, one, out, f, width)


@lru_cache(maxsize=256)
def _pixels(out: Pair, strides: Pair, line: int, c: int) -> Array:
    """Where the window of each output pixel begins, in an image of lines of `line` numbers."""
    rows, columns = (np.arange(n) * s for n, s in zip(out, strides, strict=True))
    return (rows[:, None] * line + columns * c).reshape(-1)


@lru_cache(maxsize=256)
def _offsets(kernel: Pair, line: int, c: int) -> Array:
    """Where each number of a window lies, counted from its beginning; then zeros, to fill the last tile."""
    inside = (np.arange(kernel[0])[:, None] * line + np.arange(kernel[1] * c)).reshape(-1)
    return np.concatenate([inside, np.zeros(NARROW_ROWS, inside.dtype)])


@lru_cache(maxsize=256)
def side_by_side(kw: int, out: Pair, f: int, itemsize: int) -> int:
    """How many pixels of a line share a vector, each with its `f` filters."""
    most, (oh, ow) = NARROW // itemsize // f if kw > 1 else 1, out
    return max([n for n in range(1, most + 1) if ow % n == 0 and oh * ow >= n * NARROW_ROWS], default=1)


@jit
def _widen(w, bias, stride, wider, biases):
    """Filters (KH, KW, C, F) and bias (F,) as those of windows side by side (KH, KW + ..., C, pixels, F), (pixels, F)."""
    wider[:] = 0
    for i in range(wider.shape[3]):
        biases[i] = bias
        wider[:, i * stride : i * stride + w.shape[1], :, i] = w


@jit
def _add_up(wider, stride, dw):
    """The gradient of filters, from that of those of windows side by side."""
    dw[:] = wider[:, : dw.shape[1], :, 0]
    for i in range(1, wider.shape[3]):
        dw += wider[:, i * stride : i * stride + dw.shape[1], :, i]


def conv2d(
    x: Array, w: Array, b: Array | None, slope: float | None, strides: Pair, pads: Pads, y: Array
) -> None:
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F) to y (N, OH, OW, F)."""
    convolve, nanoseconds = _plan(x, w, b, slope, strides, pads, y.shape[1:3])
    split(lambda i, j: convolve(i, j, y[i:j]), len(x), nanoseconds)


def conv2d_max_pool(
    x: Array,
    w: Array,
    b: Array | None,
    slope: float | None,
    strides: Pair,
    pads: Pads,
    out: Pair,
    pool: Callable[[Array, Array, Array], None],
    y: Array,
    where: Array,
) -> None:
    """Write what `pool` makes of the convolution's (OH, OW) pixels to y and where, image by image."""
    convolve, nanoseconds = _plan(x, w, b, slope, strides, pads, out)
    shape = *out, w.shape[3]
    some = max(TO_POOL // (math.prod(shape) * x.itemsize), 1)

    def share(start: int, stop: int) -> None:
        images = np.empty((min(some, stop - start), *shape), x.dtype)
        for i in range(start, stop, some):
            j = min(i + some, stop)
            convolve(i, j, images[: j - i])
            pool(images[: j - i], y[i:j], where[i:j])

    split(share, len(x), nanoseconds)


def _plan(
    x: Array, w: Array, b: Array | None, slope: float | None, strides: Pair, pads: Pads, out: Pair
) -> tuple[Callable[[int, int, Array], None], float]:
    """A function that writes the convolution of images i..j to an array, and the nanoseconds that all would take."""
    (n, h, width, c), (oh, ow), (kh, kw, _, f) = x.shape, out, w.shape
    nanoseconds = 0.01 * n * oh * ow * w.size
    bias = np.zeros(f, x.dtype) if b is None else np.ascontiguousarray(b)
    if (some := side_by_side(kw, out, f, x.itemsize)) > 1:
        wider = np.empty((kh, kw + (some - 1) * strides[1], c, some, f), w.dtype)
        biases = np.empty((some, f), w.dtype)
        _widen(w, bias, strides[1], wider, biases)
        w, bias, strides, kw = wider, biases.reshape(-1), (strides[0], some * strides[1]), wider.shape[1]
        ow, f = ow // some, some * f
    flat, lines = np.ascontiguousarray(w).reshape(kh, kw * c, f), x.reshape(n, h, width * c)
    number, ((top, _), (left, right)) = x.dtype.type(1 if slope is None else slope), pads
    places = _pixels((oh, ow), strides, (left + width + right) * c, c)

    def convolve(i: int, j: int, y: Array) -> None:
        frame, pixels = frame_of(x, pads), y.reshape(j - i, oh * ow, f)
        _convolve(lines[i:j], frame, top, left * c, places, flat, bias, number, pixels)

    return convolve, nanoseconds


def grad_weight(dy: Array, x: Array, strides: Pair, pads: Pads, dw: Array) -> None:
    """Write the gradient of the filters to dw (KH, KW, C, F)."""
    (n, h, width, c), (kh, kw, _, f), (_, oh, ow, _) = x.shape, dw.shape, dy.shape
    if (some := side_by_side(kw, (oh, ow), f, dw.itemsize)) > 1:
        wider = np.empty((kh, kw + (some - 1) * strides[1], c, some, f), dw.dtype)
        pairs = dy.reshape(n, oh, ow // some, some * f)
        grad_weight(pairs, x, (strides[0], some * strides[1]), pads, wider.reshape(*wider.shape[:3], -1))
        _add_up(wider, strides[1], dw)
        return
    lines, ((top, _), (left, right)) = x.reshape(n, h, width * c), pads
    offsets = _offsets((kh, kw), (left + width + right) * c, c)

    def share(i: int, j: int) -> Array:
        frame, total = frame_of(x, pads), np.zeros((len(offsets), f), x.dtype)
        _sum_products(lines[i:j], frame, top, left * c, offsets, dy[i:j], strides[0], strides[1] * c, total)
        return total

    parts = split(share, n, 0.01 * dy.size * kh * kw * c)
    dw.reshape(-1, f)[...] = delivered(parts, 1, dw.dtype, None)[: kh * kw * c]


def frame_of(x: Array, pads: Pads) -> Array:
    """This thread's memory for one image with its padding, or none if there is none."""
    _, h, w, c = x.shape
    if pads == ((0, 0), (0, 0)):
        return np.empty((0, 0), x.dtype)
    height, width = h + sum(pads[0]), (w + sum(pads[1])) * c
    return scratch("frame", height * width, x.dtype).reshape(height, width)
