"""Direct convolution's gradient of the image, in one of two ways.

Turned: each pixel sums up what the windows that saw it give back, a convolution of dy with the filters turned around.
Spread: each gradient times its filters is added to its window, one line of the window after the other. The rows of a
tile are pixels below each other, so what they add to does not overlap. A line of a window fills the vectors better
than a few channels do, and nothing is computed of the frame around dy, which is large if the filters are.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from ..threads import split
from .compiling import jit, scratch
from .direct import conv2d, side_by_side
from .microkernel import NARROW, NARROW_ROWS, WIDE, WIDE_ROWS, narrow_tile, wide_tile

MOST_FILTERS = 64  # more make it a good matrix product
WORTH = 3  # times the arithmetic of that product over columns, which is so much slower for few channels
LOADS = 6  # terms that take as long as loading and storing the sums of a tile


@lru_cache(maxsize=256)
def best_way(
    image: tuple[int, ...], w: tuple[int, ...], out: Pair, strides: Pair, itemsize: int
) -> Callable[[Array, Array, Pads, Array], None] | None:
    """The one with less arithmetic, or None if columns are better; shapes are (H, W, C) and (KH, KW, C, F)."""
    (height, width, c), (kh, kw, _, f), (oh, ow), lanes = image, w, out, NARROW // itemsize
    some = side_by_side(kw, (height, width), c, itemsize)
    cost_turned = height * width // some * kh * (kw + some - 1) * f * -(-some * c // lanes)
    wides, narrows = divmod(-(-kw * c // lanes), WIDE // NARROW)
    cost_of_a_wide, cost_of_a_narrow = (-(-oh // rows) * rows for rows in (WIDE_ROWS, NARROW_ROWS))
    vectors = wides * WIDE // NARROW * cost_of_a_wide + narrows * cost_of_a_narrow
    cost_spread = vectors * ow * kh * (f + LOADS)
    worth = WORTH * oh * ow * kh * kw * c * f / lanes
    if strides != (1, 1) or f > MOST_FILTERS or min(cost_turned, cost_spread) > worth:
        return None
    return turned if cost_turned < cost_spread and height * width >= NARROW_ROWS else spread


def turned(dy: Array, w: Array, pads: Pads, dx: Array) -> None:
    """Write the gradient of the image to dx (N, H, W, C), for dy (N, OH, OW, F) and w (KH, KW, C, F)."""
    # Where the padding was more than the filters reach, the frame is smaller than dy, which is cropped.
    sides = [(k - 1 - first, k - 1 - last) for k, (first, last) in zip(w.shape, pads, strict=False)]
    conv2d(dy, w[::-1, ::-1].swapaxes(2, 3), None, None, (1, 1), (sides[0], sides[1]), dx)


def spread(dy: Array, w: Array, pads: Pads, dx: Array) -> None:
    """Write the gradient of the image to dx (N, H, W, C), for dy (N, OH, OW, F) and w (KH, KW, C, F)."""
    (n, h, width, c), (_, oh, ow, f), (kh, kw) = dx.shape, dy.shape, w.shape[:2]
    (top, bottom), (left, right) = pads
    by_line = np.ascontiguousarray(w.reshape(kh, kw * c, f).swapaxes(1, 2))
    lines, lines_of_dx = dy.reshape(n, oh, ow * f), dx.reshape(n, h, width * c)
    below, places = NARROW_ROWS - 1, np.arange(NARROW_ROWS) * (ow * f)  # a tile reaches over the last line
    height, line = max(top + h + bottom, oh + below + kh - 1), (left + width + right) * c

    def share(i: int, j: int) -> None:
        graded = np.zeros((oh + below, ow * f), dy.dtype)
        sums = scratch("frame", height * line, dy.dtype).reshape(height, line)
        _spread(lines[i:j], graded, places, by_line, c, sums, top, left * c, lines_of_dx[i:j])

    split(share, n, 0.01 * dy.size * kh * kw * c)


@jit
def _spread(dy, graded, places, w, c, sums, top, left, dx):
    """dx (N, H, W * C) from dy (N, OH, OW * F) and w (KH, F, KW * C); below dy, `graded` has lines of zeros."""
    (kh, f, run), (n, oh, line_of_dy), line, size = w.shape, dy.shape, sums.shape[1], dy.itemsize
    narrow, wide, one, at = NARROW // size, WIDE // size, dy.dtype.type(1), places.ctypes.data
    for i in range(n):
        graded[:oh] = dy[i]
        sums[:] = 0
        for first in range(0, run, wide):
            width = min(run - first, wide)
            for oy in range(0, oh, NARROW_ROWS if width <= narrow else WIDE_ROWS):
                for ky in range(kh):
                    a, b = graded[oy].ctypes.data, w[ky, 0, first:].ctypes.data
                    y = sums[oy + ky, first:].ctypes.data
                    for _ in range(line_of_dy // f):
                        if width <= narrow:
                            narrow_tile(dy, a, at, 0, 1, 1, f, b, run, y, line, one, y, line, width)
                        else:
                            wide_tile(dy, a, at, 0, 1, 1, f, b, run, y, line, one, y, line, width)
                        a += f * size
                        y += c * size
        for j in range(dx.shape[1]):
            dx[i, j] = sums[top + j, left : left + dx.shape[2]]
