"""Dropout (Srivastava et al., JMLR 2014), inverted: what is kept is scaled up, so inference is the identity."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..checks import share
from ..rng import Key, fresh_key


class Dropout(Function):
    """y = x mask / keep        dx = dy mask / keep"""

    def __init__(self, rate: float, key: Key):
        self.keep, self.key = 1 - rate, key

    def forward(self, x: Array) -> Array:
        y, self.mask = self.kernels.dropout(x, self.keep, self.key)
        return y

    def backward(self, dy: Array) -> Array:
        return self.kernels.dropout_grad(dy, self.mask, self.keep, self.may_overwrite)


def dropout(x: Any, rate: float = 0.5, training: bool = True, key: Key | None = None) -> Tensor:
    """Set each element to zero with probability `rate` and divide the others by 1 - rate.

    Parameters
    ----------
    x : Tensor
    rate : float
        Between 0 (identity) and 1 (all zeros).
    training : bool
        False returns x as it is.
    key : rng.Key, optional
        Where the random numbers come from: equal keys drop equal elements, on any device. Without one
        each call draws anew.
    """
    rate = share("dropout", "rate", rate)
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not training or rate == 0:
        return x
    return Dropout(rate, key or fresh_key("dropout"))(x)
