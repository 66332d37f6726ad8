"""Reference kernels of convolution, by one algorithm: MEC (Cho and Brand 2017, "MEC: Memory-efficient Convolution").

Images are NHWC, weights (KH, KW, C, F). `pads` is ((top, bottom), (left, right)); `kernel`, `strides`, `dilation` and
`out` are (vertical, horizontal).

For each line of the output the KH lines that it sees are laid side by side, column by column. The window of an output
pixel is KW * KH * C neighbours in memory then, and that of the next pixel overlaps it. So all windows at one place in
their lines are a matrix whose rows lie a line apart, which BLAS takes as it is: one product for each column of the
output, of KH times the image where im2col copies it KH KW times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from ..backend import Array, array_module
from ..shapes import Pads, Pair
from .matrices import MULTIPLICATION, bias_activation, delivered
from .threads import over_rows
from .windows import max_pool, pad_image, padded_zeros, unpad

Result = TypeVar("Result")

BLOCK = 1 << 21  # numbers that a thread lays out at a time, or those of one image


class Lines:
    """Images of one shape as lines for one geometry."""

    def __init__(
        self, shape: tuple[int, ...], out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair
    ):
        self.out, self.kernel, self.strides, self.pads, self.dilation = out, kernel, strides, pads, dilation
        width, apart = shape[2] + sum(pads[1]), dilation[1]
        # columns of an image in the order that makes those of a window neighbours
        self.order = [x for first in range(apart) for x in range(first, width, apart)]
        places = {x: place for place, x in enumerate(self.order)}
        pixel, size = kernel[0] * shape[3], kernel[0] * kernel[1] * shape[3]
        starts = [places[x * strides[1]] * pixel for x in range(out[1])]
        self.windows = [slice(start, start + size) for start in starts]
        self.numbers = out[0] * width * pixel  # of an image

    def over_images(self, work: Callable[[slice], Result], x: Array, products: int) -> list[Result]:
        """Results of `work` over blocks of the images; `products` of two numbers are all of it."""
        block = 1 << max(BLOCK // max(self.numbers, 1), 1).bit_length() - 1  # even parts of most batches
        return over_rows(work, x, MULTIPLICATION * products, at_most=block)

    def of(self, x: Array) -> Array:
        """(n OH, W KH C) of some images: ``[:, windows[ox]]`` is what column ox of the output sees."""
        xp, padded = array_module(x), pad_image(x, self.pads)
        if self.dilation[1] > 1:
            padded = xp.take(padded, xp.asarray(self.order), axis=2)
        lines = [padded[:, rows] for rows in self.rows()]
        side_by_side = xp.stack(lines, axis=3) if len(lines) > 1 else lines[0]
        return side_by_side.reshape(len(x) * self.out[0], self.numbers // self.out[0])

    def rows(self) -> list[slice]:
        """For each ky, the rows of a padded image that lines of the output see there."""
        reach, (step, _), (apart, _) = (self.out[0] - 1) * self.strides[0] + 1, self.strides, self.dilation
        return [slice(top, top + reach, step) for top in range(0, self.kernel[0] * apart, apart)]

    def seen_by(self, column: int) -> tuple[slice, slice]:
        """(columns of the output, KW - 1 - kx): who sees a column of the padded image, and at which of its places."""
        step, apart = self.strides[1], self.dilation[1]
        pairs = [divmod(column - kx * apart, step) for kx in reversed(range(self.kernel[1]))]
        found = [(ox, i) for i, (ox, rest) in enumerate(pairs) if not rest and 0 <= ox < self.out[1]]
        if not found:
            return slice(0), slice(0)
        (first, start), (last, end), common = found[0], found[-1], math.gcd(step, apart)
        return slice(first, last + 1, apart // common), slice(start, end + 1, step // common)


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
    """(N, H, W, C) * (KH, KW, C, F) + (F,) -> (N, OH, OW, F); then `leaky_relu`.

    There is one algorithm here; the compiled twin has several.
    """
    xp, size = array_module(x), (len(x), *out, w.shape[3])
    if _sees_no_neighbours(w.shape, strides, pads):
        x, out = _in_one_column(x), (out[0] * out[1], 1)
    lines = Lines(x.shape, out, w.shape[:2], strides, pads, dilation)
    filters = w.transpose(1, 0, 2, 3).reshape(-1, w.shape[3])
    y = xp.empty((len(x), *out, w.shape[3]), dtype=xp.result_type(x, w))

    def share(images: slice) -> None:
        seen = lines.of(x[images])
        results = y[images].reshape(len(seen), out[1] * w.shape[3])
        for window, column in zip(lines.windows, _columns(results, w.shape[3]), strict=True):
            xp.matmul(seen[:, window], filters, out=column)
        bias_activation(results, None if b is None else xp.tile(b, out[1]), slope)

    lines.over_images(share, x, y.size * len(filters))
    return y.reshape(size)


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


def conv2d_grad_input(
    dy: Array,
    w: Array,
    shape: tuple[int, ...],
    strides: Pair,
    pads: Pads,
    dilation: Pair,
    algorithm: str = "auto",
) -> Array:
    """Gradient of `conv2d`, without bias and activation, with respect to x of `shape`.

    One product for each column of the image, with the columns of the output that see it: what all its lines give to
    KH lines of the image, which are added up.
    """
    size = shape
    if _sees_no_neighbours(w.shape, strides, pads):
        dy, shape = _in_one_column(dy), (shape[0], shape[1] * shape[2], 1, shape[3])
    lines = Lines(shape, dy.shape[1:3], w.shape[:2], strides, pads, dilation)
    filters = array_module(w).ascontiguousarray(w[:, ::-1].transpose(1, 3, 0, 2))  # (KW reversed, F, KH, C)
    filters = filters.reshape(w.shape[1], w.shape[3], -1)
    dx = padded_zeros(shape, (pads[0], (0, 0)), dy)

    def share(images: slice) -> None:
        g, target = dy[images], dx[images]
        for x in range(shape[2]):
            columns, places = lines.seen_by(x + pads[1][0])
            taken = filters[places].reshape(-1, filters.shape[2])
            given = g[:, :, columns].reshape(len(g) * g.shape[1], len(taken)) @ taken
            given = given.reshape(*g.shape[:2], w.shape[0], w.shape[2])  # (n, OH, KH, C)
            for ky, rows in enumerate(lines.rows()):
                target[:, rows, x] += given[:, :, ky]

    lines.over_images(share, dy, dy.size * w[..., 0].size)
    return unpad(dx, (pads[0], (0, 0))).reshape(size)


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

    The lines are laid out again, not kept.
    """
    if _sees_no_neighbours(shape, strides, pads):
        dy, x = _in_one_column(dy), _in_one_column(x)
    lines = Lines(x.shape, dy.shape[1:3], shape[:2], strides, pads, dilation)

    def share(images: slice) -> Array:
        seen = lines.of(x[images])
        columns = _columns(dy[images].reshape(len(seen), dy.shape[2] * shape[3]), shape[3])
        return delivered([seen[:, w].T @ column for w, column in zip(lines.windows, columns, strict=True)])

    dw = delivered(lines.over_images(share, dy, dy.size * math.prod(shape[:3])))
    return delivered([dw.reshape(shape[1], shape[0], *shape[2:]).transpose(1, 0, 2, 3)], into)


def _columns(lines: Array, filters: int) -> list[Array]:
    """Lines of the output (n OH, OW F) as its columns (n OH, F)."""
    return [lines[:, i : i + filters] for i in range(0, lines.shape[1], filters)]


def _sees_no_neighbours(shape: tuple[int, ...], strides: Pair, pads: Pads) -> bool:
    return (*shape[:2], *strides, *pads[0], *pads[1]) == (1, 1, 1, 1, 0, 0, 0, 0)


def _in_one_column(x: Array) -> Array:
    """(N, H, W, C) as (N, H W, 1, C): for a kernel of 1x1 it is all the same, and one product does for all columns."""
    return x.reshape(len(x), x.shape[1] * x.shape[2], 1, x.shape[3])
