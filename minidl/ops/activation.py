"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array

FUSED = {"relu": 0.0, "leaky_relu": 0.01}  # slopes of what `dense` and `conv2d` can do in the same pass


class LeakyReLU(Function):
    """y = x if x > 0 else slope x        dx = dy (1 if x > 0 else slope)        ReLU: slope 0

    With slope >= 0 the sign of y is that of x, so y is all that backward needs.
    """

    def __init__(self, slope: float):
        self.slope = slope

    def forward(self, x: Array) -> Array:
        y = self.kernels.leaky_relu(x, self.slope)
        self.sign = y if self.slope >= 0 else x
        return y

    def backward(self, dy: Array) -> Array:
        return self.kernels.leaky_relu_grad(dy, self.sign, self.slope, self.may_overwrite)


class ELU(Function):
    """y = x if x > 0 else alpha (e^x - 1)        dx = dy (1 if x > 0 else y + alpha)

    With alpha >= 0 the sign of y is that of x, so y is all that backward needs.
    """

    def __init__(self, alpha: float):
        self.alpha = alpha

    def forward(self, x: Array) -> Array:
        self.y = self.kernels.elu(x, self.alpha)
        self.sign = self.y if self.alpha >= 0 else x
        return self.y

    def backward(self, dy: Array) -> Array:
        return self.kernels.elu_grad(dy, self.sign, self.y, self.alpha, self.may_overwrite)


class GELU(Function):
    """y = x F(x), F the normal distribution function        dx = dy (F(x) + x f(x)), f its density"""

    def forward(self, x: Array) -> Array:
        self.x = x
        self.cdf = 0.5 * (1 + self.kernels.erf(x / math.sqrt(2)))
        return x * self.cdf

    def backward(self, dy: Array) -> Array:
        density = self.xp.exp(-0.5 * self.x * self.x) / math.sqrt(2 * math.pi)
        return dy * (self.cdf + self.x * density)


class Tanh(Function):
    """y = tanh(x)        dx = dy (1 - y^2)"""

    def forward(self, x: Array) -> Array:
        self.y = self.xp.tanh(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * (1 - self.y * self.y)


class Sigmoid(Function):
    """y = 1 / (1 + e^-x)        dx = dy y (1 - y)"""

    def forward(self, x: Array) -> Array:
        self.y = self.kernels.sigmoid(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * self.y * (1 - self.y)


class Softplus(Function):
    """y = log(1 + e^x)        dx = dy / (1 + e^-x)"""

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.xp.logaddexp(x, self.xp.zeros_like(x))

    def backward(self, dy: Array) -> Array:
        return dy * self.kernels.sigmoid(self.x)


class Softmax(Function):
    """y_i = e^x_i / sum_j e^x_j        dx = y (dy - sum_j dy_j y_j)"""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        self.y = self.xp.exp(self.kernels.log_softmax(x, self.axis))
        return self.y

    def backward(self, dy: Array) -> Array:
        return self.y * (dy - (dy * self.y).sum(axis=self.axis, keepdims=True))


class LogSoftmax(Function):
    """y_i = x_i - log sum_j e^x_j        dx = dy - e^y sum_j dy_j"""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, x: Array) -> Array:
        self.y = self.kernels.log_softmax(x, self.axis)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy - self.xp.exp(self.y) * dy.sum(axis=self.axis, keepdims=True)


def fused_slope(op: str, activation: str | None) -> float | None:
    """Slope for negative numbers of an activation that `op` does in the same pass; None is no activation."""
    if activation is None:
        return None
    if activation not in FUSED:
        raise ValueError(f"{op}: activation must be None, {' or '.join(FUSED)}, got {activation!r}")
    return FUSED[activation]


def relu(x: Any) -> Tensor:
    """max(x, 0); the gradient at 0 is 0."""
    return LeakyReLU(0.0)(x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where positive, `negative_slope` * x elsewhere (PyTorch's default; Keras has 0.3)."""
    return LeakyReLU(negative_slope)(x)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., ICLR 2016)."""
    return ELU(alpha)(x)


def gelu(x: Any) -> Tensor:
    """x times the normal distribution function, the exact form (Hendrycks and Gimpel, 2016)."""
    return GELU()(x)


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent."""
    return Tanh()(x)


def sigmoid(x: Any) -> Tensor:
    """Logistic function 1 / (1 + exp(-x))."""
    return Sigmoid()(x)


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return Softplus()(x)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Probabilities along `axis`. For a loss use `cross_entropy` on the logits: it is more exact."""
    return Softmax(axis)(x)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithm of `softmax`, without overflow or loss of small probabilities."""
    return LogSoftmax(axis)(x)
