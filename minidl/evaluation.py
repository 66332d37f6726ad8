"""Evaluation and prediction, and what they share with training: losses by name, checked data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .autograd import Tensor
from .backend import Array, to_device, to_numpy
from .checks import positive_integer
from .layers.base import Layer, inference
from .metrics import Average

Loss = Callable[[Any, Any], Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": ops.cross_entropy,
    "nll": ops.nll,
    "mse": ops.mse,
    "mae": ops.mae,
    "binary_cross_entropy": ops.binary_cross_entropy,
}


def evaluate(
    model: Layer, x: Any, y: Any, batch_size: int = 256, loss: str | Loss = "cross_entropy"
) -> dict[str, float]:
    """Loss and, for classifiers, accuracy in inference mode, each sample counted once.

    Parameters as in `fit`.

    Returns
    -------
    dict
        "loss" and, where labels are classes, "accuracy".
    """
    batch_size = positive_integer("evaluate", "batch_size", batch_size)
    x, y = checked_data("evaluate", x, y)
    loss_function, device, average = loss_called(loss), device_of_model(model), Average()
    with inference(model):
        for start in range(0, len(x), batch_size):
            yb = to_device(y[start : start + batch_size], device)
            outputs = model(to_device(x[start : start + batch_size], device))
            average.add(loss_function(outputs, yb), outputs, yb)
    return average.logs()


def predict(model: Layer, x: Any, batch_size: int = 256) -> np.ndarray:
    """The model's outputs (logits, for a classifier) in inference mode, (N, ...), as a NumPy array."""
    batch_size = positive_integer("predict", "batch_size", batch_size)
    x = x.data if isinstance(x, Tensor) else x if hasattr(x, "shape") else np.asarray(x)
    device = device_of_model(model)
    with inference(model):
        starts = range(0, max(len(x), 1), batch_size)
        parts = [to_numpy(model(to_device(x[i : i + batch_size], device)).data) for i in starts]
    return np.concatenate(parts)


def loss_called(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function, got {loss!r}")
    return LOSSES[loss]


def device_of_model(model: Layer) -> str:
    return next((p.device for p in model.parameters()), model._build_device or "cpu")


def checked_data(caller: str, x: Any, y: Any) -> tuple[Array, Array]:
    x, y = (v.data if isinstance(v, Tensor) else v if hasattr(v, "shape") else np.asarray(v) for v in (x, y))
    if not x.shape or not y.shape or len(x) != len(y):
        raise ValueError(
            f"{caller}: x and y must have equally many samples, got shapes {x.shape} and {y.shape}"
        )
    if not len(x):
        raise ValueError(f"{caller}: x is empty, shape {x.shape}")
    return x, y
