"""Labels as the classification losses use them: a weighted distribution over classes for each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, array_module
from ..checks import share
from ..shapes import ShapeError
from .reduce import mean, sum


class Targets:
    """Class numbers or probabilities, smoothed and weighted.

    Parameters
    ----------
    op : str
        The loss, for messages.
    logits : Tensor, shape (..., C)
    labels : integer array, shape (...), or array, shape (..., C)
        Class numbers 0..C-1, or probabilities (one-hot rows for instance).
    class_weights, ignore_index, smoothing
        As in `cross_entropy`.

    Attributes
    ----------
    numbers : array, shape (N,), int64, or None
        The class numbers, if the loss is -log p of them and nothing else: no weights, no smoothing.
    rows : array, shape (N, C)
        What multiplies -log p; made when asked for.
    divisor : number or None
        What a mean divides the sum by: the weight of the labels that count; None is N.

    Raises
    ------
    ShapeError, ValueError, TypeError
        Labels of a wrong shape, out of range, or neither integers nor probabilities.
    """

    def __init__(
        self,
        op: str,
        logits: Tensor,
        labels: Any,
        class_weights: Any = None,
        ignore_index: int | None = None,
        smoothing: float = 0.0,
    ):
        self.op, self.shape, self.divisor = op, logits.shape, None
        self.xp, self.classes, self._dtype = array_module(logits._data), logits.shape[-1], logits.dtype
        labels = labels._data if isinstance(labels, Tensor) else self.xp.asarray(labels)
        weights = None if class_weights is None else self._weights(class_weights, logits.dtype)
        smoothing = share(op, "label_smoothing", smoothing)
        counts: Array | bool = True  # which rows count
        self._rows: Array | None = None
        self.numbers: Array | None = None
        if labels.shape == logits.shape:
            rows = labels.reshape(-1, self.classes).astype(logits.dtype)
        else:
            self.numbers = self._class_numbers(labels)
            counts = True if ignore_index is None else self.numbers != ignore_index
            self._check_range(self.numbers, counts)
            if weights is None and ignore_index is None and not smoothing:
                return
            rows = self._one_hot(self.numbers) * self._column(counts)
            self.numbers = None
            if weights is not None or ignore_index is not None:
                self.divisor = (rows if weights is None else rows * weights).sum()
        if smoothing:
            rows = (rows * (1 - smoothing) + smoothing / self.classes) * self._column(counts)
        self._rows = rows if weights is None else rows * weights

    @property
    def rows(self) -> Array:
        if self._rows is None:
            self._rows = self._one_hot(self.numbers)
        return self._rows

    def _one_hot(self, numbers: Array) -> Array:
        return (numbers[:, None] == self.xp.arange(self.classes)).astype(self._dtype)

    def flatten(self, logits: Tensor) -> Tensor:
        """Logits as (N, C)."""
        return logits if logits.ndim == 2 else logits.reshape(-1, self.classes)

    def reduce(self, losses: Tensor, reduction: str) -> Tensor:
        """The mean, the sum, or the losses (N,) in the shape of the labels."""
        if reduction == "none":
            return losses if len(self.shape) == 2 else losses.reshape(self.shape[:-1])
        if reduction == "mean" and self.divisor is not None:
            return sum(losses) / self.divisor
        return reduce(self.op, losses, reduction)

    def _weights(self, class_weights: Any, dtype: Any) -> Array:
        class_weights = class_weights._data if isinstance(class_weights, Tensor) else class_weights
        weights = self.xp.asarray(class_weights, dtype=dtype)
        if weights.shape != (self.classes,):
            raise ShapeError(
                f"{self.op}: class_weights must have shape ({self.classes},), got {weights.shape}"
            )
        return weights

    def _class_numbers(self, labels: Array) -> Array:
        """Labels as int64, (N,)."""
        if labels.shape != self.shape[:-1]:
            raise ShapeError(
                f"{self.op}: logits {self.shape} need labels of shape {self.shape[:-1]} (class numbers) or "
                f"{self.shape} (probabilities), got {labels.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"{self.op}: class numbers must be integers, got {labels.dtype}; use labels.astype('int64')"
            )
        return labels.reshape(-1).astype(self.xp.int64, copy=False)

    def _check_range(self, flat: Array, counts: Array | bool) -> None:
        if self.xp is not np:  # on a GPU the check would make the host wait
            return
        if (
            counts is True and flat.size and flat.view(np.uint64).max() < self.classes
        ):  # negative ones are huge
            return
        wrong = ((flat < 0) | (flat >= self.classes)) & counts
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"{self.op}: labels must be in 0..{self.classes - 1} (C = {self.classes} in logits {self.shape}), "
                f"got {flat[place]} at position {place}; shift the labels or widen the last layer"
            )

    @staticmethod
    def _column(counts: Array | bool) -> Array | bool:
        return counts if isinstance(counts, bool) else counts[:, None]


def check_reduction(op: str, reduction: str) -> str:
    """`reduction`, if it is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def reduce(op: str, losses: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of all losses, or the losses as they are ("none")."""
    check_reduction(op, reduction)
    return losses if reduction == "none" else mean(losses) if reduction == "mean" else sum(losses)
