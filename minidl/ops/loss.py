"""Losses. Classification losses take logits: softmax and logarithm together lose no precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, array_module
from ..shapes import ShapeError
from .activation import log_softmax, softplus
from .elementwise import abs, multiply, subtract
from .reduce import mean, sum


class CrossEntropy(Function):
    """loss_n = -sum_c t[n, c] log softmax(x)[n, c]        dx = softmax(x) sum_c t - t,  times dloss_n"""

    def forward(self, x: Array, targets: Array) -> Array:  # (N, C), (N, C)
        self.targets = targets
        self.log_p = self.kernels.log_softmax(x)
        return -(targets * self.xp.where(targets != 0, self.log_p, 0)).sum(axis=1)  # 0 * -inf counts as 0

    def backward(self, dloss: Array) -> Any:  # (N,)
        total = self.targets.sum(axis=1, keepdims=True)
        return dloss[:, None] * (self.xp.exp(self.log_p) * total - self.targets), None


def cross_entropy(
    logits: Any,
    labels: Any,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Softmax cross-entropy.

    Parameters
    ----------
    logits : Tensor, shape (..., C)
        Not normalised, not softmaxed.
    labels : integer array, shape (...), or float array, shape (..., C)
        Class numbers 0..C-1, or probabilities (one-hot for instance).
    label_smoothing : float
        This share of each target is spread evenly over all classes (Szegedy et al., CVPR 2016).
    class_weights : array, shape (C,), optional
        Weight of each class. With class numbers the mean is divided by the weights of the labels.
    ignore_index : int, optional
        Rows with this label count neither in the sum nor in the mean.
    reduction : "mean", "sum" or "none"

    Raises
    ------
    ShapeError, ValueError, TypeError
        Labels of a wrong shape, out of range, or neither integers nor probabilities.
    """
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    classes = logits.shape[-1]
    rows = logits if logits.ndim == 2 else logits.reshape(-1, classes)
    targets, weights, counted = _targets(
        "cross_entropy", rows, labels, logits.shape, class_weights, ignore_index
    )
    if label_smoothing:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {label_smoothing}")
        smooth = label_smoothing / classes
        targets = targets * (1 - label_smoothing) + smooth * (counted[:, None] if counted is not None else 1)
    if weights is not None:
        targets = targets * weights
    losses = CrossEntropy()(rows, targets)
    return _reduce(
        "cross_entropy", losses, reduction, _weight_of_labels(rows, labels, weights, counted), logits.shape
    )


def cross_entropy_composed(logits: Any, labels: Any) -> Tensor:
    """`cross_entropy` of (N, C) and (N,) in primitive operations: the explanation and the tests' oracle."""
    log_p = log_softmax(logits)
    return -mean(log_p[np.arange(len(labels)), labels])


def nll(
    log_probabilities: Any,
    labels: Any,
    class_weights: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of class numbers under log-probabilities, such as `log_softmax` gives.

    Parameters and reduction as in `cross_entropy`; `log_probabilities` has shape (..., C).
    """
    log_p = log_probabilities if isinstance(log_probabilities, Tensor) else Tensor(log_probabilities)
    rows = log_p if log_p.ndim == 2 else log_p.reshape(-1, log_p.shape[-1])
    targets, weights, counted = _targets("nll", rows, labels, log_p.shape, class_weights, ignore_index)
    if weights is not None:
        targets = targets * weights
    losses = -sum(multiply(rows, targets), axis=1)
    return _reduce("nll", losses, reduction, _weight_of_labels(rows, labels, weights, counted), log_p.shape)


def mse(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared error, averaged over all elements."""
    error = subtract(prediction, _same_shape("mse", prediction, target))
    return _reduce("mse", error * error, reduction)


def mae(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Absolute error, averaged over all elements."""
    return _reduce("mae", abs(subtract(prediction, _same_shape("mae", prediction, target))), reduction)


def binary_cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), computed as softplus(x) - t x without overflow."""
    targets = _same_shape("binary_cross_entropy", logits, targets)
    return _reduce("binary_cross_entropy", softplus(logits) - multiply(logits, targets), reduction)


def _same_shape(op: str, prediction: Any, target: Any) -> Any:
    """`target` in the prediction's dtype; broadcasting (N, 1) against (N,) would be a silent mistake."""
    if np.shape(target) != np.shape(prediction):
        raise ShapeError(
            f"{op}: prediction has shape {np.shape(prediction)} but target {np.shape(target)}; reshape one of them"
        )
    if isinstance(target, Tensor) or not hasattr(prediction, "dtype"):
        return target
    return array_module(target).asarray(target, dtype=prediction.dtype)


def _targets(
    op: str, rows: Tensor, labels: Any, shape: tuple[int, ...], class_weights: Any, ignore_index: int | None
) -> tuple[Array, Array | None, Array | None]:
    """Target distribution (N, C), class weights (C,), and which rows count (None: all)."""
    xp = array_module(rows.data)
    labels = labels.data if isinstance(labels, Tensor) else xp.asarray(labels)
    classes, weights = shape[-1], None
    if class_weights is not None:
        weights = xp.asarray(
            class_weights.data if isinstance(class_weights, Tensor) else class_weights, dtype=rows.dtype
        )
        if weights.shape != (classes,):
            raise ShapeError(f"{op}: class_weights must have shape ({classes},), got {weights.shape}")
    if labels.shape == shape and labels.dtype.kind == "f":
        return labels.reshape(rows.shape).astype(rows.dtype, copy=False), weights, None
    if labels.shape != shape[:-1]:
        raise ShapeError(
            f"{op}: logits {shape} need labels of shape {shape[:-1]} (class numbers) or {shape} (probabilities), got {labels.shape}"
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{op}: class numbers must be integers, got {labels.dtype}; use labels.astype('int64')"
        )
    flat = labels.reshape(-1).astype(xp.int64)
    counted = None if ignore_index is None else flat != ignore_index
    if xp is np:  # on a GPU the check would make the host wait
        wrong = (
            ((flat < 0) | (flat >= classes))
            if counted is None
            else ((flat < 0) | (flat >= classes)) & counted
        )
        if wrong.any():
            place = int(wrong.argmax())
            raise ValueError(
                f"{op}: labels must be in 0..{classes - 1} (C = {classes} in logits {shape}), got {flat[place]} at position {place}; shift the labels or widen the last layer"
            )
    one_hot = flat[:, None] == xp.arange(classes)
    if counted is not None:
        one_hot &= counted[:, None]
    return one_hot.astype(rows.dtype), weights, counted


def _weight_of_labels(
    rows: Tensor, labels: Any, weights: Array | None, counted: Array | None
) -> Array | None:
    """What a weighted mean divides by: the summed weight of the labels; None for a plain mean."""
    labels = labels.data if isinstance(labels, Tensor) else array_module(rows.data).asarray(labels)
    if labels.dtype.kind == "f" or (weights is None and counted is None):
        return None
    flat = labels.reshape(-1)
    if counted is not None:
        flat = flat[counted]
    return len(flat) if weights is None else weights[flat].sum()


def _reduce(
    op: str, losses: Tensor, reduction: str, divisor: Any = None, shape: tuple[int, ...] | None = None
) -> Tensor:
    if reduction == "mean":
        return mean(losses) if divisor is None else sum(losses) / divisor
    if reduction == "sum":
        return sum(losses)
    if reduction == "none":
        return losses if shape is None or len(shape) == 2 else losses.reshape(shape[:-1])
    raise ValueError(f"{op}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
