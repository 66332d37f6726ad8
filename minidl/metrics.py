"""Averages of loss and accuracy over batches of unequal size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import kernels
from .autograd import Tensor
from .backend import Array, array_module, to_numpy


class Average:
    """Running averages, weighted by the number of samples.

    Those of a GPU are added up there; the host waits for them when `logs` is read.

    Attributes
    ----------
    samples : int
        Counted so far.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._sums: dict[str, float] = {}
        self._totals: Array | None = None  # on a device: sum of losses and of hits, (2,)

    def add(self, loss: Tensor, outputs: Tensor, targets: Array) -> None:
        """Count one batch: its mean loss and, where this is a classification, its hits."""
        size = len(targets)
        self.samples += size
        if type(outputs._data) is not np.ndarray:
            xp = array_module(outputs._data)
            if self._totals is None:
                self._totals = xp.zeros(2, xp.float64)
            kernels.of(xp).add_to_average(self._totals, loss._data, outputs._data, targets)
            return
        self._sums["loss"] = self._sums.get("loss", 0.0) + size * float(loss.item())
        right = hits(outputs._data, targets)
        if right is not None:
            self._sums["accuracy"] = self._sums.get("accuracy", 0.0) + float(right.sum())

    def add_up_in(self, totals: Array) -> None:
        """Use this array (2,) on a device, float64, from zero on: a captured step always adds to the same memory."""
        totals.fill(0)
        self._totals = totals

    def _collected(self) -> dict[str, float]:
        """The sums, with those of the device."""
        if self._totals is None:
            return self._sums
        sums = dict(zip(("loss", "accuracy"), to_numpy(self._totals).tolist(), strict=True))
        if np.isnan(sums["accuracy"]):
            del sums["accuracy"]  # this is no classification
        return {key: value + self._sums.get(key, 0.0) for key, value in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and count, ready for JSON."""
        return {"samples": self.samples, "sums": dict(self._collected())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.samples, self._sums = state["samples"], dict(state["sums"])

    def logs(self) -> dict[str, float]:
        """The averages so far: loss and, for classifications, accuracy."""
        return {key: value / self.samples for key, value in self._collected().items()}

    def later(self) -> Mapping[str, float]:
        """What `logs` will be when they are read: copy what is to be kept."""
        return _Later(self)


class _Later(Mapping[str, float]):
    def __init__(self, average: Average):
        self._average = average

    def __getitem__(self, key: str) -> float:
        return self._average.logs()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._average.logs())

    def __len__(self) -> int:
        return len(self._average.logs())


def hits(outputs: Array, targets: Array) -> Array | None:
    """Which samples are classified right, shape (N,); None if this is no classification.

    A classification has outputs (N, C) and either class numbers (N,) or one-hot rows (N, C), C > 1.
    """
    if outputs.ndim == 2 and targets.ndim == 1 and targets.dtype.kind in "iu":
        return outputs.argmax(axis=1) == targets
    if outputs.ndim == 2 and outputs.shape == targets.shape and outputs.shape[1] > 1:
        one_hot = ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()
        return outputs.argmax(axis=1) == targets.argmax(axis=1) if one_hot else None
    return None
