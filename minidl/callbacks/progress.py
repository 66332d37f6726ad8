"""The progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO

from tqdm import tqdm

from .base import Callback, Logs, say

INTERVAL = 0.1  # seconds between two pictures of the bar


class ProgressBar(Callback):
    """A tqdm bar while an epoch runs, on a terminal; after each epoch one line, everywhere.

    It is put in place by ``fit(verbose=1)``.
    """

    def __init__(self, file: TextIO | None = None):
        self._file = file
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int) -> None:
        self._start, self._first, self._shown, self._train_seconds = (
            time.perf_counter(),
            self.run.step,
            0.0,
            0.0,
        )
        file = self._file or sys.stderr
        if file is not None and not file.closed and file.isatty():
            shape = "{desc} |{bar:20}| {n_fmt}/{total_fmt} [{unit}{postfix}]"  # the unit is our clock
            title = f"Epoch {epoch + 1}/{self.run.epochs}"
            with contextlib.suppress(OSError, ValueError):
                self._bar = tqdm(
                    total=self.run.steps,
                    desc=title,
                    bar_format=shape,
                    file=file,
                    leave=False,
                    position=0,
                    unit="00:00<?",
                )

    def on_batch_end(self, step: int, logs: Logs) -> None:
        self._train_seconds = time.perf_counter() - self._start
        if self._bar is None or self._train_seconds - self._shown < INTERVAL:
            return  # text costs time: not at each step
        self._shown = self._train_seconds
        left = self._train_seconds / (step + 1 - self._first) * (self.run.steps - step - 1)
        self._bar.n = step + 1
        self._bar.unit = f"{_clock(self._shown)}<{_clock(left)}"
        try:
            self._bar.set_postfix_str(self._text(logs, step + 1))
        except (OSError, ValueError):
            self._bar = None  # the terminal has gone: training goes on

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._close()
        seconds = time.perf_counter() - self._start
        line = f"Epoch {epoch + 1}/{self.run.epochs} - {seconds:.0f}s - {self._text(logs, self.run.steps)}"
        say(line, self._file or sys.stdout)

    def on_train_end(self) -> None:
        self._close()

    def _text(self, logs: Logs, steps: int) -> str:
        pace = f"{1e3 * self._train_seconds / max(steps - self._first, 1):.0f}ms/step"
        return " - ".join([pace, *(f"{key}: {value:.4f}" for key, value in logs.items())])

    def _close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.close()
            self._bar = None


def _clock(seconds: float) -> str:
    """Minutes and seconds, by a clock that nobody sets."""
    return tqdm.format_interval(max(seconds, 0))
