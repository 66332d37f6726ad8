"""Dropout as a layer."""

from __future__ import annotations

from .. import ops
from ..autograd import Tensor
from ..checks import share
from ..rng import Key
from .base import Layer


class Dropout(Layer):
    """Zero a share `rate` of the elements in training (Srivastava et al., JMLR 2014).

    The mask is a function of the seed, the layer's path, the training step and how often the layer was
    called in that step, so a resumed run drops what the uninterrupted one would have dropped.
    """

    def __init__(self, rate: float = 0.5, name: str | None = None):
        super().__init__(name)
        self.rate = share("Dropout", "rate", rate)
        self._stream: str | None = None
        self._step = 0
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        key = self.next_key()
        return x if key is None else ops.dropout(x, self.rate, key=key)

    def next_key(self) -> Key | None:
        """Where the random numbers of this call come from; None if it needs none."""
        if not self.training:
            return None
        stream = self._stream if self._stream is not None else self._path or ""
        key = Key(self._seed, stream, self._step, self._calls)
        self._calls += 1
        return key if self.rate else None

    def start_step(self, seed: int, stream: str, step: int) -> None:
        """Called by the training loop before each step; `stream` is the layer's path in the trained model."""
        self._seed, self._stream, self._step, self._calls = seed, stream, step, 0
