"""Checks of arguments: each returns the value, or raises ValueError that names owner, argument and value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def positive_integer(owner: str, argument: str, value: Any) -> int:
    """`value` if it is an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{owner}: {argument} must be an integer >= 1, got {value!r}")
    return int(value)


def number(
    owner: str, argument: str, value: Any, *, above: float | None = None, below: float | None = None
) -> float:
    """`value` if it is a finite number >= 0, or > `above`, and < `below`."""
    numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    bounds = [">= 0" if above is None else f"> {above}", *([] if below is None else [f"< {below}"])]
    low = numeric and (value >= 0 if above is None else value > above)
    if not (low and math.isfinite(value) and (below is None or value < below)):
        raise ValueError(f"{owner}: {argument} must be a finite number {' and '.join(bounds)}, got {value!r}")
    return value


def share(owner: str, argument: str, value: Any) -> float:
    """`value` if it is a number between 0 and 1, both included."""
    numeric = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (numeric and 0 <= value <= 1):
        raise ValueError(f"{owner}: {argument} must be between 0 and 1, got {value!r}")
    return float(value)
