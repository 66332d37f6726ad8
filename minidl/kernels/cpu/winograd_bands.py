"""What the transforms of all tiles share (see `winograd`).

A band is the lines that one row of tiles sees. Each transform is one-dimensional, first down the lines, then
along them. The numbers of a tile, by position, are SPACING apart, and the buffers of a line have constant
lengths: the compiler then knows that reads and writes do not overlap, and makes vector code of the inner
loops. For the same reason indices are unsigned: they need no check for being negative.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from .compiling import jit

SPACING = 65536 + 80  # of positions; no power of two, or they would compete for the same places in the cache
LINE = 16384  # numbers in the longest line of a band
MOST = 2048  # channels

VS, UL, UM = (np.uint64(i) for i in (SPACING, LINE, MOST))
U0, U1, U2, U3, U4, U5, U6, U7 = (np.uint64(i) for i in range(8))


@jit
def copy_band(lines, band, first, height, left):
    """The lines from number `first` of an image (height lines) to `band`, zeros around them."""
    count, length = band.shape
    for k in range(count):
        y, row = first + k, band[k]
        if y < 0 or y >= height:
            row[:] = 0
            continue
        source = lines[y]
        begin, end = max(left, 0), min(length, left + source.size)
        row[:begin] = 0
        inside, seen = row[begin:end], source[begin - left : end - left]
        for j in range(end - begin):
            inside[j] = seen[j]
        row[end:] = 0


@jit
def finish(out, pixel, b, slope, linear):
    """Bias and activation of one pixel."""
    for j in range(pixel.size):
        v = out[j] + b[j]
        pixel[j] = v if linear or not v <= 0 else slope * v


@jit
def place(number, q, grid, block):
    """Which tile of a block is number q of a band.

    First come those at the bottom with fewer outputs, then whole ones, those at the right, those in the corner: so what
    a position of the transform has, which is none of the bottom, none of the right or neither, lies side by side.
    """
    (ty, whole_down, _, tx, whole_across, _), (first, last, _, _) = grid, block
    before = first // ty * whole_down + min(first % ty, whole_down)  # whole bands before the block, and in it
    whole = last // ty * whole_down + min(last % ty, whole_down) - before
    row, bottom = (
        number // ty * whole_down + min(number % ty, whole_down) - before,
        (last - first - whole) * whole_across,
    )
    if number % ty < whole_down:
        left, right = bottom + row * whole_across, bottom + whole * whole_across + row
    else:
        row = number - first - row
        left, right = row * whole_across, bottom + whole * tx + row
    return np.uint64(left + q if q < whole_across else right)
