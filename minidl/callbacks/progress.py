"""The progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO

from tqdm import tqdm

from .base import Callback, Logs


class ProgressBar(Callback):
    """A tqdm bar while an epoch runs, on a terminal; after each epoch one line, everywhere.

    It is put in place by ``fit(verbose=1)``.
    """

    def __init__(self, file: TextIO | None = None):
        self._file = file
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int) -> None:
        self._start, self._shown, self._train_seconds = time.perf_counter(), 0.0, 0.0
        file = self._file or sys.stderr
        if file.isatty():
            shape = "{desc} |{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
            title = f"Epoch {epoch + 1}/{self.run.epochs}"
            self._bar = tqdm(total=self.run.steps, desc=title, bar_format=shape, file=file, leave=False)

    def on_batch_end(self, step: int, logs: Logs) -> None:
        self._train_seconds = time.perf_counter() - self._start
        if self._bar is not None:
            if (
                self._train_seconds - self._shown >= self._bar.mininterval
            ):  # text costs time: not at each step
                self._bar.set_postfix_str(self._text(logs, step + 1), refresh=False)
                self._shown = self._train_seconds
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._close()
        seconds = time.perf_counter() - self._start
        text = self._text(logs, self.run.steps)
        with contextlib.suppress(OSError, ValueError):  # a closed pipe is no reason to stop training
            line = f"Epoch {epoch + 1}/{self.run.epochs} - {seconds:.0f}s - {text}"
            print(line, file=self._file or sys.stdout, flush=True)

    def on_train_end(self) -> None:
        self._close()

    def _text(self, logs: Logs, steps: int) -> str:
        pace = f"{1e3 * self._train_seconds / max(steps, 1):.0f}ms/step"
        return " - ".join([pace, *(f"{key}: {value:.4f}" for key, value in logs.items())])

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
