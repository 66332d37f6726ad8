"""Averages of loss and accuracy over batches of unequal size."""

from __future__ import annotations

from typing import Any

from .autograd import Tensor
from .backend import Array


class Average:
    """Running averages, weighted by the number of samples."""

    def __init__(self) -> None:
        self._samples = 0
        self._sums: dict[str, float] = {}

    def add(self, loss: Tensor, outputs: Tensor, targets: Array) -> None:
        """Count one batch: its mean loss and, where this is a classification, its hits."""
        size = len(targets)
        self._samples += size
        self._sums["loss"] = self._sums.get("loss", 0.0) + size * float(loss.item())
        right = hits(outputs._data, targets)
        if right is not None:
            self._sums["accuracy"] = self._sums.get("accuracy", 0.0) + float(right.sum())

    def state_dict(self) -> dict[str, Any]:
        """Sums and count, ready for JSON."""
        return {"samples": self._samples, "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._samples, self._sums = state["samples"], dict(state["sums"])

    def logs(self) -> dict[str, float]:
        """The averages so far: loss and, for classifications, accuracy."""
        return {key: value / self._samples for key, value in self._sums.items()}


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
