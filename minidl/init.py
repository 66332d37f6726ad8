"""Initial values of parameters: functions (shape, rng, dtype) -> array, chosen by name.

The fan-in of a Dense weight (I, O) is I, of a conv weight (KH, KW, C, F) it is KH * KW * C; a bias has the
fan-in of its weight, given as `fan_in`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

PIECE = 2**12  # numbers drawn at a time
Shape = tuple[int, ...]
Initializer = Callable[..., np.ndarray]


def zeros(shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None) -> np.ndarray:
    """All 0."""
    return np.zeros(shape, dtype)


def ones(shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None) -> np.ndarray:
    """All 1."""
    return np.ones(shape, dtype)


def glorot_uniform(
    shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None
) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010)."""
    return _uniform(math.sqrt(6 / sum(fans(shape))), shape, rng, dtype)


def glorot_normal(
    shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None
) -> np.ndarray:
    """Truncated normal with std sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS 2010)."""
    return _truncated_normal(math.sqrt(2 / sum(fans(shape))), shape, rng, dtype)


def he_uniform(shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None) -> np.ndarray:
    """U(-a, a) with a = sqrt(6 / fan_in) (He et al., ICCV 2015)."""
    return _uniform(math.sqrt(6 / (fan_in or fans(shape)[0])), shape, rng, dtype)


def he_normal(shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None) -> np.ndarray:
    """Truncated normal with std sqrt(2 / fan_in) (He et al., ICCV 2015; truncated as in Keras)."""
    return _truncated_normal(math.sqrt(2 / (fan_in or fans(shape)[0])), shape, rng, dtype)


def torch_uniform(
    shape: Shape, rng: np.random.Generator, dtype: Any, fan_in: int | None = None
) -> np.ndarray:
    """U(-a, a) with a = 1 / sqrt(fan_in): what PyTorch's Linear and Conv2d start from, biases too."""
    return _uniform(1 / math.sqrt(fan_in or fans(shape)[0]), shape, rng, dtype)


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (..., in, out); leading axes are the kernel's."""
    if len(shape) < 2:
        return max(shape[0], 1), max(shape[0], 1)
    window = math.prod(shape[:-2])
    return max(window * shape[-2], 1), max(window * shape[-1], 1)


def get(name: str | Initializer, argument: str = "initializer") -> Initializer:
    """The initialiser called `name`; a function is returned as it is."""
    if callable(name):
        return name
    if name not in _BY_NAME:
        raise ValueError(f"{argument} must be one of {', '.join(_BY_NAME)} or a function, got {name!r}")
    return _BY_NAME[name]


def _uniform(limit: float, shape: Shape, rng: np.random.Generator, dtype: Any) -> np.ndarray:
    values = np.empty(shape, dtype)
    flat = values.reshape(-1)
    for start in range(0, flat.size, PIECE):  # not all of them in double at once
        piece = flat[start : start + PIECE]
        piece[:] = rng.uniform(-limit, limit, piece.size)
    return values


def _truncated_normal(std: float, shape: Shape, rng: np.random.Generator, dtype: Any) -> np.ndarray:
    """Normal numbers redrawn beyond two sigma; 0.8796 is the std that leaves a unit normal."""
    values = rng.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return (values * (std / 0.87962566103423978)).astype(dtype)


_BY_NAME: dict[str, Initializer] = {
    f.__name__: f for f in (glorot_uniform, glorot_normal, he_uniform, he_normal, torch_uniform, zeros, ones)
}
