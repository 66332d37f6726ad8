"""Update rules over flat buffers, compiled: each number is read and written once."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

from ...backend import Array
from .. import reference, threads
from ..threads import split_arrays
from . import partner
from .compiling import jit, ready
from .partner import halve

FEWEST = 10_000  # numbers worth halving with the partner


@jit
def _adam(p, g, mean, square, shrink, decay, beta1, rest1, beta2, rest2, rate, root, eps):
    for j in range(p.size):
        old = p[j] * shrink
        grad = g[j] + decay * p[j]
        m = beta1 * mean[j] + rest1 * grad
        s = beta2 * square[j] + rest2 * (grad * grad)
        mean[j], square[j] = m, s
        p[j] = old - rate * m / (math.sqrt(s) * root + eps)


@jit
def _adam_part(p, g, mean, square, rates, start, stop):
    _adam(p[start:stop], g[start:stop], mean[start:stop], square[start:stop], *rates)


@jit
def _adam_in_halves(mail, together, *arguments):
    count = len(arguments[0])
    halve(mail, together, _adam_part, count, count // 2, arguments)
    return True


@jit
def _sgd(p, g, lr, decay):
    for j in range(p.size):
        p[j] -= lr * (g[j] + decay * p[j])


@jit
def _momentum(p, g, velocity, lr, momentum, decay, nesterov):
    for j in range(p.size):
        grad = g[j] + decay * p[j]
        v = momentum * velocity[j] + grad
        velocity[j] = v
        p[j] -= lr * (grad + momentum * v if nesterov else v)


def sgd_step(
    p: Array, g: Array, velocity: Array | None, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    if not ready(p, g):
        reference.sgd_step(p, g, velocity, lr, momentum, nesterov, decay)
        return
    number = p.dtype.type
    if velocity is None:
        split_arrays(lambda p, g: _sgd(p, g, number(lr), number(decay)), (p, g), 0.5 * p.size)
        return
    rates = number(lr), number(momentum), number(decay), nesterov
    split_arrays(lambda *arrays: _momentum(*arrays, *rates), (p, g, velocity), 0.7 * p.size)


def _numbers(number, lr, beta1, beta2, eps, step, decay, decoupled):
    """What `_adam` is told of them."""
    shrink, coupled = (1 - lr * decay, 0.0) if decoupled else (1.0, decay)
    rate, root = lr / (1 - beta1**step), 1 / (1 - beta2**step) ** 0.5
    rates = (shrink, coupled, beta1, 1 - beta1, beta2, 1 - beta2, rate, root, eps)
    return tuple([number(rate) for rate in rates])


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
    if not ready(p, g):
        reference.adam_step(p, g, mean, square, lr, beta1, beta2, eps, step, decay, decoupled)
        return
    numbers = _numbers(p.dtype.type, lr, beta1, beta2, eps, step, decay, decoupled)
    arrays = p, g, mean, square
    small = FEWEST <= p.size < 2 * threads.GRAIN
    if not small or not partner.share(lambda *mail: _adam_in_halves(*mail, *arrays, numbers), wake=False):
        split_arrays(lambda *arrays: _adam(*arrays, *numbers), arrays, 1.0 * p.size)
