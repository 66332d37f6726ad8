"""The callback that writes checkpoints, and what `fit(resume=)` does with them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..checkpoint import CheckpointError, Saved
from ..checks import positive_integer
from ..files import check_writable
from .base import Callback, Logs, Run


class Checkpoint(Callback):
    """Write all that is needed to go on after a crash; ``fit(..., resume="auto")`` does.

    Model, optimiser, progress, history and the state of the other callbacks go into one file, which is whole or not
    there: temporary file, fsync, rename. It is called after the other callbacks. Weights with NaN or infinity in
    them are not written. SIGTERM makes `fit` finish the step, write a checkpoint and exit with 143.

    Parameters
    ----------
    path : str or Path
        A folder of this run's own; made if it is not there.
    every : int, optional
        Steps between checkpoints; left out, one after each epoch.
    keep : int
        How many of the newest to keep. Two or more survive damage to the last.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = None, keep: int = 2):
        self.path = Path(path)
        self.every = None if every is None else positive_integer("Checkpoint", "every", every)
        self.keep = positive_integer("Checkpoint", "keep", keep)

    def on_train_begin(self) -> None:
        check_writable(self.path)
        self._written: tuple[int, int] | None = None
        self._conditions = checkpoint.conditions()
        if not self.run.resumed and (found := checkpoint.paths(self.path)):
            raise CheckpointError(
                f"{self.path} holds {len(found)} checkpoint(s) of an earlier run: go on with fit(resume='auto'), "
                f"or choose another folder"
            )

    def on_batch_end(self, step: int, logs: Logs) -> None:
        due = self.every is not None and (self.run.epoch * self.run.steps + self.run.step) % self.every == 0
        if due:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        due = self.every is None or self.run.stop or self.run.epoch == self.run.epochs
        if due and math.isfinite(logs["loss"]):
            self.save()

    def save(self) -> None:
        """Write a checkpoint now, between two steps, unless it is there already or the loss is not finite."""
        run = self.run
        finite = all(math.isfinite(value) for value in run.average.logs().values())
        if self._written == (run.epoch, run.step) or not finite:
            return
        arrays = {f"model/{k}": v for k, v in run.model.state_dict().items()}
        if not all(np.isfinite(v).all() for v in arrays.values() if v.dtype.kind == "f"):
            where = f"epoch {run.epoch + 1}, step {run.step}"
            warnings.warn(
                f"Checkpoint: {where}: weights are not finite, not written", RuntimeWarning, stacklevel=2
            )
            return
        arrays |= {f"optimizer/{k}": v for k, v in run.optimizer.state_dict().items()}
        states = []
        for place, callback in enumerate(stateful(run)):
            state = callback.state_dict()
            arrays |= {f"callbacks/{place}/{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
            plain = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
            states.append({"class": type(callback).__name__, "state": plain})
        progress = {
            "epoch": run.epoch,
            "step": run.step,
            "stop": run.stop,
            "average": run.average.state_dict(),
        }
        facts = {"progress": progress, "settings": run.settings, "environment": self._conditions}
        steps = run.epoch * run.steps + run.step
        checkpoint.write(self.path, steps, arrays, facts | {"callbacks": states}, self.keep)
        self._written = run.epoch, run.step


def find(resume: str | os.PathLike[str] | None, callbacks: Sequence[Callback]) -> Saved | None:
    """The checkpoint that ``fit(resume=)`` means; None to begin anew.

    Raises
    ------
    CheckpointError
        "auto" without a `Checkpoint` callback; or the one that was named is not there, or damaged.
    """
    if resume is None:
        return None
    if resume == "auto":
        folders = [callback.path for callback in callbacks if isinstance(callback, Checkpoint)]
        if not folders:
            raise CheckpointError(
                "fit: resume='auto' needs a Checkpoint(path) among the callbacks, or a path"
            )
        return checkpoint.newest(folders[0])
    path = Path(resume)
    if not path.is_dir():
        return checkpoint.load(path)
    found = checkpoint.newest(path)
    if found is None:
        raise CheckpointError(
            f"fit: there is no checkpoint in the folder {path}; resume='auto' begins anew then"
        )
    return found


def restore(saved: Saved, run: Run) -> None:
    """Model, optimiser and progress as they were; all or nothing."""
    checkpoint.compare(saved, run.settings)
    progress, before = saved.facts["progress"], run.model.state_dict()
    run.model.load_state_dict(saved.part("model/"))
    try:
        run.optimizer.load_state_dict(saved.part("optimizer/"))
    except BaseException:
        run.model.load_state_dict(before)
        raise
    run.epoch, run.step, run.stop = progress["epoch"], progress["step"], progress["stop"]
    run.average.load_state_dict(progress["average"])
    run.resumed = True


def restore_callbacks(saved: Saved, run: Run) -> None:
    """The state of each callback, after all have begun."""
    for place, (callback, entry) in enumerate(zip(stateful(run), saved.facts["callbacks"], strict=True)):
        callback.load_state_dict(entry["state"] | saved.part(f"callbacks/{place}/"))


def stateful(run: Run) -> list[Callback]:
    """The callbacks of a run but for those that only show it or write checkpoints."""
    return [
        callback for callback in run.everyone if type(callback).__name__ not in ("ProgressBar", "Checkpoint")
    ]
