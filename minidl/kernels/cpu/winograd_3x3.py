"""The transforms of Winograd's convolutions F(4x4, 3x3) and F(2x2, 3x3), over the channels of a band of tiles."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from .compiling import jit
from .winograd_bands import LINE, MOST, U1, U2, U3, U4, U5, U6, VS, copy_band, finish

F2, F4, F5, F8 = (np.float32(i) for i in (2, 4, 5, 8))


@jit
def image_to_tiles_4(lines, v, images, h, top, left, ty, tx, c, first, last):
    """B^T d B of the 6x6 neighbours of each tile, for bands first..last of all images."""
    length = (4 * tx + 2) * c
    band, t = np.empty((6, length), lines.dtype), np.empty((6, LINE), lines.dtype)
    flat, uc, ul = band.reshape(-1), np.uint64(c), np.uint64(length)
    tile = np.uint64(0)
    for number in range(first, last):
        i = number // ty
        copy_band(lines[i * h : (i + 1) * h], band, 4 * (number % ty) - top, h, left * c)
        for j in range(ul):
            d0, d1, d2 = flat[j], flat[ul + j], flat[U2 * ul + j]
            d3, d4, d5 = flat[U3 * ul + j], flat[U4 * ul + j], flat[U5 * ul + j]
            a, b, e, f = d4 - F4 * d2, d3 - F4 * d1, d4 - d2, F2 * (d3 - d1)
            t[0, j], t[1, j], t[2, j] = F4 * d0 - F5 * d2 + d4, a + b, a - b
            t[3, j], t[4, j], t[5, j] = e + f, e - f, F4 * d1 - F5 * d3 + d5
        for q in range(np.uint64(tx)):
            o = U4 * q * uc
            for i in range(U6):
                at = i * U6 * VS + tile * uc
                for j in range(uc):
                    d0, d1, d2 = t[i, o + j], t[i, o + uc + j], t[i, o + U2 * uc + j]
                    d3, d4, d5 = t[i, o + U3 * uc + j], t[i, o + U4 * uc + j], t[i, o + U5 * uc + j]
                    a, b, e, f = d4 - F4 * d2, d3 - F4 * d1, d4 - d2, F2 * (d3 - d1)
                    v[at + j], v[at + VS + j] = F4 * d0 - F5 * d2 + d4, a + b
                    v[at + U2 * VS + j], v[at + U3 * VS + j] = a - b, e + f
                    v[at + U4 * VS + j], v[at + U5 * VS + j] = e - f, F4 * d1 - F5 * d3 + d5
            tile += U1


@jit
def tiles_to_image_4(m, y, ty, tx, b, slope, linear, first, last):
    """A^T m A of each tile, its bias and activation, for bands first..last."""
    _, oh, ow, f = y.shape
    uf, tile = np.uint64(f), np.uint64(0)
    t, out = np.empty((4, 6 * MOST), y.dtype), np.empty((4, MOST), y.dtype)
    for number in range(first, last):
        i, top = number // ty, 4 * (number % ty)
        for q in range(tx):
            for k in range(U6):
                at, o = k * VS + tile * uf, k * uf
                for j in range(uf):
                    m0, m1, m2 = m[at + j], m[at + U6 * VS + j], m[at + U6 * U2 * VS + j]
                    m3, m4, m5 = m[at + U6 * U3 * VS + j], m[at + U6 * U4 * VS + j], m[at + U6 * U5 * VS + j]
                    s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    t[0, o + j], t[1, o + j] = m0 + s + s2, d + F2 * d2
                    t[2, o + j], t[3, o + j] = s + F4 * s2, d + F8 * d2 + m5
            for p in range(min(4, oh - top)):
                for j in range(uf):
                    m0, m1, m2 = t[p, j], t[p, uf + j], t[p, U2 * uf + j]
                    m3, m4, m5 = t[p, U3 * uf + j], t[p, U4 * uf + j], t[p, U5 * uf + j]
                    s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    out[0, j], out[1, j] = m0 + s + s2, d + F2 * d2
                    out[2, j], out[3, j] = s + F4 * s2, d + F8 * d2 + m5
                for r in range(min(4, ow - 4 * q)):
                    finish(out[r], y[i, top + p, 4 * q + r], b, slope, linear)
            tile += U1


@jit
def gradient_to_tiles_4(lines, v, oh, ty, tx, f, first, last):
    """A g A^T of the 4x4 gradients of each tile: the transpose of `tiles_to_image_4`."""
    length = 4 * tx * f
    band, t = np.empty((4, length), lines.dtype), np.empty((6, LINE), lines.dtype)
    flat, uf, ul = band.reshape(-1), np.uint64(f), np.uint64(length)
    tile = np.uint64(0)
    for number in range(first, last):
        i = number // ty
        copy_band(lines[i * oh : (i + 1) * oh], band, 4 * (number % ty), oh, 0)
        for j in range(ul):
            g0, g1, g2, g3 = flat[j], flat[ul + j], flat[U2 * ul + j], flat[U3 * ul + j]
            s, d, s2, d2 = g0 + g2, g1 + g3, g0 + F4 * g2, F2 * g1 + F8 * g3
            t[0, j], t[1, j], t[2, j] = g0, s + d, s - d
            t[3, j], t[4, j], t[5, j] = s2 + d2, s2 - d2, g3
        for q in range(np.uint64(tx)):
            o = U4 * q * uf
            for i in range(U6):
                at = i * U6 * VS + tile * uf
                for j in range(uf):
                    g0, g1, g2, g3 = (
                        t[i, o + j],
                        t[i, o + uf + j],
                        t[i, o + U2 * uf + j],
                        t[i, o + U3 * uf + j],
                    )
                    s, d, s2, d2 = g0 + g2, g1 + g3, g0 + F4 * g2, F2 * g1 + F8 * g3
                    v[at + j], v[at + VS + j], v[at + U2 * VS + j] = g0, s + d, s - d
                    v[at + U3 * VS + j], v[at + U4 * VS + j], v[at + U5 * VS + j] = s2 + d2, s2 - d2, g3
            tile += U1


# F(2x2, 3x3) ----------------------------------------------------------------------------------------


@jit
def image_to_tiles_2(lines, v, images, h, top, left, ty, tx, c, first, last):
    """B^T d B of the 4x4 neighbours of each tile."""
    length = (2 * tx + 2) * c
    band, t = np.empty((4, length), lines.dtype), np.empty((4, LINE), lines.dtype)
    flat, uc, ul = band.reshape(-1), np.uint64(c), np.uint64(length)
    tile = np.uint64(0)
    for number in range(first, last):
        i = number // ty
        copy_band(lines[i * h : (i + 1) * h], band, 2 * (number % ty) - top, h, left * c)
        for j in range(ul):
            d0, d1, d2, d3 = flat[j], flat[ul + j], flat[U2 * ul + j], flat[U3 * ul + j]
            t[0, j], t[1, j], t[2, j], t[3, j] = d2 - d0, d1 + d2, d2 - d1, d3 - d1
        for q in range(np.uint64(tx)):
            o = U2 * q * uc
            for i in range(U4):
                at = i * U4 * VS + tile * uc
                for j in range(uc):
                    d0, d1, d2, d3 = (
                        t[i, o + j],
                        t[i, o + uc + j],
                        t[i, o + U2 * uc + j],
                        t[i, o + U3 * uc + j],
                    )
                    v[at + j], v[at + VS + j] = d2 - d0, d1 + d2
                    v[at + U2 * VS + j], v[at + U3 * VS + j] = d2 - d1, d3 - d1
            tile += U1


@jit
def tiles_to_image_2(m, y, ty, tx, b, slope, linear, first, last):
    """A^T m A of each tile, its bias and activation."""
    _, oh, ow, f = y.shape
    uf, tile = np.uint64(f), np.uint64(0)
    t, out = np.empty((2, 4 * MOST), y.dtype), np.empty((2, MOST), y.dtype)
    for number in range(first, last):
        i, top = number // ty, 2 * (number % ty)
        for q in range(tx):
            for k in range(U4):
                at, o = k * VS + tile * uf, k * uf
                for j in range(uf):
                    m0, m1, m2 = m[at + j], m[at + U4 * VS + j], m[at + U4 * U2 * VS + j]
                    t[0, o + j], t[1, o + j] = m0 + m1 + m2, m1 - m2 + m[at + U4 * U3 * VS + j]
            for p in range(min(2, oh - top)):
                for j in range(uf):
                    m0, m1, m2, m3 = t[p, j], t[p, uf + j], t[p, U2 * uf + j], t[p, U3 * uf + j]
                    out[0, j], out[1, j] = m0 + m1 + m2, m1 - m2 + m3
                for r in range(min(2, ow - 2 * q)):
                    finish(out[r], y[i, top + p, 2 * q + r], b, slope, linear)
            tile += U1
