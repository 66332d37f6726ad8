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
from .targets import Targets, check_reduction, reduce


class CrossEntropy(Function):
    """loss_n = -log softmax(x)[n, labels_n]        dx = (softmax(x) - 1 at the label) dloss_n

    The mean and the sum over n are taken in the same step.
    """

    def __init__(self, labels: Array, reduction: str):
        self.labels, self.reduction = labels, reduction

    def forward(self, x: Array) -> Array:  # (N, C)
        if self.reduction == "mean" and not len(x):
            raise ValueError(f"cross_entropy: nothing to average in logits of shape {x.shape}")
        divisor = {"mean": len(x), "sum": 1, "none": None}[self.reduction]
        loss, self.p = self.kernels.cross_entropy(self.kernels.widened(x), self.labels, divisor)
        return self.kernels.narrowed(loss, x)  # (), or (N,) for "none"

    def backward(self, dy: Array) -> Array:  # () or (N,)
        count = len(self.p) if self.reduction == "mean" else 1
        dlosses = self.xp.broadcast_to(dy, self.labels.shape)
        return self.kernels.cross_entropy_grad(self.p, self.labels, dlosses, count)


class SoftCrossEntropy(Function):
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
    labels : integer array, shape (...), or array, shape (..., C)
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
    targets = Targets("cross_entropy", logits, labels, class_weights, ignore_index, label_smoothing)
    flat = targets.flatten(logits)
    if targets.numbers is not None:
        loss = CrossEntropy(targets.numbers, check_reduction("cross_entropy", reduction))(flat)
        return targets.reduce(loss, "none") if reduction == "none" else loss
    return targets.reduce(SoftCrossEntropy()(flat, targets.rows), reduction)


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
    targets = Targets("nll", log_p, labels, class_weights, ignore_index)
    losses = -sum(multiply(targets.flatten(log_p), targets.rows), axis=1)
    return targets.reduce(losses, reduction)


def mse(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared error, averaged over all elements."""
    error = subtract(prediction, _same_shape("mse", prediction, target))
    return reduce("mse", error * error, reduction)


def mae(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Absolute error, averaged over all elements."""
    return reduce("mae", abs(subtract(prediction, _same_shape("mae", prediction, target))), reduction)


def binary_cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), computed as softplus(x) - t x without overflow."""
    targets = _same_shape("binary_cross_entropy", logits, targets)
    return reduce("binary_cross_entropy", softplus(logits) - multiply(logits, targets), reduction)


def _same_shape(op: str, prediction: Any, target: Any) -> Any:
    """`target` in the prediction's dtype; broadcasting (N, 1) against (N,) would be a silent mistake."""
    if np.shape(target) != np.shape(prediction):
        raise ShapeError(
            f"{op}: prediction has shape {np.shape(prediction)} but target {np.shape(target)}; reshape one of them"
        )
    if isinstance(target, Tensor) or not hasattr(prediction, "dtype"):
        return target
    return array_module(target).asarray(target, dtype=prediction.dtype)
