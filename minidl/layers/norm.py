"""Batch normalisation as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..autograd import Tensor
from ..backend import Array, array_module
from ..checks import number, share
from .base import Layer, Parameter


class BatchNorm(Layer):
    """Normalise each channel over the batch (Ioffe and Szegedy, ICML 2015), (..., C) -> (..., C).

    In inference the running averages are used and not updated; frozen too, unless `freeze` says otherwise.

    Parameters
    ----------
    momentum : float
        Weight of the new value in the running averages (Keras's 0.99 is 0.01 here).
    eps : float
        Added to the variance (Keras: 1e-3).

    Attributes
    ----------
    gamma, beta : Parameter, shape (C,)
    running_mean, running_var : array, shape (C,)
    """

    gamma: Parameter
    beta: Parameter
    running_mean: Array
    running_var: Array

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5, name: str | None = None):
        super().__init__(name)
        self.momentum = share("BatchNorm", "momentum", momentum)
        self.eps = number("BatchNorm", "eps", eps, above=0)

    def build(self, *shapes: tuple[int, ...]) -> None:
        channels = shapes[0][-1]
        self.add_parameter("gamma", (channels,), "ones")
        self.add_parameter("beta", (channels,), "zeros")
        xp: Any = array_module(self.gamma.data)
        self.running_mean = xp.zeros(channels, dtype=self._build_dtype)
        self.running_var = xp.ones(channels, dtype=self._build_dtype)

    def channels(self) -> int:
        """How many it was built for."""
        return len(self.gamma.data)

    def is_affine(self) -> bool:
        """Whether it does to each channel what given numbers say, in this computer's own memory."""
        return self._built and not self.looks_at_batch() and isinstance(self.gamma.data, np.ndarray)

    def keeps_order(self) -> bool:
        """Whether a larger number stays the larger one: max pooling may go first then (see `Sequential`)."""
        return self.is_affine() and bool((self.gamma.data > 0).all())  # a GPU would have to be waited for

    def looks_at_batch(self) -> bool:
        """Whether the batch itself says what is done to it."""
        return self.training and not (self._frozen and self._frozen_norm == "inference")

    def averages(self) -> tuple[Array, Array] | None:
        """The running averages, unless they are to be kept as they are while the batch is looked at."""
        kept = self.looks_at_batch() and self._frozen and self._frozen_norm == "batch"
        return None if kept else (self.running_mean, self.running_var)

    def forward(self, x: Tensor) -> Tensor:
        training = self.looks_at_batch()
        mean, var = self.averages() or (None, None)
        return ops.batch_norm(x, self.gamma, self.beta, mean, var, training, self.momentum, self.eps)
