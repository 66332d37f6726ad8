"""Reference kernels that slide a window over an image: convolution and pooling.

Images are NHWC, conv weights (KH, KW, C, F). `pads` is ((top, bottom), (left, right)); `kernel`,
`strides`, `dilation` and `out` are (vertical, horizontal). Each thread takes its share of the images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..backend import Array, array_module
from ..shapes import Pads, Pair
from .matrices import MULTIPLICATION, delivered
from .threads import over_rows


def pad_image(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """(N, H, W, C) framed by `value`."""
    if pads == ((0, 0), (0, 0)):
        return x
    return array_module(x).pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def window_slices(
    out: Pair, kernel: Pair, strides: Pair, dilation: Pair
) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """(ky, kx, index): `index` takes from the padded image what each output sees at offset (ky, kx)."""
    rows, columns = ((n - 1) * s + 1 for n, s in zip(out, strides, strict=True))
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            top, left = ky * dilation[0], kx * dilation[1]
            yield (
                ky,
                kx,
                (slice(None), slice(top, top + rows, strides[0]), slice(left, left + columns, strides[1])),
            )


def unpad(x: Array, pads: Pads) -> Array:
    """The inside of a padded image."""
    (top, bottom), (left, right) = pads
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def padded_zeros(shape: tuple[int, ...], pads: Pads, like: Array) -> Array:
    """Zeros for an image of `shape` (N, H, W, C) with its frame."""
    n, h, w, c = shape
    return array_module(like).zeros((n, h + sum(pads[0]), w + sum(pads[1]), c), dtype=like.dtype)


# Convolution ----------------------------------------------------------------------------------------


def im2col(x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair) -> Array:
    """Rows of what each output pixel sees: (N * OH * OW, KH * KW * C)."""
    xp = array_module(x)
    if x.shape[3] == 1:  # pixels of a line are neighbours, those of a window are not: a line for each offset
        padded = pad_image(x, pads)
        lines = xp.stack([padded[index] for _, _, index in window_slices(out, kernel, strides, dilation)])
        return lines.reshape(kernel[0] * kernel[1], len(x) * out[0] * out[1]).T
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    windows = xp.lib.stride_tricks.sliding_window_view(pad_image(x, pads), reach, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(
        len(x) * out[0] * out[1], kernel[0] * kernel[1] * x.shape[3]
    )


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
    """(N, H, W, C) * (KH, KW, C, F) + (F,) -> (N, OH, OW, F), as one matrix product; then `leaky_relu`.

    There is one algorithm here; the compiled twin has several.
    """
    xp, flat = array_module(x), w.reshape(-1, w.shape[3])
    y = xp.empty((len(x), *out, w.shape[3]), dtype=xp.result_type(x, w))

    def share(images: slice) -> None:
        cols = im2col(x[images], out, w.shape[:2], strides, pads, dilation)
        rows = y[images].reshape(-1, w.shape[3])
        xp.matmul(cols, flat, out=rows)  # (N OH OW, KH KW C) @ (KH KW C, F)
        if b is not None:
            rows += b
        if slope is not None:
            xp.maximum(rows, slope * rows if slope else 0, out=rows)

    over_rows(share, x, MULTIPLICATION * y.size * len(flat))
    return y


def conv2d_grad_input(
    dy: Array,
    w: Array,
    shape: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv2d`, without bias and activation, with respect to x of `shape`."""
    dx = padded_zeros(shape, pads, dy)

    def share(images: slice) -> None:
        g, target = dy[images], dx[images]
        rows = g.reshape(-1, w.shape[3])
        for ky, kx, index in window_slices(dy.shape[1:3], w.shape[:2], strides, dilation):
            seen = rows @ w[ky, kx].T  # all offsets at once would be KH KW times as much, and leave the cache
            target[index] += seen.reshape(*g.shape[:3], w.shape[2])

    over_rows(share, dy, MULTIPLICATION * dy.size * w[..., 0].size)
    return unpad(dx, pads)


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
    """Gradient of `conv2d` with respect to w of `shape`, written to `into` if given.

    The columns are made again, not kept.
    """

    def share(images: slice) -> Array:
        cols = im2col(x[images], dy.shape[1:3], shape[:2], strides, pads, dilation)
        return (cols.T @ dy[images].reshape(-1, shape[3])).reshape(shape)

    return delivered(over_rows(share, dy, MULTIPLICATION * dy.size * math.prod(shape[:3])), into)


# Pooling --------------------------------------------------------------------------------------------


def max_pool(
    x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, places: bool = True
) -> tuple[Array, Array | None]:
    """Largest value of each window and its offset ky * KW + kx (None without `places`); of equal ones the first counts."""
    xp = array_module(x)
    offset_type = xp.uint8 if kernel[0] * kernel[1] <= 256 else xp.int32
    y = xp.empty((len(x), *out, x.shape[3]), dtype=x.dtype)
    where = xp.zeros(y.shape, dtype=offset_type) if places else None

    def share(images: slice) -> None:
        padded, largest = pad_image(x[images], pads, value=-xp.inf), y[images]
        for ky, kx, index in window_slices(out, kernel, strides, (1, 1)):
            seen = padded[index]  # (N, OH, OW, C)
            if ky == kx == 0:
                largest[...] = seen
                continue
            if where is not None:
                larger, offset = (seen > largest).view(xp.uint8), where[images]
                offset += larger * (
                    offset_type(ky * kernel[1] + kx) - offset
                )  # unsigned; it may wrap on the way
            xp.maximum(largest, seen, out=largest)

    over_rows(share, x, x.size)
    return y, where


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
    """`max_pool` (out, kernel, strides, pads) of `conv2d`."""
    return max_pool(conv2d(x, w, b, slope, out, strides, pads, dilation, algorithm), *pool, places)


def max_pool_grad(
    dy: Array, where: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads
) -> Array:
    """Send each gradient to the one pixel that won its window."""
    dx = padded_zeros(shape, pads, dy)
    apart = strides[0] >= kernel[0] and strides[1] >= kernel[1]  # no pixel lies in two windows

    def share(images: slice) -> None:
        target = dx[images]
        for ky, kx, index in window_slices(dy.shape[1:3], kernel, strides, (1, 1)):
            won = where[images] == ky * kernel[1] + kx
            if apart:
                array_module(dy).multiply(dy[images], won, out=target[index])
            else:
                target[index] += dy[images] * won

    over_rows(share, dy, dx.size)
    return unpad(dx, pads)


def avg_pool(x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, count_pads: bool) -> Array:
    """Mean of each window; padding counts as zeros if `count_pads`, else not at all."""
    padded = pad_image(x, pads)
    y = sum(padded[index] for _, _, index in window_slices(out, kernel, strides, (1, 1)))
    return y / _pixels(x, x.shape, out, kernel, strides, pads, count_pads)


def avg_pool_grad(
    dy: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads, count_pads: bool
) -> Array:
    """Spread each gradient evenly over its window."""
    dx = padded_zeros(shape, pads, dy)
    share = dy / _pixels(dy, shape, dy.shape[1:3], kernel, strides, pads, count_pads)
    for _, _, index in window_slices(dy.shape[1:3], kernel, strides, (1, 1)):
        dx[index] += share
    return unpad(dx, pads)


def _pixels(
    like: Array, shape: tuple[int, ...], out: Pair, kernel: Pair, strides: Pair, pads: Pads, count_pads: bool
) -> Array:
    """How many pixels each window averages, (OH, OW, 1)."""
    xp, sides = array_module(like), []
    for size, n, k, s, (before, _) in zip(shape[1:3], out, kernel, strides, pads, strict=True):
        start = xp.arange(n) * s - before
        inside = xp.minimum(start + k, size) - xp.maximum(start, 0)
        sides.append(xp.full(n, k) if count_pads else inside)
    return (sides[0][:, None] * sides[1]).astype(like.dtype)[:, :, None]
