"""Resizing of images, bilinear or by averages, as two matrix products."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import Pair, bind, pair


class Resize(Function):
    """y = R x C.T for each image and channel        dx = R.T dy C"""

    def __init__(self, size: Pair):
        self.size = size

    name = "resize"

    def forward(self, x: Array) -> Array:  # (N, H, W, C)
        bind(self.name, "images are (N, H, W, C)", x=("N H W C", x))
        self.rows = self.matrix(x.shape[1], self.size[0], x.dtype, self.xp)  # (OH, H)
        self.columns = self.matrix(x.shape[2], self.size[1], x.dtype, self.xp)  # (OW, W)
        return self._both_axes(x, self.rows, self.columns)

    def backward(self, dy: Array) -> Array:
        return self._both_axes(dy, self.rows.T, self.columns.T)

    def matrix(self, old: int, new: int, dtype: Any, xp: ModuleType) -> Array:
        return interpolation_matrix(old, new, dtype, xp)

    def _both_axes(self, x: Array, rows: Array, columns: Array) -> Array:
        n, h, w, c = x.shape
        x = self.kernels.matmul(rows, x.reshape(n, h, w * c)).reshape(n, len(rows), w, c)
        return self.kernels.matmul(columns, x)  # a stack of (W, C) matrices


class AdaptiveAvgPool2D(Resize):
    """The same with rows that average: bin i of n covers pixels floor(i H / n) to ceil((i + 1) H / n)."""

    name = "adaptive_avg_pool2d"

    def matrix(self, old: int, new: int, dtype: Any, xp: ModuleType) -> Array:
        return averaging_matrix(old, new, dtype, xp)


def averaging_matrix(old: int, new: int, dtype: Any, xp: ModuleType) -> Array:
    """(new, old) weights of means over bins."""
    bins, pixels = xp.arange(new)[:, None], xp.arange(old)
    inside = (pixels >= bins * old // new) & (pixels < -(-(bins + 1) * old // new))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(dtype)


def interpolation_matrix(old: int, new: int, dtype: Any, xp: ModuleType) -> Array:
    """(new, old) weights of linear interpolation; centres of pixels are at half-integers, edges repeat."""
    position = ((xp.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    lower = xp.floor(position).astype(xp.int64)
    upper = xp.minimum(lower + 1, old - 1)
    share = position - lower
    pixels = xp.arange(old)
    return (
        (pixels == lower[:, None]) * (1 - share)[:, None] + (pixels == upper[:, None]) * share[:, None]
    ).astype(dtype)


def resize(x: Any, size: int | Pair) -> Tensor:
    """Resize images to `size` = (OH, OW) by bilinear interpolation.

    Half-pixel centres and no antialiasing: ``tf.image.resize``, and PyTorch's ``interpolate`` with
    ``align_corners=False``.

    Parameters
    ----------
    x : Tensor, shape (N, H, W, C)
    size : int or (OH, OW)

    Returns
    -------
    Tensor, shape (N, OH, OW, C)
    """
    return Resize(pair(size, "resize: size"))(x)


def adaptive_avg_pool2d(x: Any, size: int | Pair) -> Tensor:
    """Average images down to `size` = (OH, OW), whatever theirs is: PyTorch's bins, which may overlap.

    Parameters and shapes as in `resize`.
    """
    return AdaptiveAvgPool2D(pair(size, "adaptive_avg_pool2d: size"))(x)
