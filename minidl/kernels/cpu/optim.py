"""Update rules over flat buffers, compiled: each number is read and written once."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from ...backend import Array
from .. import reference, threads
from ..threads import split_arrays
from . import partner
from .compiling import SINGLE, Job, jit, ready
from .partner import ARGUMENTS, FUNCTION, MIDDLE, ROWS, doubles, halve, mail_at, singles

FEWEST = 10_000  # numbers worth halving with the partner
# Where the mail says what Adam works on: addresses, and nine rates.
P, G, MEAN, SQUARE, RATES = range(ARGUMENTS, ARGUMENTS + 5)


@jit
def _adam(p, g, mean, square, shrink, decay, beta1, rest1, beta2, rest2, rate, root, eps):
    for j in range(p.size):
        old = p[j] * shrink
        grad = g[j] + decay * p[j]
        m = beta1 * mean[j] + rest1 * grad
        s = beta2 * square[j] + rest2 * (grad * grad)
        mean[j], square[j] = m, s
        p[j] = old - rate * m / (math.sqrt(s) * root + eps)


@Job
def _adam_part(place, start, stop):
    mail, rates = mail_at(place), doubles(place + 8 * RATES, 9)
    one = np.float32
    _adam(
        singles(mail[P] + 4 * start, stop - start),
        singles(mail[G] + 4 * start, stop - start),
        singles(mail[MEAN] + 4 * start, stop - start),
        singles(mail[SQUARE] + 4 * start, stop - start),
        one(rates[0]), one(rates[1]), one(rates[2]), one(rates[3]), one(rates[4]),
        one(rates[5]), one(rates[6]), one(rates[7]), one(rates[8]),
    )  # fmt: skip


@jit
def _adam_in_halves(mail, together, job, p, g, mean, square, rates):
    mail[FUNCTION], mail[ROWS], mail[MIDDLE] = job, p.size, p.size // 2
    mail[P], mail[G], mail[MEAN], mail[SQUARE] = (
        p.ctypes.data,
        g.ctypes.data,
        mean.ctypes.data,
        square.ctypes.data,
    )
    for j, rate in enumerate(rates):
        mail.view(np.float64)[RATES + j] = rate
    halve(mail, together)
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
    if FEWEST <= p.size < 2 * threads.GRAIN and p.dtype == SINGLE:
        job = _adam_part.address
        if partner.share(lambda *mail: _adam_in_halves(*mail, job, *arrays, numbers), wake=False):
            return
    split_arrays(lambda *arrays: _adam(*arrays, *numbers), arrays, 1.0 * p.size)
