"""The transforms of Winograd's convolution F(3x3, 5x5): points 0, 1, -1, 2, -2, 1/2 and infinity.

The factor x - 1/2 is taken first (`e`); what is left is the transform of F(4x4, 3x3).
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from .compiling import jit
from .winograd_bands import LINE, MOST, U1, U2, U3, U4, U5, U6, U7, VS, copy_band, finish

F2, F4, F5, HALF, QUARTER = (np.float32(i) for i in (2, 4, 5, 0.5, 0.25))


@jit
def image_to_tiles(lines, v, h, top, left, c, grid, block):
    """B^T d B of the 7x7 neighbours of each tile, for some bands of a block."""
    ty, tx, length = grid[0], grid[3], (3 * grid[3] + 4) * c
    band, t = np.empty((7, length), lines.dtype), np.empty((7, LINE), lines.dtype)
    flat, uc, ul = band.reshape(-1), np.uint64(c), np.uint64(length)
    tile = np.uint64((block[2] - block[0]) * tx)
    for number in range(block[2], block[3]):
        i = number // ty
        copy_band(lines[i * h : (i + 1) * h], band, 3 * (number % ty) - top, h, left * c)
        for j in range(ul):
            d0, d1, d2, d3 = flat[j], flat[ul + j], flat[U2 * ul + j], flat[U3 * ul + j]
            d4, d5, d6 = flat[U4 * ul + j], flat[U5 * ul + j], flat[U6 * ul + j]
            e0, e1, e2 = d1 - HALF * d0, d2 - HALF * d1, d3 - HALF * d2
            e3, e4, e5 = d4 - HALF * d3, d5 - HALF * d4, d6 - HALF * d5
            a, b, e, f = e4 - F4 * e2, e3 - F4 * e1, e4 - e2, F2 * (e3 - e1)
            t[0, j], t[1, j], t[2, j] = F4 * e0 - F5 * e2 + e4, a + b, a - b
            t[3, j], t[4, j], t[5, j] = e + f, e - f, F4 * d1 - F5 * d3 + d5
            t[6, j] = F4 * e1 - F5 * e3 + e5
        for q in range(np.uint64(tx)):
            o = U3 * q * uc
            for i in range(U7):
                at = i * U7 * VS + tile * uc
                for j in range(uc):
                    d0, d1, d2, d3 = (
                        t[i, o + j],
                        t[i, o + uc + j],
                        t[i, o + U2 * uc + j],
                        t[i, o + U3 * uc + j],
                    )
                    d4, d5, d6 = t[i, o + U4 * uc + j], t[i, o + U5 * uc + j], t[i, o + U6 * uc + j]
                    e0, e1, e2 = d1 - HALF * d0, d2 - HALF * d1, d3 - HALF * d2
                    e3, e4, e5 = d4 - HALF * d3, d5 - HALF * d4, d6 - HALF * d5
                    a, b, e, f = e4 - F4 * e2, e3 - F4 * e1, e4 - e2, F2 * (e3 - e1)
                    v[at + j], v[at + VS + j], v[at + U2 * VS + j] = F4 * e0 - F5 * e2 + e4, a + b, a - b
                    v[at + U3 * VS + j], v[at + U4 * VS + j] = e + f, e - f
                    v[at + U5 * VS + j] = F4 * d1 - F5 * d3 + d5
                    v[at + U6 * VS + j] = F4 * e1 - F5 * e3 + e5
            tile += U1


@jit
def tiles_to_image(m, y, b, slope, linear, grid, block):
    """A^T m A of each tile, its bias and activation, for some bands of a block."""
    ty, tx, (_, oh, ow, f) = grid[0], grid[3], y.shape
    uf, tile = np.uint64(f), np.uint64((block[2] - block[0]) * tx)
    t, out = np.empty((3, 7 * MOST), y.dtype), np.empty((3, MOST), y.dtype)
    for number in range(block[2], block[3]):
        i, top = number // ty, 3 * (number % ty)
        for q in range(tx):
            for k in range(U7):
                at, o, row = k * VS + tile * uf, k * uf, U7 * VS
                for j in range(uf):
                    m0, m1, m2, m3 = m[at + j], m[at + row + j], m[at + U2 * row + j], m[at + U3 * row + j]
                    m4, m5, m6 = m[at + U4 * row + j], m[at + U5 * row + j], m[at + U6 * row + j]
                    s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    t[0, o + j], t[1, o + j] = m0 + s + s2 + m5, d + F2 * d2 + HALF * m5
                    t[2, o + j] = s + F4 * s2 + QUARTER * m5 + m6
            for p in range(min(3, oh - top)):
                for j in range(uf):
                    m0, m1, m2, m3 = t[p, j], t[p, uf + j], t[p, U2 * uf + j], t[p, U3 * uf + j]
                    m4, m5, m6 = t[p, U4 * uf + j], t[p, U5 * uf + j], t[p, U6 * uf + j]
                    s, d, s2, d2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
                    out[0, j], out[1, j] = m0 + s + s2 + m5, d + F2 * d2 + HALF * m5
                    out[2, j] = s + F4 * s2 + QUARTER * m5 + m6
                for r in range(min(3, ow - 3 * q)):
                    finish(out[r], y[i, top + p, 3 * q + r], b, slope, linear)
            tile += U1


@jit
def gradient_to_tiles(lines, v, oh, f, grid, block):
    """A g A^T of the 3x3 gradients of each tile: the transpose of `tiles_to_image`."""
    ty, tx, length = grid[0], grid[3], 3 * grid[3] * f
    band, t = np.empty((3, length), lines.dtype), np.empty((7, LINE), lines.dtype)
    flat, uf, ul = band.reshape(-1), np.uint64(f), np.uint64(length)
    tile = np.uint64((block[2] - block[0]) * tx)
    for number in range(block[2], block[3]):
        i = number // ty
        copy_band(lines[i * oh : (i + 1) * oh], band, 3 * (number % ty), oh, 0)
        for j in range(ul):
            g0, g1, g2 = flat[j], flat[ul + j], flat[U2 * ul + j]
            s, s4, d = g0 + g2, g0 + F4 * g2, F2 * g1
            t[0, j], t[1, j], t[2, j], t[3, j] = g0, s + g1, s - g1, s4 + d
            t[4, j], t[5, j], t[6, j] = s4 - d, g0 + HALF * g1 + QUARTER * g2, g2
        for q in range(np.uint64(tx)):
            o = U3 * q * uf
            for i in range(U7):
                at = i * U7 * VS + tile * uf
                for j in range(uf):
                    g0, g1, g2 = t[i, o + j], t[i, o + uf + j], t[i, o + U2 * uf + j]
                    s, s4, d = g0 + g2, g0 + F4 * g2, F2 * g1
                    v[at + j], v[at + VS + j], v[at + U2 * VS + j] = g0, s + g1, s - g1
                    v[at + U3 * VS + j], v[at + U4 * VS + j] = s4 + d, s4 - d
                    v[at + U5 * VS + j], v[at + U6 * VS + j] = g0 + HALF * g1 + QUARTER * g2, g2
            tile += U1


@jit
def tiles_to_gradient(z, lines, h, top, left, c, grid, block):
    """Add B z B^T of each tile to the pixels that it saw: the transpose of `image_to_tiles`."""
    ty, tx, length = grid[0], grid[3], (3 * grid[3] + 4) * c
    t, band = np.empty((7, LINE), lines.dtype), np.empty((7, LINE), lines.dtype)
    uc, ul, tile = np.uint64(c), np.uint64(length), np.uint64((block[2] - block[0]) * tx)
    for number in range(block[2], block[3]):
        i, above = number // ty, 3 * (number % ty) - top
        t[:, :length] = 0
        for q in range(np.uint64(tx)):
            o = U3 * q * uc
            for k in range(U7):
                at = k * U7 * VS + tile * uc
                for j in range(uc):
                    z0, z1, z2, z3 = z[at + j], z[at + VS + j], z[at + U2 * VS + j], z[at + U3 * VS + j]
                    z4, z5, z6 = z[at + U4 * VS + j], z[at + U5 * VS + j], z[at + U6 * VS + j]
                    s, d, s2, d2 = z1 + z2, z1 - z2, z3 + z4, F2 * (z3 - z4)
                    e0, e1, e2 = F4 * z0, F4 * (z6 - d) - d2, -F5 * z0 - F4 * s - s2
                    e3, e4, e5 = d + d2 - F5 * z6, z0 + s + s2, z6
                    t[k, o + j] -= HALF * e0
                    t[k, o + uc + j] += e0 - HALF * e1 + F4 * z5
                    t[k, o + U2 * uc + j] += e1 - HALF * e2
                    t[k, o + U3 * uc + j] += e2 - HALF * e3 - F5 * z5
                    t[k, o + U4 * uc + j] += e3 - HALF * e4
                    t[k, o + U5 * uc + j] += e4 - HALF * e5 + z5
                    t[k, o + U6 * uc + j] += e5
            tile += U1
        for j in range(ul):
            z0, z1, z2, z3, z4, z5, z6 = t[0, j], t[1, j], t[2, j], t[3, j], t[4, j], t[5, j], t[6, j]
            s, d, s2, d2 = z1 + z2, z1 - z2, z3 + z4, F2 * (z3 - z4)
            e0, e1, e2 = F4 * z0, F4 * (z6 - d) - d2, -F5 * z0 - F4 * s - s2
            e3, e4, e5 = d + d2 - F5 * z6, z0 + s + s2, z6
            band[0, j], band[1, j] = -HALF * e0, e0 - HALF * e1 + F4 * z5
            band[2, j], band[3, j] = e1 - HALF * e2, e2 - HALF * e3 - F5 * z5
            band[4, j], band[5, j], band[6, j] = e3 - HALF * e4, e4 - HALF * e5 + z5, e5
        for k in range(7):
            if 0 <= above + k < h:
                line = lines[i * h + above + k]
                begin, end = max(-left * c, 0), min(line.size, length - left * c)
                seen, more = line[begin:end], band[k, begin + left * c : end + left * c]
                for j in range(end - begin):
                    seen[j] += more[j]
