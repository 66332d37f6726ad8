"""Layers that reshape, resize or rescale their input and learn nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend import Array, array_module
from ..shapes import Pair, ShapeError, pair
from .base import Layer


class Flatten(Layer):
    """(N, ...) -> (N, everything else); images in the order H, W, C."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Reshape(Layer):
    """(N, ...) -> (N, *target_shape); one length may be -1."""

    def __init__(self, target_shape: tuple[int, ...], name: str | None = None):
        super().__init__(name)
        if not isinstance(target_shape, (tuple, list)):
            raise TypeError(f"Reshape: target_shape must be a tuple of integers, got {target_shape!r}")
        self.target_shape = tuple(target_shape)

    def forward(self, x: Tensor) -> Tensor:
        known = math.prod(n for n in self.target_shape if n != -1)  # NumPy cannot infer -1 for an empty batch
        inferred = math.prod(x.shape[1:]) // known if known else 0
        return ops.reshape(x, (x.shape[0], *(inferred if n == -1 else n for n in self.target_shape)))


class Resize(Layer):
    """Bilinear resizing to (OH, OW), as in `ops.resize`."""

    def __init__(self, size: int | Pair, name: str | None = None):
        super().__init__(name)
        self.size = pair(size, "Resize: size")

    def forward(self, x: Tensor) -> Tensor:
        return ops.resize(x, self.size)


class Normalize(Layer):
    """(x - mean) / std for each channel, with given constants.

    Parameters
    ----------
    mean, std : float or sequence of C floats
        In units of the input; uint8 images were divided by 255 before.
    """

    def __init__(self, mean: Any, std: Any, name: str | None = None):
        super().__init__(name)
        if not (np.asarray(std) > 0).all():
            raise ValueError(f"Normalize: std must be > 0, got {std!r}")
        self.mean, self.std = _floats(mean), _floats(std)
        self._kept: tuple[Any, tuple[Array, Array]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        for constants in (self.mean, self.std):
            if isinstance(constants, tuple) and len(constants) != x.shape[-1]:
                raise ShapeError(
                    f"Normalize: C is {x.shape[-1]} in x {x.shape} but {len(constants)} in {constants}"
                )
        mean, std = self._arrays(x)
        return (x - mean) / std

    def _arrays(self, x: Tensor) -> tuple[Array, Array]:
        """Both where x is and in its dtype: sent there once."""
        wanted = x.device, x.dtype, self.mean, self.std
        if self._kept is None or self._kept[0] != wanted:
            xp = array_module(x._data)
            arrays = xp.asarray(self.mean, dtype=x.dtype), xp.asarray(self.std, dtype=x.dtype)
            self._kept = wanted, arrays
        return self._kept[1]


def _floats(value: Any) -> float | tuple[float, ...]:
    array = np.asarray(value, dtype=float)
    return float(array) if array.ndim == 0 else tuple(array.tolist())
