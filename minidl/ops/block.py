"""A dense layer in training with what often follows it, as one operation."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backend import Array
from ..rng import Key
from ..shapes import bind


class DenseBlock(Function):
    """y = dropout(f(batch_norm(x @ w + b))), f nothing or ELU; each of these alone is the explanation

    dz = the gradient of `BatchNorm` for dy f' mask / keep        dx = dz @ w.T        dw = x.T @ dz        db = 0

    Batch norm takes away what the bias adds, so the loss does not depend on it.
    """

    def __init__(
        self,
        eps: float,
        momentum: float,
        averages: tuple[Array, Array] | None,
        alpha: float | None,
        keep: float,
        key: Key | None,
    ):
        self.norm, self.after = (eps, averages, momentum), (alpha, keep, key)

    def forward(self, x: Array, w: Array, gamma: Array, beta: Array, b: Array | None = None) -> Array:
        bind("dense", x=("N I", x), weight=("I O", w), bias=("O", b))
        self.x, self.w, self.gamma, self.b = x, w, gamma, b
        results = self.kernels.dense_block(x, w, b, gamma, beta, *self.norm, *self.after)
        y, self.slope, self.z, self.mean, self.inverse_std = results
        return y

    def backward(self, dy: Array) -> Any:
        to_x, to_w, to_gamma, to_beta, *to_b = self.needs_grad
        wanted = enumerate((to_w, to_gamma, to_beta), 1)
        into = tuple([self.slot(i) if needed else None for i, needed in wanted])
        kept = self.slope, self.x, self.w, self.z, self.mean, self.inverse_std, self.gamma
        grads = self.kernels.dense_block_grad(dy, *kept, (to_x, to_w), into, self.may_overwrite)
        if not to_b:
            return grads
        return *grads, self._zeros() if any(to_b) else None

    def _zeros(self) -> Array:
        slot = self.slot(4)
        if slot is None:
            return self.xp.zeros_like(self.b)
        slot[...] = 0
        return slot
