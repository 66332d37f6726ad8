"""Pooling over windows, NHWC."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import Pads, Pair, ShapeError, bind, pair, window_output, window_pads
from .reduce import max, mean

Padding = str | int | Pair | Pads


class Pool(Function):
    """What both kinds share: the geometry of the windows."""

    name = "pool"

    def __init__(self, kernel: Pair, strides: Pair, padding: Padding):
        self.kernel, self.strides, self.padding = kernel, strides, padding

    def remember_windows(self, x: Array) -> Pair:
        """Keep shape and padding of x; return (OH, OW)."""
        bind(self.name, "images are (N, H, W, C)", x=("N H W C", x))
        return self.remember_windows_of(x.shape)

    def remember_windows_of(self, shape: tuple[int, ...]) -> Pair:
        """The same for images of this shape (N, H, W, C)."""
        size, once = (shape[1], shape[2]), (1, 1)
        self.shape = shape
        self.pads = window_pads(self.padding, size, self.kernel, self.strides, once, self.name)
        for axis, k, pad in zip("HW", self.kernel, self.pads, strict=True):
            if k <= pad[0] or k <= pad[1]:
                raise ShapeError(
                    f"{self.name}: padding {pad} must be smaller than K{axis} = {k}: a window would see no pixel"
                )
        return window_output(size, self.kernel, self.strides, self.pads, once, self.name)


class MaxPool2D(Pool):
    """y = the largest pixel of each window        dx = dy, at that pixel (the first of equal ones)"""

    name = "max_pool2d"

    def forward(self, x: Array) -> Array:
        out = self.remember_windows(x)
        places = True in self.needs_grad
        y, self.where = self.kernels.max_pool(x, out, self.kernel, self.strides, self.pads, places)
        return y

    def backward(self, dy: Array) -> Array:
        return self.kernels.max_pool_grad(dy, self.where, self.shape, self.kernel, self.strides, self.pads)


class AvgPool2D(Pool):
    """y = the mean pixel of each window        dx = dy / count, at each of its pixels"""

    name = "avg_pool2d"

    def __init__(self, kernel: Pair, strides: Pair, padding: Padding, count_include_pad: bool):
        super().__init__(kernel, strides, padding)
        self.count_include_pad = count_include_pad

    def forward(self, x: Array) -> Array:
        out = self.remember_windows(x)
        return self.kernels.avg_pool(x, out, self.kernel, self.strides, self.pads, self.count_include_pad)

    def backward(self, dy: Array) -> Array:
        geometry = self.shape, self.kernel, self.strides, self.pads
        return self.kernels.avg_pool_grad(dy, *geometry, self.count_include_pad)


def max_pool2d(
    x: Any, pool_size: int | Pair, strides: int | Pair | None = None, padding: Padding = 0
) -> Tensor:
    """Largest value in each window.

    Parameters
    ----------
    x : Tensor, shape (N, H, W, C)
    pool_size : int or (vertical, horizontal)
    strides : int or (vertical, horizontal), optional
        `pool_size` if left out; windows may overlap or leave gaps.
    padding : as in `conv2d`
        Padded pixels count as -inf, so they never win.

    Returns
    -------
    Tensor, shape (N, OH, OW, C)

    Notes
    -----
    Of equal values the first in row order gets the whole gradient, as in PyTorch and TensorFlow.
    """
    return max_pool_of(pool_size, strides, padding)(x)


def max_pool_of(pool_size: int | Pair, strides: int | Pair | None = None, padding: Padding = 0) -> MaxPool2D:
    """The operation that `max_pool2d` applies."""
    kernel = pair(pool_size, "max_pool2d: pool_size")
    return MaxPool2D(kernel, kernel if strides is None else pair(strides, "max_pool2d: strides"), padding)


def avg_pool2d(
    x: Any,
    pool_size: int | Pair,
    strides: int | Pair | None = None,
    padding: Padding = 0,
    count_include_pad: bool = False,
) -> Tensor:
    """Mean of each window; arguments and shapes as in `max_pool2d`.

    Parameters
    ----------
    count_include_pad : bool
        False divides by the number of real pixels in the window (Keras, ONNX); True by the size of the
        window, padded zeros included (PyTorch's default).
    """
    kernel = pair(pool_size, "avg_pool2d: pool_size")
    steps = kernel if strides is None else pair(strides, "avg_pool2d: strides")
    return AvgPool2D(kernel, steps, padding, count_include_pad)(x)


def global_avg_pool2d(x: Any) -> Tensor:
    """Mean over all pixels: (N, H, W, C) -> (N, C)."""
    return mean(_image("global_avg_pool2d", x), axis=(1, 2))


def global_max_pool2d(x: Any) -> Tensor:
    """Largest pixel of each channel: (N, H, W, C) -> (N, C); equal ones share the gradient."""
    return max(_image("global_max_pool2d", x), axis=(1, 2))


def _image(op: str, x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else Tensor(x)
    bind(op, "images are (N, H, W, C)", x=("N H W C", x))
    return x
