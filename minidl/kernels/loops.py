"""The loops that `cpu` compiles with Numba, in plain Python: arrays are contiguous, sizes are integers."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

# h w c: image; oh ow: output; kh kw: kernel; sh sw: strides; dh dw: dilation; top left: padding


def fill_columns(lines, cols, h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw):
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


def add_columns(lines, cols, h, w, c, oh, ow, kh, kw, sh, sw, top, left, dh, dw):
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


def max_windows(x, y, where, kh, kw, sh, sw, top, left):
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


def give_to_winners(dy, where, dx, kh, kw, sh, sw, top, left):
    n, oh, ow, c = dy.shape
    _, h, w, _ = dx.shape
    for i in range(n):
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


def moments(x):
    """Mean and biased variance of each column: sums of 128 rows in x's precision, of those in double."""
    m, c = x.shape
    shift = np.zeros(c, x.dtype)
    for i in range(min(m, 128)):
        for j in range(c):
            shift[j] += x[i, j]
    shift /= x.dtype.type(min(m, 128))  # close to the mean, so that squares do not cancel
    total, squares = np.zeros(c), np.zeros(c)
    part, part2 = np.empty(c, x.dtype), np.empty(c, x.dtype)
    for start in range(0, m, 128):
        part[:] = 0
        part2[:] = 0
        for i in range(start, min(start + 128, m)):
            for j in range(c):
                d = x[i, j] - shift[j]
                part[j] += d
                part2[j] += d * d
        for j in range(c):
            total[j] += part[j]
            squares[j] += part2[j]
    offset = total / m
    return shift + offset, np.maximum(squares / m - offset * offset, 0.0)


def normalise(x, mean, inverse_std, gamma, beta, y, normalised):
    m, c = x.shape
    for i in range(m):
        for j in range(c):
            n = (x[i, j] - mean[j]) * inverse_std[j]
            normalised[i, j] = n
            y[i, j] = n * gamma[j] + beta[j]


def gradient_sums(dy, normalised):
    m, c = dy.shape
    total, products = np.zeros(c), np.zeros(c)
    part, part2 = np.empty(c, dy.dtype), np.empty(c, dy.dtype)
    for start in range(0, m, 128):
        part[:] = 0
        part2[:] = 0
        for i in range(start, min(start + 128, m)):
            for j in range(c):
                part[j] += dy[i, j]
                part2[j] += dy[i, j] * normalised[i, j]
        for j in range(c):
            total[j] += part[j]
            products[j] += part2[j]
    return total, products


def normalise_grad(dy, normalised, scale, mean_dy, mean_product, dx):
    m, c = dy.shape
    for i in range(m):
        for j in range(c):
            dx[i, j] = (dy[i, j] - mean_dy[j] - normalised[i, j] * mean_product[j]) * scale[j]
