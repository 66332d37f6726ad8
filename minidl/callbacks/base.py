"""What callbacks are, and the two that every run has in common: the record and its file."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..layers.base import Layer
from ..optim import Optimizer

Logs = dict[str, float]


@dataclass
class Run:
    """What callbacks may see and change of a training run; ``stop = True`` ends it after the epoch."""

    model: Layer
    optimizer: Optimizer
    epochs: int
    steps: int
    verbose: int = 1
    stop: bool = False


class Callback:
    """Base class: override what you need. `run` is set before training begins."""

    run: Run

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch, counted from 0."""

    def on_batch_end(self, step: int, logs: Logs) -> None:
        """After each update; `logs` holds the running averages of this epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After each epoch and its validation."""

    def on_train_end(self) -> None:
        """At the end, also after an error or Ctrl-C."""


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


class CSVLogger(Callback):
    """One line an epoch in a CSV file, flushed at once."""

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False):
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._file: TextIO | None = None

    def on_train_begin(self) -> None:
        old = self.append and self.filename.exists() and self.filename.stat().st_size > 0
        self._write_header = not old
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115
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


class TerminateOnNaN(Callback):
    """Stop as soon as the running loss is not a finite number."""

    def on_batch_end(self, step: int, logs: Logs) -> None:
        if not math.isfinite(logs["loss"]):
            print(f"Step {step + 1}: the loss is {logs['loss']}, training stops")
            self.run.stop = True
