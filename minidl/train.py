"""Training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops, rng
from .autograd import Tensor
from .backend import Array, to_device, to_numpy
from .callbacks import Callback, History, ProgressBar, Run
from .data.batches import batches
from .layers.base import Layer, inference
from .layers.dropout import Dropout
from .optim import Optimizer

Loss = Callable[[Any, Any], Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": ops.cross_entropy,
    "nll": ops.nll,
    "mse": ops.mse,
    "mae": ops.mae,
    "binary_cross_entropy": ops.binary_cross_entropy,
}


def fit(
    model: Layer,
    x: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    loss: str | Loss = "cross_entropy",
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    seed: int = 0,
    augment: Callable[[Array, np.random.Generator], Array] | None = None,
    verbose: int = 1,
) -> History:
    """Train a model.

    Parameters
    ----------
    model : Layer
    x : array, shape (N, ...)
        Images may stay uint8: the model divides them by 255, batch by batch.
    y : array, shape (N,) or (N, ...)
        Class numbers, or targets in the form that the loss takes.
    epochs, batch_size : int
        The last batch of an epoch may be short; metrics weigh it by its size.
    optimizer : Optimizer
        Made for this model: ``dl.optim.Adam(model)``.
    loss : str or function
        "cross_entropy", "nll", "mse", "mae", "binary_cross_entropy", or f(outputs, targets) -> scalar Tensor.
    validation_data : (x, y), optional
        Evaluated after each epoch.
    callbacks : sequence of Callback
        Called in this order.
    seed : int
        Of shuffling, augmentation and dropout: the same seed gives the same run.
    augment : function, optional
        ``augment(batch, rng) -> batch`` on each training batch; see `minidl.data`.
    verbose : 0 or 1
        1 shows a progress bar on a terminal, else one line an epoch.

    Returns
    -------
    History
        loss and accuracy are the running averages of each epoch, while the weights move and dropout is on.

    Notes
    -----
    Ctrl-C ends training with the model as the last whole step left it; callbacks are closed, and
    KeyboardInterrupt goes on to the caller.
    """
    x, y = _checked_data("fit", x, y)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"fit: {name} must be an integer >= 1, got {value!r}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"fit: optimizer must be an Optimizer such as dl.optim.Adam(model), got {optimizer!r}"
        )
    loss_function, device = _loss(loss), _device(model)
    steps = -(-len(x) // batch_size)
    run = Run(model, optimizer, epochs, steps, verbose)
    history = History()
    everyone: list[Callback] = [history, *callbacks, *([ProgressBar()] if verbose else [])]
    for callback in everyone:
        callback.run = run
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    begun: list[Callback] = []
    try:
        for callback in everyone:
            begun.append(callback)
            callback.on_train_begin()
        for epoch in range(epochs):
            for callback in everyone:
                callback.on_epoch_begin(epoch)
            model.train()
            average = Average()
            for step, rows in enumerate(batches(len(x), batch_size, seed=seed, epoch=epoch)):
                xb, yb = x[rows], y[rows]
                if augment is not None:
                    xb = augment(xb, rng.generator(seed, "augment", epoch, step))
                optimizer.epoch = epoch + step / steps
                _start_step(model, seed, epoch * steps + step)
                batch = to_device(xb, device), to_device(yb, device)
                logs = train_step(model, optimizer, loss_function, *batch, average)
                for callback in everyone:
                    callback.on_batch_end(step, logs)
                if run.stop:
                    break
            optimizer.epoch = float(epoch + 1)
            logs = average.logs()
            if validation_data is not None:
                results = evaluate(model, *validation_data, batch_size=max(batch_size, 256), loss=loss)
                logs |= {f"val_{key}": value for key, value in results.items()}
            for callback in everyone:
                callback.on_epoch_end(epoch, logs)
            if run.stop:
                break
    finally:
        for layer, mode in modes:
            layer.training = mode
        _end(begun)
    return history


def train_step(
    model: Layer, optimizer: Optimizer, loss: Loss, x: Array, y: Array, average: Average
) -> dict[str, float]:
    """Forward, backward, update; returns the running averages."""
    outputs = model(x)
    value = loss(outputs, y)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    average.add(value, outputs, y)
    return average.logs()


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
    x, y = _checked_data("evaluate", x, y)
    loss_function, device, average = _loss(loss), _device(model), Average()
    with inference(model):
        for start in range(0, len(x), batch_size):
            yb = to_device(y[start : start + batch_size], device)
            outputs = model(to_device(x[start : start + batch_size], device))
            average.add(loss_function(outputs, yb), outputs, yb)
    return average.logs()


def predict(model: Layer, x: Any, batch_size: int = 256) -> np.ndarray:
    """The model's outputs (logits, for a classifier) in inference mode, (N, ...), as a NumPy array."""
    x = x.data if isinstance(x, Tensor) else x if hasattr(x, "shape") else np.asarray(x)
    device = _device(model)
    with inference(model):
        starts = range(0, max(len(x), 1), batch_size)
        parts = [to_numpy(model(to_device(x[i : i + batch_size], device)).data) for i in starts]
    return np.concatenate(parts)


class Average:
    """Running averages of loss and accuracy, weighted by the number of samples."""

    def __init__(self) -> None:
        self._samples = 0
        self._sums: dict[str, float] = {}

    def add(self, loss: Tensor, outputs: Tensor, targets: Array) -> None:
        """Count one batch."""
        size = len(targets)
        self._samples += size
        self._sums["loss"] = self._sums.get("loss", 0.0) + size * float(loss.item())
        hits = _hits(outputs._data, targets)
        if hits is not None:
            self._sums["accuracy"] = self._sums.get("accuracy", 0.0) + float(hits.sum())

    def logs(self) -> dict[str, float]:
        """The averages so far."""
        return {key: value / self._samples for key, value in self._sums.items()}


def _hits(outputs: Array, targets: Array) -> Array | None:
    """Which samples are classified right; None if this is no classification."""
    if outputs.ndim == 2 and targets.ndim == 1 and targets.dtype.kind in "iu":
        return outputs.argmax(axis=1) == targets
    if outputs.ndim == 2 and outputs.shape == targets.shape and outputs.shape[1] > 1 and _one_hot(targets):
        return outputs.argmax(axis=1) == targets.argmax(axis=1)
    return None


def _one_hot(targets: Array) -> bool:
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all())


def _start_step(model: Layer, seed: int, step: int) -> None:
    for _, layer in model.named_layers():
        if isinstance(layer, Dropout):
            layer.start_step(seed, step)


def _end(callbacks: list[Callback]) -> None:
    """Close every callback even if one fails; then raise the first failure."""
    failure: BaseException | None = None
    for callback in callbacks:
        try:
            callback.on_train_end()
        except BaseException as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _loss(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function, got {loss!r}")
    return LOSSES[loss]


def _device(model: Layer) -> str:
    return next((p.device for p in model.parameters()), "cpu")


def _checked_data(caller: str, x: Any, y: Any) -> tuple[Array, Array]:
    x, y = (v.data if isinstance(v, Tensor) else v if hasattr(v, "shape") else np.asarray(v) for v in (x, y))
    if not x.shape or not y.shape or len(x) != len(y):
        raise ValueError(
            f"{caller}: x and y must have equally many samples, got shapes {x.shape} and {y.shape}"
        )
    if not len(x):
        raise ValueError(f"{caller}: x is empty, shape {x.shape}")
    return x, y
