"""Reference kernels of pooling, which slides a window over an image.

Images are NHWC. `pads` is ((top, bottom), (left, right)); `kernel`, `strides` and `out` are (vertical, horizontal).
Each thread takes its share of the images.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Array, array_module
from ..shapes import Pads, Pair
from .threads import over_rows


def pad_image(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """(N, H, W, C) framed by `value`."""
    if pads == ((0, 0), (0, 0)):
        return x
    return array_module(x).pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def window_slices(
    out: Pair, kernel: Pair, strides: Pair
) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """(ky, kx, index): `index` takes from the padded image what each output sees at offset (ky, kx)."""
    rows, columns = ((n - 1) * s + 1 for n, s in zip(out, strides, strict=True))
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            yield (
                ky,
                kx,
                (slice(None), slice(ky, ky + rows, strides[0]), slice(kx, kx + columns, strides[1])),
            )


def unpad(x: Array, pads: Pads) -> Array:
    """The inside of a padded image."""
    (top, bottom), (left, right) = pads
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def padded_zeros(shape: tuple[int, ...], pads: Pads, like: Array) -> Array:
    """Zeros for an image of `shape` (N, H, W, C) with its frame."""
    n, h, w, c = shape
    return array_module(like).zeros((n, h + sum(pads[0]), w + sum(pads[1]), c), dtype=like.dtype)


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
        for ky, kx, index in window_slices(out, kernel, strides):
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


def max_pool_grad(
    dy: Array, where: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads
) -> Array:
    """Send each gradient to the one pixel that won its window."""
    dx = padded_zeros(shape, pads, dy)
    apart = strides[0] >= kernel[0] and strides[1] >= kernel[1]  # no pixel lies in two windows

    def share(images: slice) -> None:
        target = dx[images]
        for ky, kx, index in window_slices(dy.shape[1:3], kernel, strides):
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
    y = sum(padded[index] for _, _, index in window_slices(out, kernel, strides))
    return y / _pixels(x, x.shape, out, kernel, strides, pads, count_pads)


def avg_pool_grad(
    dy: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads, count_pads: bool
) -> Array:
    """Spread each gradient evenly over its window."""
    dx = padded_zeros(shape, pads, dy)
    share = dy / _pixels(dy, shape, dy.shape[1:3], kernel, strides, pads, count_pads)
    for _, _, index in window_slices(dy.shape[1:3], kernel, strides):
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
