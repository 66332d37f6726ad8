"""Reference update rules: flat arrays of parameters, gradients and moments, updated in place."""

from __future__ import annotations

from ..backend import Array


def sgd_step(
    p: Array, g: Array, velocity: Array | None, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """v = momentum v + g;  p -= lr v  (Nesterov: p -= lr (g + momentum v)). `decay` adds decay * p to g."""
    if decay:
        g = g + decay * p
    if velocity is not None:
        velocity *= momentum
        velocity += g
        g = g + momentum * velocity if nesterov else velocity
    p -= lr * g


def adam_step(
    p: Array,
    g: Array,
    mean: Array,
    square: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    decay: float,
    decoupled: bool,
) -> None:
    """Adam (Kingma and Ba, ICLR 2015), AdamW when `decoupled` (Loshchilov and Hutter, ICLR 2019)."""
    if decay and decoupled:
        p *= 1 - lr * decay
    elif decay:
        g = g + decay * p
    mean *= beta1
    mean += (1 - beta1) * g
    square *= beta2
    square += (1 - beta2) * (g * g)
    denominator = square**0.5
    denominator /= (1 - beta2**step) ** 0.5
    denominator += eps
    p -= (lr / (1 - beta1**step)) * mean / denominator


def rmsprop_step(
    p: Array,
    g: Array,
    square: Array,
    velocity: Array | None,
    lr: float,
    rho: float,
    eps: float,
    momentum: float,
    decay: float,
) -> None:
    """s = rho s + (1 - rho) g^2;  p -= lr g / (sqrt(s) + eps)  (Hinton, lecture 6e, 2012)."""
    if decay:
        g = g + decay * p
    square *= rho
    square += (1 - rho) * (g * g)
    update = g / (square**0.5 + eps)
    if velocity is not None:
        velocity *= momentum
        velocity += update
        update = velocity
    p -= lr * update
