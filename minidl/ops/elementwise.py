"""Arithmetic and functions that act on each element; inputs broadcast as in NumPy."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array


class Add(Function):
    """y = a + b        da = dy    db = dy"""

    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, dy: Array) -> Any:
        return dy, dy


class Subtract(Function):
    """y = a - b        da = dy    db = -dy"""

    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, dy: Array) -> Any:
        return dy, -dy if self.needs_grad[1] else None


class Multiply(Function):
    """y = a b        da = dy b    db = dy a"""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a * b

    def backward(self, dy: Array) -> Any:
        da = dy * self.b if self.needs_grad[0] else None
        return da, dy * self.a if self.needs_grad[1] else None


class Divide(Function):
    """y = a / b        da = dy / b    db = -dy a / b^2"""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a / b

    def backward(self, dy: Array) -> Any:
        da = dy / self.b
        return da, -da * self.a / self.b if self.needs_grad[1] else None


class Negative(Function):
    """y = -x        dx = -dy"""

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, dy: Array) -> Array:
        return -dy


class Pow(Function):
    """y = a^b        da = dy b a^(b-1)    db = dy y log(a)    (0 where a is 0)"""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        self.y = a**b
        return self.y

    def backward(self, dy: Array) -> Any:
        xp, a, b = self.xp, self.a, self.b
        da = db = None
        if self.needs_grad[0]:
            constant = xp.equal(b, 0)  # d(a^0) is 0 even where a^-1 is infinite
            da = xp.where(constant, 0, dy * b * a ** xp.where(constant, 1, b - 1).astype(dy.dtype))
        if self.needs_grad[1]:
            positive = xp.greater(a, 0)
            db = xp.where(positive, dy * self.y * xp.log(xp.where(positive, a, 1)), 0)
        return da, db


class Exp(Function):
    """y = e^x        dx = dy y"""

    def forward(self, x: Array) -> Array:
        self.y = self.xp.exp(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy * self.y


class Log(Function):
    """y = log(x)        dx = dy / x"""

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.xp.log(x)

    def backward(self, dy: Array) -> Array:
        return dy / self.x


class Sqrt(Function):
    """y = sqrt(x)        dx = dy / (2 y)"""

    def forward(self, x: Array) -> Array:
        self.y = self.xp.sqrt(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy / (2 * self.y)


class Abs(Function):
    """y = |x|        dx = dy sign(x)"""

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.xp.abs(x)

    def backward(self, dy: Array) -> Array:
        return dy * self.xp.sign(self.x)


class Cast(Function):
    """y = x in another dtype        dx = dy, in the dtype of x"""

    def __init__(self, dtype: Any):
        self.target = dtype

    def forward(self, x: Array) -> Array:
        return x.astype(self.target)

    def backward(self, dy: Array) -> Array:
        return dy


def add(a: Any, b: Any) -> Tensor:
    """a + b."""
    return Add()(a, b)


def subtract(a: Any, b: Any) -> Tensor:
    """a - b."""
    return Subtract()(a, b)


def multiply(a: Any, b: Any) -> Tensor:
    """a * b."""
    return Multiply()(a, b)


def divide(a: Any, b: Any) -> Tensor:
    """a / b; division by zero gives inf or nan as in NumPy."""
    return Divide()(a, b)


def negative(x: Any) -> Tensor:
    """-x."""
    return Negative()(x)


def pow(a: Any, b: Any) -> Tensor:
    """a ** b; where a <= 0 the gradient with respect to b is 0."""
    return Pow()(a, b)


def exp(x: Any) -> Tensor:
    """e ** x."""
    return Exp()(x)


def log(x: Any) -> Tensor:
    """Natural logarithm; log(0) is -inf, a negative x gives nan."""
    return Log()(x)


def sqrt(x: Any) -> Tensor:
    """Square root; its gradient at 0 is inf."""
    return Sqrt()(x)


def abs(x: Any) -> Tensor:
    """Absolute value; its gradient at 0 is 0."""
    return Abs()(x)


def cast(x: Any, dtype: Any) -> Tensor:
    """x in another dtype."""
    return Cast(dtype)(x)
