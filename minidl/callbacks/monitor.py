"""Callbacks that watch one number: stop early, keep the best weights, lower the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..files import check_writable
from ..weights import check_suffix, save
from .base import Callback, Logs, say


class Monitor(Callback):
    """What callbacks that watch one number share.

    `mode` "auto" takes the larger number as better if the name ends in "accuracy", else the smaller.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        self.monitor = monitor
        self._sign = 1 if mode == "max" or (mode == "auto" and monitor.endswith(("acc", "accuracy"))) else -1
        self.min_delta = abs(min_delta)
        self.best = -self._sign * math.inf

    def value(self, logs: Logs) -> float:
        """The watched number of this epoch."""
        if self.monitor not in logs:
            raise ValueError(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among {', '.join(logs)}; "
                f"val_ needs validation_data"
            )
        return logs[self.monitor]

    def improved(self, value: float) -> bool:
        """Whether `value` beats the best by more than `min_delta`; it then becomes the best."""
        ahead = self._sign * (value - self.best)  # nan while both are infinite: then it is no better
        better = ahead > self.min_delta and self._sign * value > self._sign * self.best
        if better:
            self.best = value
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]


class EarlyStopping(Monitor):
    """Stop when the watched number has not improved for `patience` epochs in a row."""

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.start_from_epoch = patience, verbose, start_from_epoch
        self.baseline, self.restore_best_weights = baseline, restore_best_weights
        self.stopped_epoch: int | None = None

    def on_train_begin(self) -> None:
        self.wait, self.stopped_epoch = 0, None
        self._best_state: dict[str, np.ndarray] | None = None
        self.best = -self._sign * math.inf if self.baseline is None else self.baseline

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = self.value(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.improved(value):
            self.wait = 0
            if self.restore_best_weights:
                self._best_state = self.run.model.state_dict()
        if self.wait >= max(self.patience, 1):
            self.stopped_epoch, self.run.stop = epoch, True

    def on_train_end(self) -> None:
        if self.stopped_epoch is not None and self.verbose:
            say(f"Epoch {self.stopped_epoch + 1}: early stopping, best {self.monitor} {self.best:.4f}")
        if self._best_state is not None:
            self.run.model.load_state_dict(self._best_state)

    def state_dict(self) -> dict[str, Any]:
        weights = {} if self._best_state is None else {f"best/{k}": v for k, v in self._best_state.items()}
        return super().state_dict() | {"wait": self.wait, "stopped_epoch": self.stopped_epoch} | weights

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.wait, self.stopped_epoch = state["wait"], state["stopped_epoch"]
        weights = {k.removeprefix("best/"): v for k, v in state.items() if k.startswith("best/")}
        self._best_state = weights or None


class ModelCheckpoint(Monitor):
    """Save the weights after an epoch: the best so far, or every one. To resume training, see `Checkpoint`.

    Parameters
    ----------
    filepath : str or Path
        ``.safetensors`` or ``.npz``; ``{epoch:02d}`` (from 1) and metrics as ``{val_loss:.2f}`` are filled in.
    save_best_only : bool
        Only when `monitor` improved.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        save_best_only: bool = True,
        mode: str = "auto",
        verbose: int = 0,
    ):
        super().__init__(monitor, mode)
        self.filepath, self.save_best_only, self.verbose = str(filepath), save_best_only, verbose

    def on_train_begin(self) -> None:
        check_suffix(self.filepath)
        folder = Path(self.filepath).parent
        check_writable(next(f for f in (folder, *folder.parents) if "{" not in str(f)))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not math.isfinite(logs["loss"]) or (self.save_best_only and not self.improved(self.value(logs))):
            return
        path = self.filepath.format(epoch=epoch + 1, **logs)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save(self.run.model, path)
        if self.verbose:
            say(f"Epoch {epoch + 1}: saved {path}")


class LearningRate(Callback):
    """Set the learning rate before each epoch: ``schedule(epoch, lr) -> lr`` (Keras's LearningRateScheduler)."""

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0):
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int) -> None:
        if self.run.step:
            return  # the checkpoint was taken after this
        self.run.optimizer.lr = float(self.schedule(epoch, self.run.optimizer.lr))
        if self.verbose:
            say(f"Epoch {epoch + 1}: learning rate {self.run.optimizer.lr:g}")


class ReduceLROnPlateau(Monitor):
    """Multiply the learning rate by `factor` when the watched number stalls for `patience` epochs."""

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr

    def on_train_begin(self) -> None:
        self.best, self._wait, self._resting = -self._sign * math.inf, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._resting:
            self._resting -= 1
            self._wait = 0
        if self.improved(self.value(logs)):
            self._wait = 0
        elif not self._resting:
            self._wait += 1
            if self._wait >= self.patience and self.run.optimizer.lr > self.min_lr:
                self.run.optimizer.lr = max(self.run.optimizer.lr * self.factor, self.min_lr)
                self._resting, self._wait = self.cooldown, 0
                if self.verbose:
                    say(f"Epoch {epoch + 1}: learning rate reduced to {self.run.optimizer.lr:g}")

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"wait": self._wait, "resting": self._resting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._wait, self._resting = state["wait"], state["resting"]
