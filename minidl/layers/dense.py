"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import kernels, ops
from ..autograd import Tensor
from ..backend import array_module
from ..checks import positive_integer
from ..init import Initializer, fans, get
from ..ops.block import DenseBlock
from ..ops.linear import DenseLayers, Normalised
from ..shapes import ShapeError
from .activation import ELU, split_activation
from .base import Layer, Parameter
from .dropout import Dropout
from .norm import BatchNorm


class Dense(Layer):
    """y = activation(x @ weight + bias), (N, I) -> (N, units).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or function, optional
        Such as "relu".
    use_bias : bool
    kernel_initializer, bias_initializer : str or function
        See `minidl.init`.

    Attributes
    ----------
    weight : Parameter, shape (I, units)
    bias : Parameter, shape (units,)
    """

    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Any], Tensor] | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        name: str | None = None,
    ):
        super().__init__(name)
        self.units = positive_integer("Dense", "units", units)
        self.activation = activation
        self.use_bias = use_bias
        self._fused, self._activate = split_activation(activation)
        self._initializers = (
            get(kernel_initializer, "kernel_initializer"),
            get(bias_initializer, "bias_initializer"),
        )

    def build(self, *shapes: tuple[int, ...]) -> None:
        if len(shapes[0]) != 2:
            raise ShapeError(f"Dense: x needs 2 axes (N, I), got shape {shapes[0]}; put Flatten() before it")
        shape = (shapes[0][-1], self.units)
        self.add_parameter("weight", shape, self._initializers[0])
        if self.use_bias:
            self.add_parameter("bias", (self.units,), self._initializers[1], fan_in=fans(shape)[0])

    def forward(
        self,
        x: Tensor,
        norm: BatchNorm | None = None,
        elu: ELU | None = None,
        dropout: Dropout | None = None,
        then: Sequence[tuple[Dense, dict[str, Any]]] = (),
    ) -> Tensor:
        """With `norm`, and the others, what those layers make of the result: see `can_normalise`."""
        if norm is not None and not norm.is_affine():
            return self._block(x, norm, elu, dropout)
        if norm is not None:
            layers = [self._normalised(norm, elu), *[layer._normalised(**options) for layer, options in then]]
            return DenseLayers(layers)(x, self.weight, *[layer.weight for layer, _ in then])
        y = ops.dense(x, self.weight, self.bias, self._fused)
        return self._activate(y) if self._activate else y

    def _block(self, x: Tensor, norm: BatchNorm, elu: ELU | None, dropout: Dropout | None) -> Tensor:
        """In training: as one operation, or layer by layer if that takes less time."""
        if not kernels.of(array_module(x._data)).block_pays(x._data, self.weight._data):
            y = ops.dense(x, self.weight, self.bias)
            for layer in (norm, elu, dropout):
                y = y if layer is None else layer(y)
            return y
        key = None if dropout is None else dropout.next_key()
        after = None if elu is None else elu.alpha, 1.0 if dropout is None else 1 - dropout.rate, key
        bias = () if self.bias is None else (self.bias,)
        block = DenseBlock(norm.eps, norm.momentum, norm.averages(), *after)
        return block(x, self.weight, norm.gamma, norm.beta, *bias)

    def _normalised(self, norm: BatchNorm | None = None, elu: ELU | None = None) -> Normalised:
        given = (
            None
            if norm is None
            else (norm.gamma.data, norm.beta.data, norm.running_mean, norm.running_var, norm.eps)
        )
        bias = None if self.bias is None else self.bias.data
        return Normalised(bias, given, None if elu is None else elu.alpha)

    def is_plain(self) -> bool:
        """Whether it has no activation of its own."""
        return self._built and self._fused is None and self._activate is None

    def can_normalise(self, norm: BatchNorm) -> bool:
        """Whether batch normalisation, and ELU and dropout then, can be done in the same pass."""
        return self.is_plain() and norm.channels() == self.units and norm._dtype == self._dtype
