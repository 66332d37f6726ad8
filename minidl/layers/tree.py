"""Parameter, and Tree: how a model finds what it is made of. No registration, only attributes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..autograd import Tensor
from ..backend import Array, is_array


class Parameter(Tensor):
    """A tensor that is trained: an attribute of a Layer."""

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None):
        super().__init__(data, requires_grad, dtype)

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained; optimisers notice a change."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._requires_grad = value
        Tree.structure += 1

    @property
    def data(self) -> Array:
        """The values; an assignment overwrites them in place, for an optimiser may own the memory."""
        return super().data

    @data.setter
    def data(self, value: Any) -> None:
        if np.shape(value) != self.shape:
            raise ValueError(f"Parameter: data must keep the shape {self.shape}, got {np.shape(value)}")
        self._data[...] = value
        self.version += 1


class Tree:
    """Walks over attributes in order of assignment; names that start with ``_`` are left out."""

    structure: ClassVar[int] = 0  # goes up when any model gains, freezes or moves a parameter

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """(name, layer) of the direct children."""
        for key, value in vars(self).items():
            if key.startswith("_"):
                continue
            if isinstance(value, Tree):
                yield key, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{key}.{i}", v) for i, v in enumerate(value) if isinstance(v, Tree))
            elif isinstance(value, dict):
                yield from ((f"{key}.{k}", v) for k, v in value.items() if isinstance(v, Tree))

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """(path, layer) of this layer and all below, each once, parents first."""
        seen: set[int] = set()
        stack: list[tuple[str, Any]] = [(prefix, self)]
        while stack:
            path, layer = stack.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield path, layer
                below = [(f"{path}.{key}" if path else key, child) for key, child in layer.named_children()]
                stack.extend(reversed(below))

    def find_layers(self, *patterns: str) -> list[Any]:
        """The layers below whose path matches a shell pattern such as "block[1-4]*".

        Raises
        ------
        ValueError
            A pattern matches none.
        """
        paths = {path: layer for path, layer in self.named_layers() if path}
        for pattern in patterns:
            if not fnmatch.filter(paths, pattern):
                raise ValueError(f"no layer matches {pattern!r}; there are {', '.join(paths)}")
        return [layer for path, layer in paths.items() if any(fnmatch.fnmatchcase(path, p) for p in patterns)]

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of all parameters, each once."""
        seen: set[int] = set()
        for path, value in self._named_values():
            if isinstance(value, Parameter) and id(value) not in seen:
                seen.add(id(value))
                yield path, value

    def parameters(self) -> list[Parameter]:
        """All parameters, frozen ones too."""
        return [p for _, p in self.named_parameters()]

    def count_parameters(self) -> tuple[int, int]:
        """(trainable, non-trainable) numbers, the buffers among the latter."""
        values = {id(v): v for _, v in self._named_values()}.values()
        trainable = sum(v.size for v in values if isinstance(v, Parameter) and v.requires_grad)
        return trainable, sum(v.size for v in values) - trainable

    def _named_values(self) -> Iterator[tuple[str, Parameter | Array]]:
        for path, layer in self.named_layers():
            for key, value in vars(layer).items():
                if not key.startswith("_") and (isinstance(value, Parameter) or is_array(value)):
                    yield f"{path}.{key}" if path else key, value

    def __setattr__(self, key: str, value: Any) -> None:
        if isinstance(value, (Tree, Parameter)):
            Tree.structure += 1
        object.__setattr__(self, key, value)
