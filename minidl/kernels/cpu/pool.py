"""Max pooling, compiled."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from ..threads import split
from .compiling import jit, ready


@jit
def _max_windows(x, y, where, kh, kw, sh, sw, top, left):
    n, h, w, c = x.shape
    _, oh, ow, _ = y.shape
    for i in range(n):
        for oy in range(oh):
            for ox in range(ow):
                best, offset, first = y[i, oy, ox], where[i, oy, ox], True
                for ky in range(kh):
                    iy = oy * sh + ky - top
                    for kx in range(kw):
                        ix = ox * sw + kx - left
                        if not (0 <= iy < h and 0 <= ix < w):
                            continue
                        pixel, k = x[i, iy, ix], np.uint8(ky * kw + kx)
                        if first:
                            for j in range(c):
                                best[j], offset[j] = pixel[j], k
                            first = False
                            continue
                        for j in range(c):
                            larger = pixel[j] > best[j] or pixel[j] != pixel[j]  # nan goes through
                            best[j] = pixel[j] if larger else best[j]
                            offset[j] = k if larger else offset[j]


@jit
def _max_of_four(x, y, where):
    """Windows of 2x2 side by side, the usual case: each pixel is read once."""
    n, oh, ow, c = y.shape
    for i in range(n):
        for oy in range(oh):
            for ox in range(ow):
                a, b = x[i, 2 * oy, 2 * ox], x[i, 2 * oy, 2 * ox + 1]
                d, e = x[i, 2 * oy + 1, 2 * ox], x[i, 2 * oy + 1, 2 * ox + 1]
                best, offset = y[i, oy, ox], where[i, oy, ox]
                for j in range(c):
                    v, k = a[j], np.uint8(0)
                    larger = b[j] > v or b[j] != b[j]
                    v, k = b[j] if larger else v, np.uint8(1) if larger else k
                    larger = d[j] > v or d[j] != d[j]
                    v, k = d[j] if larger else v, np.uint8(2) if larger else k
                    larger = e[j] > v or e[j] != e[j]
                    best[j], offset[j] = e[j] if larger else v, np.uint8(3) if larger else k


@jit
def _only_max_of_four(x, y):
    """The same without places, which inference does not need."""
    n, oh, ow, c = y.shape
    for i in range(n):
        for oy in range(oh):
            for ox in range(ow):
                a, b = x[i, 2 * oy, 2 * ox], x[i, 2 * oy, 2 * ox + 1]
                d, e = x[i, 2 * oy + 1, 2 * ox], x[i, 2 * oy + 1, 2 * ox + 1]
                best = y[i, oy, ox]
                for j in range(c):
                    v = b[j] if b[j] > a[j] or b[j] != b[j] else a[j]
                    w = e[j] if e[j] > d[j] or e[j] != e[j] else d[j]
                    best[j] = w if w > v or w != w else v


@jit
def _give_to_four(dy, where, dx):
    """One offset after the other: each inner loop becomes vector code."""
    n, oh, ow, c = dy.shape
    for i in range(n):
        dx[i, 2 * oh :] = 0
        for oy in range(oh):
            dx[i, 2 * oy : 2 * oy + 2, 2 * ow :] = 0
            for ox in range(ow):
                grad, offset = dy[i, oy, ox], where[i, oy, ox]
                for k in range(4):
                    pixel = dx[i, 2 * oy + k // 2, 2 * ox + k % 2]
                    for j in range(c):
                        pixel[j] = grad[j] if offset[j] == k else 0


@jit
def _give_few_to_four(dy, where, dx):
    """For less than a vector of channels: no question where a gradient goes, for most answers are unforeseen."""
    n, oh, ow, c = dy.shape
    line = dx.shape[2] * c
    for i in range(n):
        image = dx[i].reshape(-1)
        image[:] = 0
        for oy in range(oh):
            for ox in range(ow):
                grad, offset = dy[i, oy, ox], where[i, oy, ox]
                corner = 2 * oy * line + 2 * ox * c
                for j in range(c):
                    k = np.intp(offset[j])
                    image[corner + (k >> 1) * line + (k & 1) * c + j] = grad[j]


@jit
def _give_to_winners(dy, where, dx, kh, kw, sh, sw, top, left):
    n, oh, ow, c = dy.shape
    _, h, w, _ = dx.shape
    for i in range(n):
        dx[i] = 0
        for oy in range(oh):
            for ox in range(ow):
                grad, offset = dy[i, oy, ox], where[i, oy, ox]
                for ky in range(kh):
                    iy = oy * sh + ky - top
                    for kx in range(kw):
                        ix = ox * sw + kx - left
                        if 0 <= iy < h and 0 <= ix < w:
                            pixel, k = dx[i, iy, ix], np.uint8(ky * kw + kx)
                            for j in range(c):
                                pixel[j] += grad[j] if offset[j] == k else 0


def max_pool(
    x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, places: bool = True
) -> tuple[Array, Array | None]:
    if not ready(x) or kernel[0] * kernel[1] > 256:
        return reference.max_pool(x, out, kernel, strides, pads, places)
    x = np.ascontiguousarray(x)
    y, where = empty_results((len(x), *out, x.shape[3]), x.dtype)
    pool = largest_of(kernel, strides, pads, places)
    split(lambda i, j: pool(x[i:j], y[i:j], where[i:j]), len(x), 0.5 * x.size)
    return y, where if places else None


def empty_results(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Memory for the largest numbers of windows and for their places."""
    return np.empty(shape, dtype), np.empty(shape, np.uint8)


def largest_of(
    kernel: Pair, strides: Pair, pads: Pads, places: bool
) -> Callable[[Array, Array, Array], None]:
    """A function that writes the largest number of each window of images, and its place, in this thread alone."""
    if _usual(kernel, strides, pads):
        return _max_of_four if places else lambda x, y, where: _only_max_of_four(x, y)
    geometry = *kernel, *strides, pads[0][0], pads[1][0]
    return lambda x, y, where: _max_windows(x, y, where, *geometry)


def max_pool_grad(
    dy: Array, where: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads
) -> Array:
    if not ready(dy) or where.dtype != np.uint8:
        return reference.max_pool_grad(dy, where, shape, kernel, strides, pads)
    dy, dx = np.ascontiguousarray(dy), np.empty(shape, dy.dtype)
    geometry = () if _usual(kernel, strides, pads) else (*kernel, *strides, pads[0][0], pads[1][0])
    loop = _give_to_winners if geometry else _give_to_four if shape[3] >= 16 else _give_few_to_four
    split(lambda i, j: loop(dy[i:j], where[i:j], dx[i:j], *geometry), len(dx), 0.5 * dx.size)
    return dx


def _usual(kernel: Pair, strides: Pair, pads: Pads) -> bool:
    """Whether windows are 2x2 and side by side."""
    return kernel == strides == (2, 2) and pads == ((0, 0), (0, 0))
