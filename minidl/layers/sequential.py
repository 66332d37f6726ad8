"""A model that is a chain of layers."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..autograd import Tensor
from .base import Layer, inference
from .fusion import steps
from .tree import Tree


class Sequential(Layer):
    """Layers applied one after the other.

    Parameters
    ----------
    *layers : Layer, or (name, Layer)
        Or one list of them. Layers without a name get one from their class: conv2d, conv2d_1, ...
    input_shape : tuple of int, optional
        Shape of one sample, such as (28, 28, 1): makes the parameters at once instead of at the first call.
    seed : int
        Of the initial values and of dropout.

    Notes
    -----
    ``model[2]`` and ``model["conv2d_1"]`` are layers. ``model[:4]`` is a Sequential on the same layers:
    freezing it freezes them here, and its parameter names are a part of the model's.
    """

    def __init__(
        self,
        *layers: Any,
        input_shape: tuple[int, ...] | None = None,
        name: str | None = None,
        seed: int = 0,
    ):
        super().__init__(name, seed)
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)) and not _is_named(layers[0]):
            layers = tuple(layers[0])
        self.layers: list[Layer] = []
        for layer in layers:
            self.append(layer)
        if input_shape is not None:
            if not isinstance(input_shape, (tuple, list)):
                raise TypeError(
                    f"Sequential: input_shape must be a tuple such as (28, 28, 1), got {input_shape!r}"
                )
            with inference(self):
                self(np.zeros((1, *input_shape), self._build_dtype))

    def append(self, layer: Layer | tuple[str, Layer]) -> Sequential:
        """Add a layer, or a (name, layer), at the end."""
        if isinstance(layer, tuple):
            layer[1].name, layer = layer
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: expected a Layer, got {layer!r}")
        taken = {other.name for other in self.layers if other is not layer}
        if layer.name is None:
            words = type(layer).__name__.replace("ReLU", "Relu")
            base = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words).lower()
            layer.name = next(n for n in _numbered(base) if n not in taken)
        elif layer.name in taken:
            raise ValueError(f"Sequential: two layers are called {layer.name!r}; give one another name")
        self.layers.append(layer)
        Tree.structure += 1
        return self

    def forward(self, x: Tensor) -> Tensor:
        for layer, options in steps(self.layers):
            x = layer(x, **options)
        return x

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        return ((layer.name or str(i), layer) for i, layer in enumerate(self.layers))

    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, slice):
            part = Sequential(seed=self._seed)
            part.layers = self.layers[key]
            return part
        if isinstance(key, str):
            for layer in self.layers:
                if layer.name == key:
                    return layer
            raise KeyError(f"no layer {key!r}; there are {', '.join(str(x.name) for x in self.layers)}")
        return self.layers[key]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        inside = "".join(f"{layer!r},\n" for layer in self.layers)
        return f"Sequential(\n{textwrap.indent(inside, '  ')})"


def _is_named(item: Any) -> bool:
    """Whether `item` is a (name, layer)."""
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 1
    while True:
        yield f"{base}_{number}"
        number += 1
