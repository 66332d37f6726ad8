"""The update rules. Each accepts ``clip_norm=`` and ``clip_value=`` as `Optimizer` does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..layers.base import Layer, Parameter
from .base import Optimizer
from .schedules import Schedule


class SGD(Optimizer):
    """v = momentum v + g;  p -= lr v.

    Nesterov: p -= lr (g + momentum v) (Sutskever et al., ICML 2013; PyTorch's form).
    """

    def __init__(
        self,
        model: Layer | Iterable[Parameter],
        lr: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        **clipping: Any,
    ):
        super().__init__(model, lr, weight_decay, **clipping)
        self.momentum = self._check("momentum", momentum, below=1)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov=True needs momentum > 0, got 0")
        self.nesterov = nesterov
        self.moments = ("velocity",) if momentum else ()

    def _update(self, kernel: Any, arrays: list[Any], step: int) -> None:
        velocity = arrays[2] if self.momentum else None
        kernel.sgd_step(*arrays[:2], velocity, self.lr, self.momentum, self.nesterov, self.weight_decay)


class Adam(Optimizer):
    """Adam with bias correction (Kingma and Ba, ICLR 2015); eps is added to the corrected root."""

    moments = ("mean", "square")
    decoupled = False

    def __init__(
        self,
        model: Layer | Iterable[Parameter],
        lr: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **clipping: Any,
    ):
        super().__init__(model, lr, weight_decay, **clipping)
        self.beta1 = self._check("beta1", beta1, below=1)
        self.beta2 = self._check("beta2", beta2, below=1)
        self.eps = self._check("eps", eps)

    def _update(self, kernel: Any, arrays: list[Any], step: int) -> None:
        rates = self.lr, self.beta1, self.beta2, self.eps
        kernel.adam_step(*arrays, *rates, step, self.weight_decay, self.decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay: p -= lr * weight_decay * p (Loshchilov and Hutter, ICLR 2019)."""

    decoupled = True

    def __init__(
        self,
        model: Layer | Iterable[Parameter],
        lr: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        **clipping: Any,
    ):
        super().__init__(model, lr, beta1, beta2, eps, weight_decay, **clipping)


class RMSprop(Optimizer):
    """s = rho s + (1 - rho) g^2;  p -= lr g / (sqrt(s) + eps)  (Hinton, lecture 6e, 2012)."""

    def __init__(
        self,
        model: Layer | Iterable[Parameter],
        lr: float | Schedule = 0.01,
        rho: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        **clipping: Any,
    ):
        super().__init__(model, lr, weight_decay, **clipping)
        self.rho = self._check("rho", rho, below=1)
        self.eps = self._check("eps", eps)
        self.momentum = self._check("momentum", momentum, below=1)
        self.moments = ("square", "velocity") if momentum else ("square",)

    def _update(self, kernel: Any, arrays: list[Any], step: int) -> None:
        velocity = arrays[3] if self.momentum else None
        kernel.rmsprop_step(
            *arrays[:3], velocity, self.lr, self.rho, self.eps, self.momentum, self.weight_decay
        )
