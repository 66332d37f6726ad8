"""Hot loops on plain arrays. `reference` specifies every kernel; faster twins share its names."""

from __future__ import annotations

from types import ModuleType

from . import reference

_choice = "auto"


def use(name: str) -> None:
    """Choose the kernel set: "auto" (the fastest that is installed) or "reference" (plain array code)."""
    global _choice
    if name not in ("auto", "reference"):
        raise ValueError(f"kernels must be 'auto' or 'reference', got {name!r}")
    _choice = name


def of(array_module: ModuleType) -> ModuleType:
    """The kernels for arrays of `array_module` (numpy or cupy)."""
    return reference
