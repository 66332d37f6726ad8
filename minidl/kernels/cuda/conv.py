"""Convolution: the columns of as many images as fit into the device's cache, and one product by them.

With precision "tf32" it is `implicit` that convolves, without columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import cupy
import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from . import implicit
from .blas import multiply
from .elementwise import bias_activation
from .launching import LARGEST, Constants, contiguous, launch_each, ready
from .pool import geometry, max_pool

BLOCK = 2**24  # numbers in the columns of one block: what a large device keeps in its cache


class Columns:
    """What each output pixel sees, a few images at a time."""

    def __init__(
        self, shape: tuple[int, ...], out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair
    ):
        self.pixels, self.width = out[0] * out[1], kernel[0] * kernel[1] * shape[3]
        self.constants: Constants = geometry(shape, out, kernel, strides, pads, dilation)
        self.plain = kernel == strides == (1, 1) and pads == ((0, 0), (0, 0))  # x itself is the columns
        self.images = shape[0]
        self.block = max(self.images if self.plain else BLOCK // max(self.pixels * self.width, 1), 1)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """(images, rows of the columns)."""
        for i in range(0, self.images, self.block):
            j = min(i + self.block, self.images)
            yield slice(i, j), slice(i * self.pixels, j * self.pixels)

    def room(self, images: slice, dtype: np.dtype) -> Array:
        return cupy.empty(((images.stop - images.start) * self.pixels, self.width), dtype)

    def read(self, x: Array, images: slice) -> Array:
        """The columns of some images of x."""
        seen = x[images]
        if self.plain:
            return seen.reshape(-1, self.width)
        columns, count = self.room(images, x.dtype), np.int32(len(seen))
        types = {"T": x.dtype, "I": np.uint8}
        launch_each("windows.im2col", columns.size, seen, columns, count, constants=self.constants, **types)
        return columns

    def gather(self, columns: Array, dx: Array, images: slice) -> None:
        """Each pixel of some images of dx adds up what was read from it."""
        part, count, types = dx[images], np.int32(images.stop - images.start), {"T": dx.dtype, "I": np.uint8}
        launch_each("windows.col2im", part.size, columns, part, count, constants=self.constants, **types)


def _fits(columns: Columns, *arrays: Array) -> bool:
    return ready(*arrays) and columns.block * columns.pixels * columns.width < LARGEST


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
    columns = Columns(x.shape, out, w.shape[:2], strides, pads, dilation)
    if not _fits(columns, x, w, w if b is None else b):
        return reference.conv2d(x, w, b, slope, out, strides, pads, dilation)
    x, w = contiguous(x, w)
    if implicit.suited(w.shape[:2], algorithm, (len(x), *out, w.shape[3]), x, w):
        return implicit.conv2d(x, w, b, slope, out, strides, pads, dilation)
    y, filters = cupy.empty((len(x), *out, w.shape[3]), x.dtype), w.shape[3]
    rows_of_y, flat = y.reshape(-1, filters), w.reshape(-1, filters)
    for images, rows in columns.blocks():
        multiply(columns.read(x, images), flat, rows_of_y[rows])
    bias_activation(rows_of_y, b, slope)
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
    return max_pool(conv2d(x, w, b, slope, out, strides, pads, dilation, algorithm), *pool, places)


def conv2d_grad_input(
    dy: Array,
    w: Array,
    shape: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
) -> Array:
    columns = Columns(shape, dy.shape[1:3], w.shape[:2], strides, pads, dilation)
    if not _fits(columns, dy, w):
        return reference.conv2d_grad_input(dy, w, shape, strides, pads, dilation)
    dy, w = contiguous(dy, w)
    if implicit.suited(w.shape[:2], algorithm, shape, dy, w):
        return implicit.conv2d_grad_input(dy, w, shape, strides, pads, dilation)
    dx, filters = cupy.empty(shape, dy.dtype), w.shape[3]
    rows_of_dy, flat = dy.reshape(-1, filters), w.reshape(-1, filters).T
    for images, rows in columns.blocks():
        if columns.plain:
            multiply(rows_of_dy[rows], flat, dx[images].reshape(-1, columns.width))
        else:
            seen = columns.room(images, dy.dtype)
            multiply(rows_of_dy[rows], flat, seen)
            columns.gather(seen, dx, images)
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
    columns = Columns(x.shape, dy.shape[1:3], shape[:2], strides, pads, dilation)
    if not _fits(columns, dy, x):
        return reference.conv2d_grad_weight(dy, x, shape, strides, pads, dilation, algorithm, into)
    dy, x = contiguous(dy, x)
    dw = cupy.empty(shape, x.dtype) if into is None else into
    if implicit.suited(shape[:2], algorithm, shape, dy, x):
        implicit.conv2d_grad_weight(dy, x, dw, strides, pads, dilation)
        return dw
    flat, rows_of_dy = dw.reshape(-1, shape[3]), dy.reshape(-1, shape[3])
    for images, rows in columns.blocks():
        multiply(columns.read(x, images).T, rows_of_dy[rows], flat, accumulate=images.start > 0)
    if not len(x):
        dw.fill(0)
    return dw
