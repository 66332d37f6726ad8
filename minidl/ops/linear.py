"""Matrix products."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import ShapeError, bind


class MatMul(Function):
    """y = a @ b        da = dy @ b.T    db = a.T @ dy    (over the last two axes; the others broadcast)"""

    def forward(self, a: Array, b: Array) -> Array:
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-min(b.ndim, 2)]:
            raise ShapeError(
                f"matmul: the last axis of a {a.shape} must be as long as the first of b's last two {b.shape}"
            )
        self.a, self.b = a, b
        return a @ b

    def backward(self, dy: Array) -> Any:
        a, b = self.a, self.b
        if b.ndim == 1:  # a vector on the right is a column
            b, dy = b[:, None], dy[..., None]
        if a.ndim == 1:  # a vector on the left is a row
            a, dy = a[None], dy[..., None, :]
        da = dy @ b.swapaxes(-1, -2) if self.needs_grad[0] else None
        db = a.swapaxes(-1, -2) @ dy if self.needs_grad[1] else None
        return da, db[..., 0] if self.b.ndim == 1 and db is not None else db


class Dense(Function):
    """y = x @ w + b        dx = dy @ w.T    dw = x.T @ dy    db = sum_n dy"""

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:  # (N, I), (I, O), (O,)
        fix = "put Flatten() before it" if x.ndim > 2 else ""
        bind("dense", fix, x=("N I", x), weight=("I O", w), bias=("O", b))
        self.x, self.w, self.has_bias = x, w, b is not None
        y = x @ w
        if b is not None:
            y += b
        return y  # (N, O)

    def backward(self, dy: Array) -> Any:  # (N, O)
        dx = dy @ self.w.T if self.needs_grad[0] else None
        dw = self.x.T @ dy if self.needs_grad[1] else None
        return (dx, dw, self.kernels.sum_rows(dy)) if self.has_bias else (dx, dw)


def matmul(a: Any, b: Any) -> Tensor:
    """a @ b as in NumPy: vectors, matrices, and stacks of matrices that broadcast."""
    return MatMul()(a, b)


def dense(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """Affine map x @ weight + bias.

    Parameters
    ----------
    x : Tensor, shape (N, I)
    weight : Tensor, shape (I, O)
    bias : Tensor, shape (O,), optional

    Returns
    -------
    Tensor, shape (N, O)

    Raises
    ------
    ShapeError
        The axes do not fit.
    """
    return Dense()(x, weight) if bias is None else Dense()(x, weight, bias)
