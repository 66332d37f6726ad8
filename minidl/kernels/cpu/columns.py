"""The columns of a convolution: what each output pixel sees, a few images at a time, compiled.

A block is small enough to be still in the cache when the matrix product reads it, and is never kept.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Iterator

from ...backend import Array
from ...shapes import Pads, Pair
from .compiling import jit, scratch

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


class Columns:
    """The columns of x for one geometry, block by block."""

    def __init__(self, x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair):
        n, h, w, c = x.shape
        self.pixels, self.width = out[0] * out[1], kernel[0] * kernel[1] * c
        self.lines = x.reshape(n * h, w * c)
        self.height = h
        self.geometry = h, w, c, *out, *kernel, *strides, pads[0][0], pads[1][0], *dilation
        self.plain = kernel == strides == (1, 1) and pads == ((0, 0), (0, 0))  # x itself is the columns
        self.flat = x.reshape(-1, c) if self.plain else None
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
        cols = self.room(images)
        _fill_columns(self._lines_of(images), cols, *self.geometry)
        return cols

    def room(self, images: slice) -> Array:
        """Memory for the columns of `images`, the same for all blocks of a thread."""
        rows = (images.stop - images.start) * self.pixels
        return scratch("columns", rows * self.width, self.lines.dtype).reshape(rows, self.width)

    def add(self, images: slice, cols: Array) -> None:
        """Add columns back to the pixels that they came from."""
        _add_columns(self._lines_of(images), cols, *self.geometry)

    def _lines_of(self, images: slice) -> Array:
        return self.lines[images.start * self.height : images.stop * self.height]
