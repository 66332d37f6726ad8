"""Training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops, rng
from .autograd import Tensor
from .backend import Array, to_device, to_numpy
from .caching import on_features
from .callbacks import Callback, History, ProgressBar, Run
from .checks import positive_integer
from .data.batches import batches
from .layers.base import Layer, inference
from .layers.dropout import Dropout
from .metrics import Average
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
    cache_frozen: bool = False,
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
    cache_frozen : bool
        Compute what the frozen first layers make of each sample once, and train the rest on that. Needs a
        Sequential whose first layers are frozen and draw no random numbers, and no `augment`.
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
    epochs = positive_integer("fit", "epochs", epochs)
    batch_size = positive_integer("fit", "batch_size", batch_size)
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise ValueError(f"fit: validation_data must be (x, y), got {type(validation_data).__name__}")
        validation_data = _checked_data("fit: validation_data", *validation_data)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"fit: optimizer must be an Optimizer such as dl.optim.Adam(model), got {optimizer!r}"
        )
    loss_function, device, trained = _loss(loss), _device(model), model
    if cache_frozen:
        if augment is not None:
            raise ValueError("fit: cache_frozen=True sees each sample once, so augment must be None")
        trained, x, validation_data = on_features(model, x, validation_data, epochs, verbose)
    steps = -(-len(x) // batch_size)
    run = Run(model, optimizer, epochs, steps, verbose)
    history = History()
    everyone: list[Callback] = [history, *callbacks, *([ProgressBar()] if verbose else [])]
    for callback in everyone:
        callback.run = run
    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    begun: list[Callback] = []
    failure: BaseException | None = None
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
                _start_step(trained, seed, epoch * steps + step)
                batch = to_device(xb, device), to_device(yb, device)
                logs = train_step(trained, optimizer, loss_function, *batch, average)
                for callback in everyone:
                    callback.on_batch_end(step, logs)
                if run.stop:
                    break
            optimizer.epoch = float(epoch + 1)
            logs = average.logs()
            if validation_data is not None:
                results = evaluate(trained, *validation_data, batch_size=max(batch_size, 256), loss=loss)
                logs |= {f"val_{key}": value for key, value in results.items()}
            for callback in everyone:
                callback.on_epoch_end(epoch, logs)
            if run.stop:
                break
    except BaseException as error:
        failure = error
        raise
    finally:
        for layer, mode in modes:
            layer.training = mode
        _end(begun, failure)
    return history


def train_step(
    model: Layer, optimizer: Optimizer, loss: Loss, x: Array, y: Array, average: Average
) -> dict[str, float]:
    """Forward, backward, update; returns the running averages."""
    outputs = model(x)
    value = loss(outputs, y)
    optimizer.zero_grad()
    value.backward()
    if not optimizer.has_gradients():
        raise ValueError(
            "fit: no parameter of the optimizer got a gradient; was it made for another model, or is all frozen?"
        )
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
    batch_size = positive_integer("evaluate", "batch_size", batch_size)
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
    batch_size = positive_integer("predict", "batch_size", batch_size)
    x = x.data if isinstance(x, Tensor) else x if hasattr(x, "shape") else np.asarray(x)
    device = _device(model)
    with inference(model):
        starts = range(0, max(len(x), 1), batch_size)
        parts = [to_numpy(model(to_device(x[i : i + batch_size], device)).data) for i in starts]
    return np.concatenate(parts)


def _start_step(model: Layer, seed: int, step: int) -> None:
    for path, layer in model.named_layers():
        if isinstance(layer, Dropout):
            layer.start_step(seed, path, step)


def _end(callbacks: list[Callback], failure: BaseException | None) -> None:
    """Close every callback even if one fails; the first failure is raised, unless another is on its way."""
    first: BaseException | None = None
    for callback in callbacks:
        try:
            callback.on_train_end()
        except BaseException as error:
            first = first or error
            if failure is not None:
                failure.add_note(f"then {type(callback).__name__}.on_train_end failed too: {error!r}")
    if first is not None and failure is None:
        raise first


def _loss(loss: str | Loss) -> Loss:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function, got {loss!r}")
    return LOSSES[loss]


def _device(model: Layer) -> str:
    return next((p.device for p in model.parameters()), model._build_device or "cpu")


def _checked_data(caller: str, x: Any, y: Any) -> tuple[Array, Array]:
    x, y = (v.data if isinstance(v, Tensor) else v if hasattr(v, "shape") else np.asarray(v) for v in (x, y))
    if not x.shape or not y.shape or len(x) != len(y):
        raise ValueError(
            f"{caller}: x and y must have equally many samples, got shapes {x.shape} and {y.shape}"
        )
    if not len(x):
        raise ValueError(f"{caller}: x is empty, shape {x.shape}")
    return x, y
