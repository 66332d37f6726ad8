"""Dropout as a layer."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..rng import Key
from .base import Layer


class Dropout(Layer):
    """Zero a share `rate` of the elements in training (Srivastava et al., JMLR 2014).

    The mask is a function of the seed, the layer's path, the training step and how often the layer was
    called in that step, so a resumed run drops what the uninterrupted one would have dropped.
    """

    def __init__(self, rate: float = 0.5, name: str | None = None):
        super().__init__(name)
        if not 0 <= rate <= 1:
            raise ValueError(f"Dropout: rate must be between 0 and 1, got {rate}")
        self.rate = rate
        self._step = 0
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        key = Key(self._seed, self._path or "", self._step, self._calls)
        self._calls += 1
        return ops.dropout(x, self.rate, key=key)

    def start_step(self, seed: int, step: int) -> None:
        """Called by the training loop before each step."""
        self._seed, self._step, self._calls = seed, step, 0
