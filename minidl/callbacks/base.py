"""What callbacks are, and the two that every run has in common: the record and its file."""

from __future__ import annotations

import contextlib
import csv
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ..layers.base import Layer
from ..metrics import Average
from ..optim import Optimizer

Logs = dict[str, float]


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line; a closed pipe, or a terminal that lacks a character, is no reason to stop training."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=file, flush=True)


@dataclass
class Run:
    """What callbacks may see and change of a training run.

    Attributes
    ----------
    epochs, steps : int
        How many epochs there will be, and steps in each.
    stop : bool
        Set to True, it ends training after the epoch.
    epoch, step : int
        Epochs that are finished, and steps that are finished of the next one.
    average : Average
        Of loss and accuracy over those steps.
    settings : dict
        What a run that goes on from a checkpoint must have in common with this one.
    resumed : bool
        Whether this is such a run.
    everyone : list of Callback
        In the order in which they are called.
    """

    model: Layer
    optimizer: Optimizer
    epochs: int
    steps: int
    verbose: int = 1
    stop: bool = False
    epoch: int = 0
    step: int = 0
    average: Average = field(default_factory=Average)
    settings: dict[str, Any] = field(default_factory=dict)
    resumed: bool = False
    everyone: list[Any] = field(default_factory=list)


class Callback:
    """Base class: override what you need. `run` is set before training begins."""

    run: Run

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch, counted from 0; again when a run goes on within it (``run.step > 0``)."""

    def on_batch_end(self, step: int, logs: Logs) -> None:
        """After each update; `logs` holds the running averages of this epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After each epoch and its validation."""

    def on_train_end(self) -> None:
        """At the end, also after an error or Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: JSON values, and NumPy arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; called after `on_train_begin`."""


class History(Callback):
    """What `fit` returns.

    Attributes
    ----------
    history : dict of list of float
        One value an epoch: loss, accuracy, val_loss, val_accuracy.
    epoch : list of int
    seconds : list of float
        Wall time of each epoch, validation included.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        self.seconds.append(time.perf_counter() - self._start)
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "epoch": self.epoch, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.epoch, self.seconds = state["history"], state["epoch"], state["seconds"]


class CSVLogger(Callback):
    """One line an epoch in a CSV file, flushed at once; a resumed run goes on where its checkpoint was."""

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False):
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._file: TextIO | None = None

    def on_train_begin(self) -> None:
        old = (self.append or self.run.resumed) and self.filename.exists()
        self._write_header = not (old and self.filename.stat().st_size > 0)
        self._file = open(self.filename, "a" if old else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file, delimiter=self.separator)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._write_header:
            self._writer.writerow(["epoch", *logs])
            self._write_header = False
        self._writer.writerow([epoch, *logs.values()])
        if self._file is not None:
            self._file.flush()

    def on_train_end(self) -> None:
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        return {"bytes": self._file.tell() if self._file is not None else 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Drop the lines that were written after the checkpoint."""
        size = self.filename.stat().st_size
        if self._file is not None and size >= state["bytes"]:
            self._file.truncate(state["bytes"])
            self._write_header = state["bytes"] == 0
        else:
            lost = f"{self.filename} has {size} bytes, but had {state['bytes']} at the checkpoint"
            warnings.warn(
                f"CSVLogger: {lost}; lines of earlier epochs are lost", RuntimeWarning, stacklevel=2
            )
