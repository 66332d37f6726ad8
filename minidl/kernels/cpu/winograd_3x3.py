"""The transforms of Winograd's convolution F(4x4, 3x3), over the channels of a band of tiles.

Points are 0, 1, -1, 2, -2 and infinity. A tile at the edge with only 3, 2 or 1 outputs in a direction goes without
-2, without 2, without -1: what the others stand for is what the filters are transformed to in any case, so it is the
image's transform that makes up for the factors x + 2, x - 2 and x + 1 which the others are divided by.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import inlined, jit
from .winograd_bands import LINE, MOST, U0, U4, U6, UL, UM, VS, copy_band, finish, place

F2, F3, F4, F5, F6, F8 = (np.float32(i) for i in (2, 3, 4, 5, 6, 8))


def _image(gap: Any) -> Any:
    """B^T d in one direction; results lie `gap` apart, a constant (see `winograd_bands`)."""
    g2, g3, g4, g5 = (np.uint64(i * int(gap)) for i in range(2, 6))

    @inlined
    def points(m, d, at, step, t, to, count):
        """For m outputs, of d[at], d[at + step] ...; `count` of each, one beside the other."""
        s2 = step + step
        s3, s4 = s2 + step, s2 + s2
        s5 = s4 + step
        if m == 4:
            for j in range(count):
                d0, d1, d2 = d[at + j], d[at + step + j], d[at + s2 + j]
                d3, d4, d5 = d[at + s3 + j], d[at + s4 + j], d[at + s5 + j]
                a, b, e, f = d4 - F4 * d2, d3 - F4 * d1, d4 - d2, F2 * (d3 - d1)
                t[to + j], t[to + gap + j], t[to + g2 + j] = F4 * d0 - F5 * d2 + d4, a + b, a - b
                t[to + g3 + j], t[to + g4 + j], t[to + g5 + j] = e + f, e - f, F4 * d1 - F5 * d3 + d5
        elif m == 3:
            for j in range(count):
                d0, d1, d2 = d[at + j], d[at + step + j], d[at + s2 + j]
                d3, d4 = d[at + s3 + j], d[at + s4 + j]
                t[to + j], t[to + gap + j] = F4 * (d0 - d2) - F2 * (d1 - d3), F3 * (d3 - d2) - F6 * d1
                t[to + g2 + j], t[to + g3 + j] = d3 - F3 * d2 + F2 * d1, F4 * (d3 - d1)
                t[to + g5 + j] = d4 - d2 - F2 * (d3 - d1)
        elif m == 2:
            for j in range(count):
                d0, d1, d2, d3 = d[at + j], d[at + step + j], d[at + s2 + j], d[at + s3 + j]
                t[to + j], t[to + gap + j] = F4 * (d0 - d2), -F3 * (d2 + d1)
                t[to + g2 + j], t[to + g5 + j] = -F3 * (d2 - d1), d3 - d1
        else:
            for j in range(count):
                d0, d1, d2 = d[at + j], d[at + step + j], d[at + s2 + j]
                t[to + j], t[to + gap + j], t[to + g5 + j] = F4 * (d0 - d1), -F6 * d1, d2 - d1

    return points


def _result(gap: Any) -> Any:
    """A^T m in one direction."""
    g2, g3 = (np.uint64(i * int(gap)) for i in range(2, 4))

    @inlined
    def outputs(m, p, at, step, y, to, count):
        s2 = step + step
        s3, s4 = s2 + step, s2 + s2
        s5 = s4 + step
        if m == 4:
            for j in range(count):
                p0, p1, p2 = p[at + j], p[at + step + j], p[at + s2 + j]
                p3, p4, p5 = p[at + s3 + j], p[at + s4 + j], p[at + s5 + j]
                a, b, e, f = p1 + p2, p1 - p2, p3 + p4, p3 - p4
                y[to + j], y[to + gap + j] = p0 + a + e, b + F2 * f
                y[to + g2 + j], y[to + g3 + j] = a + F4 * e, b + F8 * f + p5
        elif m == 3:
            for j in range(count):
                p0, p1, p2 = p[at + j], p[at + step + j], p[at + s2 + j]
                p3, a = p[at + s3 + j], p1 + p2
                y[to + j], y[to + gap + j] = p0 + a + p3, p1 - p2 + F2 * p3
                y[to + g2 + j] = a + F4 * p3 + p[at + s5 + j]
        elif m == 2:
            for j in range(count):
                p1, p2 = p[at + step + j], p[at + s2 + j]
                y[to + j], y[to + gap + j] = p[at + j] + p1 + p2, p1 - p2 + p[at + s5 + j]
        else:
            for j in range(count):
                y[to + j] = p[at + j] + p[at + step + j] + p[at + s5 + j]

    return outputs


def _gradient(gap: Any) -> Any:
    """A g in one direction: the transpose of `_result`."""
    g2, g3, g4, g5 = (np.uint64(i * int(gap)) for i in range(2, 6))

    @inlined
    def points(m, g, at, step, t, to, count):
        s2 = step + step
        s3 = s2 + step
        if m == 4:
            for j in range(count):
                y0, y1, y2, y3 = g[at + j], g[at + step + j], g[at + s2 + j], g[at + s3 + j]
                a, b, e, f = y0 + y2, y1 + y3, y0 + F4 * y2, F2 * y1 + F8 * y3
                t[to + j], t[to + gap + j], t[to + g2 + j] = y0, a + b, a - b
                t[to + g3 + j], t[to + g4 + j], t[to + g5 + j] = e + f, e - f, y3
        elif m == 3:
            for j in range(count):
                y0, y1, y2 = g[at + j], g[at + step + j], g[at + s2 + j]
                a = y0 + y2
                t[to + j], t[to + gap + j], t[to + g2 + j] = y0, a + y1, a - y1
                t[to + g3 + j], t[to + g5 + j] = y0 + F2 * y1 + F4 * y2, y2
        elif m == 2:
            for j in range(count):
                y0, y1 = g[at + j], g[at + step + j]
                t[to + j], t[to + gap + j], t[to + g2 + j], t[to + g5 + j] = y0, y0 + y1, y0 - y1, y1
        else:
            for j in range(count):
                y0 = g[at + j]
                t[to + j], t[to + gap + j], t[to + g5 + j] = y0, y0, y0

    return points


_image_down, _image_along = _image(UL), _image(VS)
_result_down, _result_along = _result(U6 * UM), _result(UM)
_gradient_down, _gradient_along = _gradient(UL), _gradient(VS)


@jit
def image_to_tiles(lines, v, h, top, left, c, grid, block):
    """B^T d B of the 6x6 neighbours of each tile (fewer at the edge), for some bands of a block."""
    (ty, whole_down, down, tx, whole_across, across), length = grid, (4 * grid[3] + 2) * c
    band, t = np.empty((6, length), lines.dtype), np.empty(6 * LINE, lines.dtype)
    flat, uc, ul = band.reshape(-1), np.uint64(c), np.uint64(length)
    for number in range(block[2], block[3]):
        i = number // ty
        copy_band(lines[i * h : (i + 1) * h], band, 4 * (number % ty) - top, h, left * c)
        high = 4 if number % ty < whole_down else down
        _image_down(high, flat, U0, ul, t, U0, ul)
        for q in range(tx):
            wide, at = 4 if q < whole_across else across, place(number, q, grid, block) * uc
            for k in range(U6):
                if not high < k < 5:
                    _image_along(wide, t, k * UL + U4 * np.uint64(q) * uc, uc, v, k * U6 * VS + at, uc)


@jit
def tiles_to_image(m, y, b, slope, linear, grid, block):
    """A^T m A of each tile, its bias and activation, for some bands of a block."""
    (ty, whole_down, down, tx, whole_across, across), f = grid, y.shape[3]
    t, out, uf = np.empty(4 * 6 * MOST, y.dtype), np.empty((4, MOST), y.dtype), np.uint64(f)
    flat = out.reshape(-1)
    for number in range(block[2], block[3]):
        i, top = number // ty, 4 * (number % ty)
        high = 4 if number % ty < whole_down else down
        for q in range(tx):
            wide, at = 4 if q < whole_across else across, place(number, q, grid, block) * uf
            for k in range(U6):
                if not wide < k < 5:
                    _result_down(high, m, k * VS + at, U6 * VS, t, k * uf, uf)
            for p in range(high):
                _result_along(wide, t, np.uint64(p) * U6 * UM, uf, flat, U0, uf)
                for r in range(wide):
                    finish(out[r], y[i, top + p, 4 * q + r], b, slope, linear)


@jit
def gradient_to_tiles(lines, v, oh, f, grid, block):
    """A g A^T of the gradients of each tile: the transpose of `tiles_to_image`."""
    (ty, whole_down, down, tx, whole_across, across), length = grid, 4 * grid[3] * f
    band, t = np.empty((4, length), lines.dtype), np.empty(6 * LINE, lines.dtype)
    flat, uf, ul = band.reshape(-1), np.uint64(f), np.uint64(length)
    for number in range(block[2], block[3]):
        i = number // ty
        copy_band(lines[i * oh : (i + 1) * oh], band, 4 * (number % ty), oh, 0)
        high = 4 if number % ty < whole_down else down
        _gradient_down(high, flat, U0, ul, t, U0, ul)
        for q in range(tx):
            wide, at = 4 if q < whole_across else across, place(number, q, grid, block) * uf
            for k in range(U6):
                if not high < k < 5:
                    _gradient_along(wide, t, k * UL + U4 * np.uint64(q) * uf, uf, v, k * U6 * VS + at, uf)
