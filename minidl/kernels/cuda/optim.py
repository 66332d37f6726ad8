"""Update rules: one launch for the whole flat buffer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array
from .. import reference
from .launching import THREADS, launch, number_and_place, ready

BLOCKS = 1056  # at most: eight for each processor of a large GPU


def _blocks(p: Array) -> tuple[int]:
    return (min(-(-p.size // THREADS), BLOCKS),)


def _rate(lr: Any) -> tuple[np.float64, Array | None]:
    value, place = number_and_place(lr)
    return np.float64(value), place


def sgd_step(
    p: Array, g: Array, velocity: Array | None, lr: float, momentum: float, nesterov: bool, decay: float
) -> None:
    if not ready(p, g):
        reference.sgd_step(p, g, velocity, lr, momentum, nesterov, decay)
        return
    number = p.dtype.type
    rest = number(momentum), np.bool_(nesterov), number(decay), np.int32(p.size)
    launch("optim.sgd", _blocks(p), p, g, velocity, *_rate(lr), *rest, T=p.dtype)


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
    if not ready(p, g, mean, square):
        reference.adam_step(p, g, mean, square, lr, beta1, beta2, eps, step, decay, decoupled)
        return
    number, (count, place) = p.dtype.type, number_and_place(step)
    logs = [np.float64(math.log(beta) if beta else -math.inf) for beta in (beta1, beta2)]
    betas = [number(v) for v in (beta1, beta2, 1 - beta1, 1 - beta2, eps)]
    rest = np.int64(count), place, number(decay), np.bool_(decoupled), np.int32(p.size)
    launch("optim.adam", _blocks(p), p, g, mean, square, *_rate(lr), *logs, *betas, *rest, T=p.dtype)


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
    if not ready(p, g, square):
        reference.rmsprop_step(p, g, square, velocity, lr, rho, eps, momentum, decay)
        return
    numbers = [p.dtype.type(v) for v in (rho, 1 - rho, eps, momentum, decay)]
    launch(
        "optim.rmsprop", _blocks(p), p, g, square, velocity, *_rate(lr), *numbers, np.int32(p.size), T=p.dtype
    )
