"""Gradient clipping (Pascanu et al., ICML 2013)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array, array_module
from ..checks import number
from ..layers.base import Layer, Parameter


def clip_norm(model: Layer | Iterable[Parameter], limit: float) -> float:
    """Scale all gradients down together so that their norm is at most `limit`; return the norm before."""
    number("clip_norm", "limit", limit)
    parameters = model.parameters() if isinstance(model, Layer) else list(model)
    grads = [p.grad for p in parameters if p.grad is not None]
    return float(limit_norm(grads, limit))


def limit_norm(grads: list[Array], limit: float) -> Any:
    """The same for arrays; on a GPU nothing waits for the norm, a 0-d array there."""
    if not grads:
        return 0.0
    xp = array_module(grads[0])
    norm = sum((g.astype(np.float64) ** 2).sum() for g in grads) ** 0.5
    if xp is np and not norm > limit:
        return norm
    factor = limit / xp.maximum(norm, limit)  # nan where the norm is
    for grad in grads:
        grad *= factor.astype(grad.dtype)
    return norm


def clip_value(model: Layer | Iterable[Parameter], limit: float) -> None:
    """Limit every gradient element to [-limit, limit]."""
    number("clip_value", "limit", limit)
    for parameter in model.parameters() if isinstance(model, Layer) else list(model):
        if parameter.grad is not None:
            array_module(parameter.grad).clip(parameter.grad, -limit, limit, out=parameter.grad)
