"""Matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import ShapeError, bind
from .activation import fused_slope


class MatMul(Function):
    """y = a @ b        da = dy @ b.T    db = a.T @ dy    (over the last two axes; the others broadcast)"""

    def forward(self, a: Array, b: Array) -> Array:
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-min(b.ndim, 2)]:
            raise ShapeError(
                f"matmul: the last axis of a {a.shape} must be as long as the first of b's last two {b.shape}"
            )
        self.a, self.b = a, b
        return self.kernels.matmul(a, b)

    def backward(self, dy: Array) -> Any:
        a, b = self.a, self.b
        if b.ndim == 1:  # a vector on the right is a column
            b, dy = b[:, None], dy[..., None]
        if a.ndim == 1:  # a vector on the left is a row
            a, dy = a[None], dy[..., None, :]
        da = self.kernels.matmul(dy, b.swapaxes(-1, -2)) if self.needs_grad[0] else None
        db = self.kernels.matmul(a.swapaxes(-1, -2), dy) if self.needs_grad[1] else None
        return da, db[..., 0] if self.b.ndim == 1 and db is not None else db


class Dense(Function):
    """y = f(x @ w + b)        dx = g @ w.T    dw = x.T @ g    db = sum_n g,   with g = dy f'

    f is nothing or a (leaky) ReLU, done while the product is still in the cache.
    """

    def __init__(self, slope: float | None):
        self.slope = slope

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:  # (N, I), (I, O), (O,)
        fix = "put Flatten() before it" if x.ndim > 2 else ""
        bind("dense", fix, x=("N I", x), weight=("I O", w), bias=("O", b))
        self.x, self.w, self.has_bias = x, w, b is not None
        y = self.kernels.dense(x, w, b, self.slope)
        self.y = None if self.slope is None else y
        return y  # (N, O)

    def backward(self, dy: Array) -> Any:  # (N, O)
        kernels, (to_x, to_w, *to_b) = self.kernels, self.needs_grad
        if self.slope is None:
            g, db = dy, kernels.sum_rows(dy, self.slot(2)) if any(to_b) else None
        else:
            place = self.slot(2) if any(to_b) else None
            g, db = kernels.bias_activation_grad(dy, self.y, self.slope, place, self.may_overwrite)
        dx = kernels.matmul(g, self.w.T) if to_x else None
        dw = kernels.matmul(self.x.T, g, self.slot(1)) if to_w else None
        return (dx, dw, db) if self.has_bias else (dx, dw)


class DenseLayers(Function):
    """y = f(gamma (x @ w + b - mean) / sqrt(var + eps) + beta), f nothing or ELU, for one layer after the other

    `dense`, `batch_norm` with given mean and variance and `elu` in one pass, for inference. Inputs are x and each w.
    """

    def __init__(self, layers: Sequence[Normalised]):
        self.layers = layers

    def forward(self, x: Array, *weights: Array) -> Array:
        bind("dense", x=("N I", x), weight=("I O", weights[0]))
        affine = [
            (w, *layer.affine(self.xp), layer.alpha) for w, layer in zip(weights, self.layers, strict=True)
        ]
        return self.kernels.dense_affine(x, affine)


class Normalised(NamedTuple):
    """What follows the product in a layer of `DenseLayers`; `norm` is (gamma, beta, mean, var, eps)."""

    bias: Array | None
    norm: tuple[Array, Array, Array, Array, float] | None
    alpha: float | None

    def affine(self, xp: Any) -> tuple[Array | None, Array | None]:
        """(scale, shift), which is the same."""
        if self.norm is None:
            return None, self.bias
        gamma, beta, mean, var, eps = self.norm
        scale = gamma / xp.sqrt(var + eps)
        return scale, beta + scale * (-mean if self.bias is None else self.bias - mean)


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b as in NumPy: vectors, matrices, and stacks of matrices that broadcast."""
    return MatMul()(a, b)


def dense(x: Any, weight: Any, bias: Any = None, activation: str | None = None) -> Tensor:
    """Affine map x @ weight + bias, and an activation in the same pass.

    Parameters
    ----------
    x : Tensor, shape (N, I)
    weight : Tensor, shape (I, O)
    bias : Tensor, shape (O,), optional
    activation : None, "relu" or "leaky_relu"

    Returns
    -------
    Tensor, shape (N, O)

    Raises
    ------
    ShapeError
        The axes do not fit.
    """
    op = Dense(fused_slope("dense", activation))
    return op(x, weight) if bias is None else op(x, weight, bias)
