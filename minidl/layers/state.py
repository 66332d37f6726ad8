"""Comparing a model's state with one to be loaded."""

from __future__ import annotations

from typing import Any


class StateError(ValueError):
    """A state dict does not fit the model: the message lists every difference."""


def compare_state(own: dict[str, tuple[int, ...]], given: dict[str, Any]) -> list[str]:
    """One line for each missing name, each unknown one and each wrong shape."""
    problems = [f"missing: {name} {shape}" for name, shape in own.items() if name not in given]
    for name, value in given.items():
        shape = getattr(value, "shape", None)
        if name not in own:
            problems.append(f"unknown: {name} {shape}")
        elif shape is None or getattr(getattr(value, "dtype", None), "kind", "f") not in "fiub":
            problems.append(
                f"not an array of numbers: {name} is {getattr(value, 'dtype', type(value).__name__)}"
            )
        elif tuple(shape) != own[name]:
            problems.append(
                f"wrong shape: {name} is {own[name]} in the model but {tuple(shape)} in the state"
            )
    return problems
