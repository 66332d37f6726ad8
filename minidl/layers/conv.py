"""The two-dimensional convolution layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..autograd import Tensor
from ..checks import positive_integer
from ..init import Initializer, fans, get
from ..shapes import Pads, Pair, ShapeError, pair
from .activation import split_activation
from .base import Layer, Parameter
from .pool import MaxPool2D


class Conv2D(Layer):
    """y = activation(x * weight + bias), (N, H, W, C) -> (N, OH, OW, filters).

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel_size, strides, dilation : int or (vertical, horizontal)
    padding : "valid", "same", int, (vertical, horizontal) or ((top, bottom), (left, right))
        See `ops.conv2d`.
    groups : int
        Must divide the channels and the filters.
    use_bias : bool
    activation : str or function, optional
    kernel_initializer, bias_initializer : str or function
        See `minidl.init`.

    Attributes
    ----------
    weight : Parameter, shape (KH, KW, C // groups, filters)
    bias : Parameter, shape (filters,)
    """

    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = 1,
        padding: str | int | Pair | Pads = "valid",
        groups: int = 1,
        dilation: int | Pair = 1,
        use_bias: bool = True,
        activation: str | Callable[[Any], Tensor] | None = None,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        name: str | None = None,
    ):
        super().__init__(name)
        self.filters = positive_integer("Conv2D", "filters", filters)
        self.kernel_size = pair(kernel_size, "Conv2D: kernel_size")
        self.strides = pair(strides, "Conv2D: strides")
        self.padding = padding
        self.groups = positive_integer("Conv2D", "groups", groups)
        self.dilation = pair(dilation, "Conv2D: dilation")
        self.use_bias = use_bias
        self.activation = activation
        self._fused, self._activate = split_activation(activation)
        self._initializers = (
            get(kernel_initializer, "kernel_initializer"),
            get(bias_initializer, "bias_initializer"),
        )

    def build(self, *shapes: tuple[int, ...]) -> None:
        if len(shapes[0]) != 4:
            raise ShapeError(
                f"Conv2D: x needs 4 axes (N, H, W, C), got shape {shapes[0]}; add the channel axis with x[..., None]"
            )
        channels = shapes[0][-1]
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"Conv2D: groups={self.groups} must divide C = {channels} and F = {self.filters}"
            )
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        self.add_parameter("weight", shape, self._initializers[0])
        if self.use_bias:
            self.add_parameter("bias", (self.filters,), self._initializers[1], fan_in=fans(shape)[0])

    def forward(self, x: Tensor, max_pool: MaxPool2D | None = None) -> Tensor:
        """With `max_pool`, what that layer makes of the result: see `can_pool`."""
        geometry = self.strides, self.padding, self.dilation, self.groups
        pool = None if max_pool is None else (max_pool.pool_size, max_pool.strides, max_pool.padding)
        y = ops.conv2d(x, self.weight, self.bias, *geometry, self._fused, max_pool=pool)
        return self._activate(y) if self._activate else y

    def can_pool(self) -> bool:
        """Whether max pooling can be done in the same pass."""
        return self._activate is None and self.groups == 1
