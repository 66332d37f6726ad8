"""Pooling layers, NHWC."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..ops.pool import Padding
from ..shapes import Pair, pair
from .base import Layer


class MaxPool2D(Layer):
    """Largest value of each window; arguments as in `ops.max_pool2d`."""

    def __init__(
        self,
        pool_size: int | Pair = 2,
        strides: int | Pair | None = None,
        padding: Padding = "valid",
        name: str | None = None,
    ):
        super().__init__(name)
        self.pool_size = pair(pool_size, f"{type(self).__name__}: pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, f"{type(self).__name__}: strides")
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.pool_size, self.strides, self.padding)


class AvgPool2D(MaxPool2D):
    """Mean of each window; arguments as in `ops.avg_pool2d`."""

    def __init__(
        self,
        pool_size: int | Pair = 2,
        strides: int | Pair | None = None,
        padding: Padding = "valid",
        count_include_pad: bool = False,
        name: str | None = None,
    ):
        super().__init__(pool_size, strides, padding, name)
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.pool_size, self.strides, self.padding, self.count_include_pad)


class GlobalAvgPool2D(Layer):
    """Mean over all pixels, (N, H, W, C) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.global_avg_pool2d(x)


class GlobalMaxPool2D(Layer):
    """Largest pixel of each channel, (N, H, W, C) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.global_max_pool2d(x)


class AdaptiveAvgPool2D(Layer):
    """Average down to `output_size`, whatever the size, (N, H, W, C) -> (N, OH, OW, C)."""

    def __init__(self, output_size: int | Pair, name: str | None = None):
        super().__init__(name)
        self.output_size = pair(output_size, "AdaptiveAvgPool2D: output_size")

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)
