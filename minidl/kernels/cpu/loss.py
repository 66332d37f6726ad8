"""Softmax cross-entropy of class numbers, compiled."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np

from ...backend import Array
from .. import reference
from ..threads import split_arrays
from .compiling import jit, ready


@jit
def _cross_entropy(x, labels, losses, p):
    n, c = x.shape
    for i in range(n):
        row, out = x[i], p[i]
        highest = row[0]
        for j in range(1, c):
            highest = max(highest, row[j])
        total = x.dtype.type(0)
        for j in range(c):
            out[j] = math.exp(row[j] - highest)
            total += out[j]
        for j in range(c):
            out[j] /= total
        losses[i] = math.log(total) - (row[labels[i]] - highest)


@jit
def _cross_entropy_grad(p, labels, dlosses, dx):
    n, c = p.shape
    for i in range(n):
        for j in range(c):
            dx[i, j] = p[i, j] * dlosses[i]
        dx[i, labels[i]] -= dlosses[i]


def cross_entropy(x: Array, labels: Array, divisor: int | None = None) -> tuple[Array, Array]:
    if not ready(x):
        return reference.cross_entropy(x, labels, divisor)
    x, labels = np.ascontiguousarray(x), np.ascontiguousarray(labels)
    losses, p = np.empty(len(x), x.dtype), np.empty_like(x)
    split_arrays(_cross_entropy, (x, labels, losses, p), 8.0 * x.size)
    return losses if divisor is None else losses.sum() / divisor, p


def cross_entropy_grad(p: Array, labels: Array, dlosses: Array, divisor: int = 1) -> Array:
    if not ready(p, dlosses):
        return reference.cross_entropy_grad(p, labels, dlosses, divisor)
    p, labels, dlosses = (np.ascontiguousarray(a) for a in (p, labels, dlosses / divisor))
    dx = np.empty_like(p)
    split_arrays(_cross_entropy_grad, (p, labels, dlosses, dx), 1.0 * p.size)
    return dx
