"""Softmax cross-entropy of class numbers, and the running averages of a training loop."""

from __future__ import annotations

import cupy
import numpy as np

from ...backend import Array
from .. import reference
from .launching import contiguous, launch, launch_each, ready, tickets

ROWS = 8  # that a block takes: one for each warp
WIDE = 64  # classes: rows with more are searched by a warp each


def cross_entropy(x: Array, labels: Array, divisor: int | None = None) -> tuple[Array, Array]:
    if not ready(x) or labels.dtype != np.int64 or not x.size:
        return reference.cross_entropy(x, labels, divisor)
    x, labels = contiguous(x, labels)
    losses, p = cupy.empty(len(x), x.dtype), cupy.empty(x.shape, x.dtype)
    total = None if divisor is None else cupy.empty((), x.dtype)
    numbers = np.float64(divisor or 1), np.int32(x.shape[0]), np.int32(x.shape[1])
    blocks = -(-len(x) // ROWS)
    launch("loss.cross_entropy", (blocks,), x, labels, losses, p, total, *numbers, tickets(), T=x.dtype)
    return losses if total is None else total, p


def cross_entropy_grad(p: Array, labels: Array, dlosses: Array, divisor: int = 1) -> Array:
    if not ready(p, dlosses) or labels.dtype != np.int64:
        return reference.cross_entropy_grad(p, labels, dlosses, divisor)
    stride = dlosses.strides[0] // dlosses.itemsize if dlosses.ndim else 0
    p, labels = contiguous(p, labels)
    dx = cupy.empty(p.shape, p.dtype)
    numbers = p.dtype.type(divisor), np.int32(stride), np.int32(p.size), np.int32(p.shape[1])
    launch_each("loss.cross_entropy_grad", p.size, p, labels, dlosses, dx, *numbers, T=p.dtype)
    return dx


def add_to_average(sums: Array, loss: Array, outputs: Array, targets: Array) -> None:
    classes = outputs.ndim == 2 and targets.ndim == 1 and targets.dtype == np.int64
    if not classes or not ready(outputs, loss) or not outputs.size:
        reference.add_to_average(sums, loss, outputs, targets)
        return
    outputs, targets = contiguous(outputs, targets)
    (rows, columns), numbers = outputs.shape, (np.int32(n) for n in outputs.shape)
    lanes = 32 if columns > WIDE else 1
    arguments, constants = (outputs, targets, loss, sums, *numbers, tickets()), (("LANES", lanes),)
    launch_each("metrics.count_hits", rows * lanes, *arguments, constants=constants, T=outputs.dtype)
