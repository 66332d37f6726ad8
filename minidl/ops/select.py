"""Operations that choose between elements: clip, maximum, minimum, where."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array


class Clip(Function):
    """y = min(max(x, low), high)        dx = dy where low <= x <= high"""

    def __init__(self, low: float | None, high: float | None):
        self.low, self.high = low, high

    def forward(self, x: Array) -> Array:
        y = x if self.low is None else self.xp.maximum(x, self.low)
        y = y if self.high is None else self.xp.minimum(y, self.high)
        self.inside = x == y
        return y

    def backward(self, dy: Array) -> Array:
        return dy * self.inside


class Maximum(Function):
    """y = max(a, b)        the gradient goes to the larger one, half to each where they are equal"""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return self.xp.maximum(a, b)

    def backward(self, dy: Array) -> Any:
        tie = 0.5 * dy * (self.a == self.b)
        return dy * (self.a > self.b) + tie, dy * (self.a < self.b) + tie


class Minimum(Maximum):
    """y = min(a, b)        the gradient goes to the smaller one, half to each where they are equal"""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return self.xp.minimum(a, b)

    def backward(self, dy: Array) -> Any:
        da, db = super().backward(dy)
        return db, da  # where a is the larger one, b wins


class Where(Function):
    """y = a if condition else b        da = dy where condition    db = dy elsewhere"""

    def forward(self, condition: Array, a: Array, b: Array) -> Array:
        self.condition = condition
        return self.xp.where(condition, a, b)

    def backward(self, dy: Array) -> Any:
        return None, dy * self.condition, dy * ~self.condition


def clip(x: Any, low: float | None = None, high: float | None = None) -> Tensor:
    """x limited to [low, high]; None leaves a side open. The gradient passes at the limits themselves."""
    return Clip(low, high)(x)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b; where they are equal each gets half of the gradient."""
    return Maximum()(a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b; where they are equal each gets half of the gradient."""
    return Minimum()(a, b)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` (a boolean array) holds, else b."""
    mask = condition.data if isinstance(condition, Tensor) else condition
    if getattr(getattr(mask, "dtype", None), "kind", "") != "b":
        raise TypeError(f"where: condition must be a boolean array, got {getattr(mask, 'dtype', type(mask))}")
    return Where()(mask, a, b)
