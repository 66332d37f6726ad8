"""Evaluation and prediction, and what they share with training: losses by name, checked data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np

from . import ops
from .autograd import Tensor
from .backend import Array, array_module, precision, to_device, to_numpy
from .checks import positive_integer
from .graphs import WARM_UP, Graphs, resident
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
    loss_function, average = loss_called(loss), Average()

    def count(xb: Array, yb: Array) -> None:
        outputs = model(xb)
        average.add(loss_function(outputs, yb), outputs, yb)

    with contextlib.closing(_passes("evaluate", model, count, batch_size, x, y)) as passes:
        for _ in passes:
            pass
    average.samples = len(x)  # a replay does not count
    return average.logs()


def predict(model: Layer, x: Any, batch_size: int = 256) -> np.ndarray:
    """The model's outputs (logits, for a classifier) in inference mode, (N, ...), as a NumPy array."""
    batch_size = positive_integer("predict", "batch_size", batch_size)
    x = x.data if isinstance(x, Tensor) else x if hasattr(x, "shape") else np.asarray(x)
    with contextlib.closing(_passes("predict", model, lambda xb: model(xb).data, batch_size, x)) as passes:
        return np.concatenate([to_numpy(outputs) for outputs in passes])


def _passes(
    caller: str, model: Layer, work: Callable[..., Any], batch_size: int, *data: Array
) -> Generator[Any, None, None]:
    """What `work` returns for each batch, in inference mode; at least one batch, if it is empty.

    On a GPU, if there are many batches of data that fit there, most are replays of a captured pass, and each
    result is overwritten by the next.
    """
    device, count = device_of_model(model), len(data[0])
    parts = [slice(i, i + batch_size) for i in range(0, max(count, 1), batch_size)]
    moved = resident(data, device) if device != "cpu" and len(parts) > 2 * WARM_UP else None
    with inference(model):
        if moved is None:
            for rows in parts:
                yield work(*(to_device(a[rows], device) for a in data))
            return
        with Graphs(device, f"{caller}: a pass of this model") as graphs:
            places = [array_module(a).empty((batch_size, *a.shape[1:]), a.dtype) for a in moved]
            for rows in parts:
                size = len(moved[0][rows])
                batch = [place[:size] for place in places]
                for place, array in zip(batch, moved, strict=True):
                    place[...] = array[rows]
                yield graphs.run((size, precision()), partial(work, *batch))[0]


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
