"""Reductions over one axis, several axes, or all."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array

Axis = int | tuple[int, ...] | None


class Reduction(Function):
    """What reductions share: which axes go, and how to bring them back for broadcasting."""

    def __init__(self, axis: Axis, keepdims: bool):
        self.axis, self.keepdims = axis, keepdims

    def remember_shape(self, x: Array) -> None:
        axes = (
            range(x.ndim) if self.axis is None else (self.axis,) if isinstance(self.axis, int) else self.axis
        )
        self.shape = x.shape
        self.axes = tuple(a % x.ndim if x.ndim else a for a in axes)
        self.count = math.prod(x.shape[a] for a in self.axes)

    def restore(self, reduced: Array) -> Array:
        """Give a reduced array its lost axes back, with length 1."""
        return reduced.reshape([1 if i in self.axes else n for i, n in enumerate(self.shape)])


class Sum(Reduction):
    """y = sum x        dx = dy, repeated"""

    def forward(self, x: Array) -> Array:
        self.remember_shape(x)
        return self.kernels.narrowed(self.kernels.total(x, self.axis, self.keepdims), x)

    def backward(self, dy: Array) -> Array:
        return self.xp.broadcast_to(self.restore(dy), self.shape)


class Mean(Reduction):
    """y = sum x / n        dx = dy / n, repeated"""

    def forward(self, x: Array) -> Array:
        self.remember_shape(x)
        if not self.count:
            raise ValueError(f"mean: nothing to average over axes {self.axes} of shape {x.shape}")
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, dy: Array) -> Array:
        return self.xp.broadcast_to(self.restore(dy) / self.count, self.shape)


class Max(Reduction):
    """y = max x        dx = dy, shared equally by the elements that equal y"""

    extreme = "max"

    def forward(self, x: Array) -> Array:
        self.remember_shape(x)
        y = getattr(x, self.extreme)(axis=self.axis, keepdims=self.keepdims)
        self.winners = x == self.restore(self.xp.asarray(y))
        return y

    def backward(self, dy: Array) -> Array:
        ties = self.winners.sum(axis=self.axes, keepdims=True).astype(dy.dtype)
        return self.winners * (self.restore(dy) / ties)


class Min(Max):
    """y = min x        dx = dy, shared equally by the elements that equal y"""

    extreme = "min"


class Var(Reduction):
    """y = sum (x - mean)^2 / (n - correction)        dx = 2 dy (x - mean) / (n - correction)"""

    def __init__(self, axis: Axis, keepdims: bool, correction: int):
        super().__init__(axis, keepdims)
        self.correction = correction

    def forward(self, x: Array) -> Array:
        self.remember_shape(x)
        self.divisor = self.count - self.correction
        if self.divisor <= 0:
            raise ValueError(
                f"var: needs more than correction={self.correction} values, got {self.count} "
                f"over axes {self.axes} of shape {x.shape}"
            )
        wide = self.kernels.widened(x)
        self.centred = wide - wide.mean(axis=self.axis, keepdims=True)
        squares = (self.centred * self.centred).sum(axis=self.axis, keepdims=self.keepdims)
        return self.kernels.narrowed(squares / self.divisor, x)

    def backward(self, dy: Array) -> Array:
        return self.restore(dy) * self.centred * (2 / self.divisor)


class LogSumExp(Reduction):
    """y = log sum e^x        dx = dy e^(x - y)"""

    def forward(self, x: Array) -> Array:
        self.remember_shape(x)
        self.x, largest = x, x.max(axis=self.axis, keepdims=True)
        largest = self.xp.where(self.xp.isfinite(largest), largest, 0)  # all -inf: the sum is 0, the log -inf
        sums = self.kernels.total(self.xp.exp(x - largest), self.axis, keepdims=True)
        self.y = self.kernels.narrowed(self.xp.log(sums) + largest, x)
        return (
            self.y
            if self.keepdims
            else self.y.reshape([n for i, n in enumerate(x.shape) if i not in self.axes])
        )

    def backward(self, dy: Array) -> Array:
        return self.restore(dy) * self.xp.exp(self.x - self.y)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis`; of nothing it is 0."""
    return Sum(axis, keepdims)(x)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis`."""
    return Mean(axis, keepdims)(x)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over `axis`; equal ones share the gradient evenly."""
    return Max(axis, keepdims)(x)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over `axis`; equal ones share the gradient evenly."""
    return Min(axis, keepdims)(x)


def var(x: Any, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Variance over `axis`: biased as in NumPy; correction=1 divides by n - 1 as PyTorch does."""
    return Var(axis, keepdims, correction)(x)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow."""
    return LogSumExp(axis, keepdims)(x)
