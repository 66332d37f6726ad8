"""Training."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import checkpoint, rng
from .backend import Array, to_device
from .caching import on_features
from .callbacks import Callback, Checkpoint, History, ProgressBar, Run
from .callbacks.checkpoint import find, restore, restore_callbacks, stateful
from .captured import captured_steps
from .checks import positive_integer
from .data.batches import batches
from .evaluation import Loss, checked_data, device_of_model, evaluate, loss_called
from .interrupts import Termination
from .layers.base import Layer
from .layers.dropout import Dropout
from .metrics import Average
from .optim import Optimizer

TERMINATED = 128 + 15  # the exit code of a process that SIGTERM ended


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
    drop_last: bool = False,
    resume: str | os.PathLike[str] | None = None,
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
    drop_last : bool
        Leave out the last batch of an epoch if it is short: batch norm cannot learn from a single sample.
    resume : "auto" or path, optional
        Go on from a checkpoint: "auto" takes the newest whole one of the `Checkpoint` callback's folder and begins
        anew if there is none; a path names a checkpoint, or a folder of them. On the same machine, with the same
        versions and threads, the result equals that of the uninterrupted run bit for bit.
    verbose : 0 or 1
        1 shows a progress bar on a terminal, else one line an epoch.

    Returns
    -------
    History
        loss and accuracy are the running averages of each epoch, while the weights move and dropout is on.

    Raises
    ------
    ValueError, TypeError
        An argument is not as described here.
    CheckpointError
        There is no checkpoint where `resume` says, or it belongs to another run: all differences are listed.

    Notes
    -----
    Ctrl-C ends training with the model as the last whole step left it; callbacks are closed, and
    KeyboardInterrupt goes on to the caller. SIGTERM ends it after the step, with a checkpoint if there is a
    `Checkpoint` callback, and exit code 143. A loss that is not finite ends it with a warning.
    """
    x, y = checked_data("fit", x, y)
    epochs = positive_integer("fit", "epochs", epochs)
    batch_size = positive_integer("fit", "batch_size", batch_size)
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise ValueError(f"fit: validation_data must be (x, y), got {type(validation_data).__name__}")
        validation_data = checked_data("fit: validation_data", *validation_data)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"fit: optimizer must be an Optimizer such as dl.optim.Adam(model), got {optimizer!r}"
        )
    steps = len(x) // batch_size if drop_last else -(-len(x) // batch_size)
    if not steps:
        raise ValueError(f"fit: drop_last=True leaves nothing of {len(x)} samples in batches of {batch_size}")
    if cache_frozen and augment is not None:
        raise ValueError("fit: cache_frozen=True sees each sample once, so augment must be None")
    run = Run(model, optimizer, epochs, steps, verbose)
    history = History()
    last = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    bars: list[Callback] = [ProgressBar()] if verbose else []
    run.everyone = [history, *(callback for callback in callbacks if callback not in last), *bars, *last]
    saved = None
    if last or resume is not None:
        chosen = {"loss": loss, "augment": augment, "seed": seed, "batch_size": batch_size}
        chosen |= {"drop_last": drop_last, "cache_frozen": cache_frozen}
        names = ", ".join(type(callback).__name__ for callback in stateful(run))
        run.settings = checkpoint.settings(model, optimizer, x, y, **chosen, callbacks=names)
        saved = find(resume, last)
    if saved is not None:
        restore(saved, run)
    trained = model
    if cache_frozen:
        trained, x, validation_data = on_features(model, x, validation_data, epochs, batch_size, verbose)
    loss_function, device = loss_called(loss), device_of_model(model)
    data = x, y, batch_size, seed, drop_last
    gpu = captured_steps(trained, optimizer, loss_function, device, *data) if augment is None else None

    def one_epoch(termination: Termination) -> None:
        """The steps of epoch `run.epoch` from `run.step` on."""
        order = batches(len(x), batch_size, seed=seed, epoch=run.epoch, drop_last=drop_last)
        for step, rows in enumerate(order):
            if step < run.step:
                continue  # done before the checkpoint
            optimizer.epoch = run.epoch + step / steps
            if gpu is not None:
                logs = gpu.step(run.epoch, step, run.average)
            else:
                xb, yb = x[rows], y[rows]
                if augment is not None:
                    xb = augment(xb, rng.generator(seed, "augment", run.epoch, step))
                _start_step(trained, seed, run.epoch * steps + step)
                batch = to_device(xb, device), to_device(yb, device)
                logs = train_step(trained, optimizer, loss_function, *batch, run.average)
            run.step = step + 1
            if (gpu is None or run.step == steps) and not math.isfinite(logs["loss"]):  # a GPU: once an epoch
                _stop_at_non_finite(run, logs["loss"])
            for callback in run.everyone:
                callback.on_batch_end(step, logs)
            leave_if_asked(termination)
            if run.stop:
                break

    def leave_if_asked(termination: Termination) -> None:
        if termination.asked:
            for callback in last:
                callback.save()
            raise SystemExit(TERMINATED)

    modes = [(layer, layer.training) for _, layer in model.named_layers()]
    begun: list[Callback] = []
    failure: BaseException | None = None
    try:
        with Termination() as termination, gpu or contextlib.nullcontext():
            for callback in run.everyone:
                callback.run = run
            for callback in run.everyone:
                begun.append(callback)
                callback.on_train_begin()
            if saved is not None:
                restore_callbacks(saved, run)
            for epoch in range(run.epoch, epochs):
                if run.stop:
                    break
                for callback in run.everyone:
                    callback.on_epoch_begin(epoch)
                model.train()
                one_epoch(termination)
                optimizer.epoch = float(epoch + 1)
                logs = run.average.logs()
                if validation_data is not None:
                    results = evaluate(trained, *validation_data, batch_size=max(batch_size, 256), loss=loss)
                    logs |= {f"val_{key}": value for key, value in results.items()}
                run.epoch, run.step, run.average = epoch + 1, 0, Average()
                for callback in run.everyone:
                    callback.on_epoch_end(epoch, logs)
                leave_if_asked(termination)
    except BaseException as error:
        failure = error
        raise
    finally:
        for layer, mode in modes:
            layer.training = mode
        _end(begun, failure)
        run.everyone = []  # else run and callbacks would keep each other alive
    return history


def train_step(
    model: Layer, optimizer: Optimizer, loss: Loss, x: Array, y: Array, average: Average
) -> dict[str, float]:
    """Forward, backward, update; returns the running averages. A loss that is not finite updates nothing."""
    outputs = model(x)
    value = loss(outputs, y)
    average.add(value, outputs, y)
    logs = average.logs()
    if not math.isfinite(logs["loss"]):
        return logs
    optimizer.zero_grad()
    value.backward()
    if not optimizer.has_gradients():
        raise ValueError(
            "fit: no parameter of the optimizer got a gradient; was it made for another model, or is all frozen?"
        )
    optimizer.step()
    return logs


def _stop_at_non_finite(run: Run, loss: float) -> None:
    warnings.warn(
        f"fit: epoch {run.epoch + 1}, step {run.step}: the loss is {loss}, training stops. A lower learning rate or "
        f"clip_norm= may help; dl.detect_anomaly() names the operation where it begins",
        RuntimeWarning,
        stacklevel=4,
    )
    run.stop = True


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
