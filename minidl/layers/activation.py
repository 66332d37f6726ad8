"""Activation functions as layers, and by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..autograd import Tensor
from ..ops.activation import FUSED
from .base import Layer

ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {
    "relu": ops.relu,
    "leaky_relu": ops.leaky_relu,
    "elu": ops.elu,
    "gelu": ops.gelu,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "softplus": ops.softplus,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
}


def get_activation(name: str | Callable[[Any], Tensor] | None) -> Callable[[Any], Tensor] | None:
    """The function called `name`; None stays None, a function is returned as it is."""
    if name is None or callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {', '.join(ACTIVATIONS)}, a function or None, got {name!r}"
        )
    return ACTIVATIONS[name]


def split_activation(
    activation: str | Callable[[Any], Tensor] | None,
) -> tuple[str | None, Callable[[Any], Tensor] | None]:
    """(what the layer's operation does in the same pass, what is left to do after it)."""
    after = get_activation(activation)
    if isinstance(activation, str) and activation in FUSED:
        return activation, None
    return None, after


class ReLU(Layer):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Layer):
    """x where positive, `negative_slope` * x elsewhere."""

    def __init__(self, negative_slope: float = 0.01, name: str | None = None):
        super().__init__(name)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class ELU(Layer):
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., ICLR 2016)."""

    def __init__(self, alpha: float = 1.0, name: str | None = None):
        super().__init__(name)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)


class GELU(Layer):
    """x times the normal distribution function (Hendrycks and Gimpel, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x)


class Tanh(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Softplus(Layer):
    """log(1 + exp(x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softmax(Layer):
    """Probabilities along `axis`; the losses want logits instead."""

    def __init__(self, axis: int = -1, name: str | None = None):
        super().__init__(name)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis)
