"""Shapes with names: symbolic checks whose errors a reader understands, and output sizes of windows.

The letters mean the same everywhere: N batch, H W height and width, C channels in, F filters (channels
out), KH KW kernel, OH OW output, I features in, O features out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))


WINOGRAD = {"winograd4": 3, "winograd3": 5}  # algorithms of conv2d, and their filters' side
ALGORITHMS = "auto", "im2col", "direct", *WINOGRAD


class ShapeError(ValueError):
    """Shapes do not fit: the message names the symbol, both values and the fix."""


def bind(op: str, fix: str = "", **arguments: tuple[str, Any]) -> Mapping[str, int]:
    """Check shapes against symbolic ones, such as ``x=("N I", x), w=("I O", w)``.

    Parameters
    ----------
    op : str
        Name of the operation, the first word of the message.
    fix : str
        Advice that ends the message.
    **arguments : (str, array or None)
        The symbolic shape and the array; None is skipped. A digit stands for itself.

    Returns
    -------
    mapping
        The value of each symbol.

    Raises
    ------
    ShapeError
        ``conv2d: C is 3 in x (8, 28, 28, 3) but 4 in weight (3, 3, 4, 16)``.
    """
    sizes = _sizes(
        tuple([(symbols, array.shape) for symbols, array in arguments.values() if array is not None])
    )
    if sizes is None:
        raise _mismatch(op, fix, arguments)
    return sizes


@lru_cache(maxsize=1024)  # a training step asks the same again
def _sizes(arguments: tuple[tuple[str, tuple[int, ...]], ...]) -> Mapping[str, int] | None:
    """The value of each symbol; None if the shapes do not fit."""
    sizes: dict[str, int] = {}
    for symbols, shape in arguments:
        expected = symbols.split()
        if len(expected) != len(shape):
            return None
        for symbol, size in zip(expected, shape, strict=True):
            if sizes.setdefault(symbol, size) != size or (symbol.isdigit() and int(symbol) != size):
                return None
    return MappingProxyType(sizes)


def _mismatch(op: str, fix: str, arguments: dict[str, tuple[str, Any]]) -> ShapeError:
    """The error for the first argument that does not fit those before it."""
    origin: dict[str, tuple[int, str]] = {}
    advice = f"; {fix}" if fix else ""
    for name, (symbols, array) in arguments.items():
        expected, shape = symbols.split(), () if array is None else array.shape
        if array is not None and len(expected) != len(shape):
            return ShapeError(
                f"{op}: {name} needs {len(expected)} axes ({', '.join(expected)}), got shape {shape}{advice}"
            )
        for symbol, size in zip(expected, shape, strict=False):
            fixed = (int(symbol), " by definition") if symbol.isdigit() else (size, f" in {name} {shape}")
            known, where = origin.setdefault(symbol, fixed)
            if known != size:
                return ShapeError(f"{op}: {symbol} is {known}{where} but {size} in {name} {shape}{advice}")
    raise AssertionError("the shapes fit")


def pair(value: int | Pair, what: str, at_least: int = 1) -> Pair:
    """`value` as two integers; one integer stands for both axes."""
    if type(value) is tuple and len(value) == 2:  # the usual case, and the quickest to see
        first, second = value
        if type(first) is type(second) is int and first >= at_least <= second:
            return value
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    whole = len(both) == 2 and all(isinstance(v, (int, np.integer)) for v in both)
    if not whole or min(both) < at_least:
        raise ShapeError(f"{what} must be an integer >= {at_least} or two of them, got {value!r}")
    return (int(both[0]), int(both[1]))


def window_pads(
    padding: str | int | Pair | Pads, size: Pair, kernel: Pair, strides: Pair, dilation: Pair, op: str
) -> Pads:
    """Padding in pixels, ((top, bottom), (left, right)), from any of the ways to write it.

    "valid" is no padding. "same" gives ceil(size / stride) outputs, the odd pixel at the bottom and
    right (TensorFlow's rule). "ceil" pads only there, so much that a last, partial window is seen too (Caffe's
    rule, PyTorch's ceil_mode). An integer or (vertical, horizontal) pads both sides alike;
    ((top, bottom), (left, right)) is taken as it is.
    """
    # Lists and arrays cannot be remembered.
    find = _remembered_pads if type(padding) in (str, int) else _window_pads
    return find(padding, size, kernel, strides, dilation, op)


def _window_pads(
    padding: str | int | Pair | Pads, size: Pair, kernel: Pair, strides: Pair, dilation: Pair, op: str
) -> Pads:
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        pads = []
        for length, k, s, d in zip(size, kernel, strides, dilation, strict=True):
            total = max((-(-length // s) - 1) * s + (k - 1) * d + 1 - length, 0)
            pads.append((total // 2, total - total // 2))
        return (pads[0], pads[1])
    if padding == "ceil":
        ends = []
        for length, k, s, d in zip(size, kernel, strides, dilation, strict=True):
            reach = (k - 1) * d + 1
            last = max(-(-(length - reach) // s), 0) * s  # where the last window begins: inside the image
            ends.append(max((last if last < length else last - s) + reach - length, 0))
        return ((0, ends[0]), (0, ends[1]))
    if isinstance(padding, str):
        raise ShapeError(f"{op}: padding must be 'valid', 'same', 'ceil' or integers, got {padding!r}")
    sides: tuple[Any, ...] = tuple(padding) if isinstance(padding, (tuple, list)) else (padding, padding)
    if len(sides) != 2:
        raise ShapeError(f"{op}: padding must be one integer or two sides, got {padding!r}")
    vertical, horizontal = (pair(side, f"{op}: padding", at_least=0) for side in sides)
    return (vertical, horizontal)


_remembered_pads = lru_cache(maxsize=1024)(_window_pads)


@lru_cache(maxsize=1024)
def window_output(size: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair, op: str) -> Pair:
    """(OH, OW) of a window that slides over `size` pixels; ShapeError if it does not fit once."""
    out = []
    for axis, length, k, s, pad, d in zip("HW", size, kernel, strides, pads, dilation, strict=True):
        reach = (k - 1) * d + 1
        count = (length + sum(pad) - reach) // s + 1
        if count < 1:
            raise ShapeError(
                f"{op}: the window does not fit: (K{axis} - 1) * dilation + 1 = {reach} but "
                f"{axis} + padding = {length} + {sum(pad)} = {length + sum(pad)}; "
                f"use a smaller kernel, padding='same' or a larger input"
            )
        out.append(count)
    return (out[0], out[1])
