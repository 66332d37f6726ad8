"""What ``+``, ``@`` or ``x[i]`` mean on a Tensor: a table that ops/ fills, and one line for each operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .backend import Array, from_python, is_array

OPERATORS: dict[str, Callable[..., Any]] = {}


def plain(value: Any) -> Any:
    """The array of a tensor; anything else as it is."""
    return value._data if isinstance(value, Operators) else value


def array_of(value: Any) -> Any:
    """What an operation gets: the array of a tensor, Python numbers as they are (they never upcast)."""
    value = plain(value)
    if isinstance(value, (int, float)) and not isinstance(value, np.generic):
        return value
    return value if is_array(value) else value.item() if isinstance(value, np.generic) else from_python(value)


class Operators:
    """The operators and array methods of Tensor; comparisons give plain boolean arrays."""

    _data: Array

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError(
            "a Tensor cannot be assigned into: write dl.ops.where(mask, value, x) or "
            "dl.ops.concatenate([...]); to overwrite values outside any graph, x.data[...] = value"
        )

    def item(self) -> float:
        """The only element as a Python number."""
        return self._data.item()

    def __iter__(self) -> Iterator[Any]:
        if not self._data.ndim:
            raise TypeError("a 0-d tensor cannot be iterated over")
        return (self[i] for i in range(len(self)))

    # fmt: off
    def __len__(self) -> int: return len(self._data)
    def __bool__(self) -> bool: return bool(self._data)
    def __float__(self) -> float: return float(self._data)
    def __int__(self) -> int: return int(self._data)
    def __lt__(self, other: Any) -> Array: return self._data < plain(other)
    def __le__(self, other: Any) -> Array: return self._data <= plain(other)
    def __gt__(self, other: Any) -> Array: return self._data > plain(other)
    def __ge__(self, other: Any) -> Array: return self._data >= plain(other)
    def __add__(self, other: Any) -> Any: return OPERATORS["add"](self, other)
    def __radd__(self, other: Any) -> Any: return OPERATORS["add"](other, self)
    def __sub__(self, other: Any) -> Any: return OPERATORS["subtract"](self, other)
    def __rsub__(self, other: Any) -> Any: return OPERATORS["subtract"](other, self)
    def __mul__(self, other: Any) -> Any: return OPERATORS["multiply"](self, other)
    def __rmul__(self, other: Any) -> Any: return OPERATORS["multiply"](other, self)
    def __truediv__(self, other: Any) -> Any: return OPERATORS["divide"](self, other)
    def __rtruediv__(self, other: Any) -> Any: return OPERATORS["divide"](other, self)
    def __pow__(self, other: Any) -> Any: return OPERATORS["pow"](self, other)
    def __rpow__(self, other: Any) -> Any: return OPERATORS["pow"](other, self)
    def __matmul__(self, other: Any) -> Any: return OPERATORS["matmul"](self, other)
    def __rmatmul__(self, other: Any) -> Any: return OPERATORS["matmul"](other, self)
    def __neg__(self) -> Any: return OPERATORS["negative"](self)
    def __abs__(self) -> Any: return OPERATORS["abs"](self)
    def __getitem__(self, key: Any) -> Any: return OPERATORS["getitem"](self, key)
    def sum(self, *args: Any, **kw: Any) -> Any: return OPERATORS["sum"](self, *args, **kw)
    def mean(self, *args: Any, **kw: Any) -> Any: return OPERATORS["mean"](self, *args, **kw)
    def max(self, *args: Any, **kw: Any) -> Any: return OPERATORS["max"](self, *args, **kw)
    def min(self, *args: Any, **kw: Any) -> Any: return OPERATORS["min"](self, *args, **kw)
    def reshape(self, *shape: Any) -> Any: return OPERATORS["reshape"](self, *shape)
    def transpose(self, *axes: Any) -> Any: return OPERATORS["transpose"](self, *axes)
    T = property(lambda self: OPERATORS["transpose"](self), doc="Axes reversed.")
    # fmt: on
