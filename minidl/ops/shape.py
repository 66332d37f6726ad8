"""Operations that move elements: reshape, transpose, index, join, pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import ShapeError


class Reshape(Function):
    """The same elements in another shape."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.old_shape = x.shape
        try:
            return x.reshape(self.shape)
        except ValueError:
            raise ShapeError(
                f"reshape: {x.size} elements of shape {x.shape} do not fill {self.shape}; "
                f"use -1 for the axis that should follow from the others"
            ) from None

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.old_shape)


class Transpose(Function):
    """Axes in another order."""

    def __init__(self, axes: tuple[int, ...] | None):
        self.axes = axes

    def forward(self, x: Array) -> Array:
        self.order_of_axes = (
            tuple(range(x.ndim))[::-1] if self.axes is None else tuple(a % x.ndim for a in self.axes)
        )
        if sorted(self.order_of_axes) != list(range(x.ndim)):
            raise ShapeError(
                f"transpose: axes {self.axes} must name each of the {x.ndim} axes of {x.shape} once"
            )
        return x.transpose(self.order_of_axes)

    def backward(self, dy: Array) -> Array:
        inverse = sorted(range(dy.ndim), key=self.order_of_axes.__getitem__)
        return dy.transpose(inverse)


class GetItem(Function):
    """y = x[key]        dx = 0, plus dy at the places read (as often as they were read)"""

    def __init__(self, key: Any):
        self.key = key

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x[self.key]

    def backward(self, dy: Array) -> Array:
        dx = self.xp.zeros(self.shape, dtype=dy.dtype)
        keys = self.key if isinstance(self.key, tuple) else (self.key,)
        if any(hasattr(k, "dtype") or isinstance(k, (list, tuple)) for k in keys):
            self.xp.add.at(dx, self.key, dy)  # an index array may name a place twice
        else:
            dx[self.key] = dy
        return dx


class Concatenate(Function):
    """Arrays joined along an axis; each gets its part of the gradient."""

    def __init__(self, axis: int):
        self.axis = axis

    def forward(self, *arrays: Array) -> Array:
        self.lengths = [a.shape[self.axis] for a in arrays]
        return self.xp.concatenate(arrays, axis=self.axis)

    def backward(self, dy: Array) -> Any:
        grads, start = [], 0
        for length in self.lengths:
            index = [slice(None)] * dy.ndim
            index[self.axis] = slice(start, start + length)
            grads.append(dy[tuple(index)])
            start += length
        return tuple(grads)


class Pad(Function):
    """x framed by a constant; the gradient is that of the inside."""

    def __init__(self, widths: tuple[tuple[int, int], ...], value: float):
        self.widths, self.value = widths, value

    def forward(self, x: Array) -> Array:
        if len(self.widths) != x.ndim:
            raise ShapeError(
                f"pad: needs (before, after) for each of the {x.ndim} axes of {x.shape}, got {self.widths}"
            )
        self.inside = tuple(
            slice(before, before + n) for (before, _), n in zip(self.widths, x.shape, strict=True)
        )
        return self.xp.pad(x, self.widths, constant_values=self.value)

    def backward(self, dy: Array) -> Array:
        return dy[self.inside]


def reshape(x: Any, *shape: Any) -> Tensor:
    """x in another shape, given as a tuple or as separate integers; one may be -1."""
    return Reshape(tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape)(x)


def flatten(x: Any) -> Tensor:
    """(N, ...) -> (N, everything else); for images in the order H, W, C."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    width = 1
    for n in x.shape[1:]:
        width *= n
    return Reshape((x.shape[0], width))(x)


def transpose(x: Any, *axes: Any) -> Tensor:
    """x with its axes in the given order (a tuple or separate integers); reversed if none is given."""
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return Transpose(tuple(order) if order else None)(x)


def getitem(x: Any, key: Any) -> Tensor:
    """x[key] for integers, slices, None, ..., integer arrays and boolean masks."""
    key = tuple(k.data if isinstance(k, Tensor) else k for k in key) if isinstance(key, tuple) else key
    return GetItem(key.data if isinstance(key, Tensor) else key)(x)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Join tensors along an existing axis."""
    if not tensors:
        raise ValueError("concatenate: needs at least one tensor, got an empty sequence")
    return Concatenate(axis)(*tensors)


def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x with `widths` (before, after) elements of `value` added on each axis."""
    return Pad(tuple((int(before), int(after)) for before, after in widths), value)(x)
