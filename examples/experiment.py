"""What the experiments share: a command line, data in small with --quick, runs that are recorded and resumed.

    with Experiment(__doc__) as experiment:
        (x_train, y_train), test = experiment.load("mnist")
        experiment.fit("baseline", model, x_train, y_train, epochs=10, ...)

Each run leaves its weights in runs/<script>/seed<seed>/ and its figures in one JSON file for script and seed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidl as dl
from minidl.files import write_atomically

Split = tuple[np.ndarray, np.ndarray]
QUICK = 256  # images of each split with --quick
NOT_ASKED = "not asked for by --runs"


class Experiment:
    """The command line of one script, and the record of its runs."""

    def __init__(self, description: str | None, **options: dict[str, Any]):
        """`options` are further command line options: name=dict(type=..., help=...)."""
        parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
        parser.add_argument("--quick", action="store_true", help="a few images and one epoch: does it run?")
        parser.add_argument("--runs", default="*", help="only runs whose name matches, such as 'step[2-4]*'")
        parser.add_argument("--resume", action="store_true", help="keep the runs that are already recorded")
        parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for weights")
        parser.add_argument("--record", type=Path, help="folder for the figures; runs/results if left out")
        for option, settings in options.items():
            parser.add_argument(f"--{option}", **settings)
        self.options = parser.parse_args()
        self.seed, self.quick = self.options.seed, self.options.quick
        self.name = Path(sys.argv[0]).stem
        self.folder = self.options.out / self.name / f"seed{self.seed}"
        self.path = (
            self.options.record or self.options.out / "results"
        ) / f"{self.name}-seed{self.seed}.json"
        self.record: dict[str, Any] = {"experiment": self.name, "seed": self.seed, "quick": self.quick}
        self.record["runs"] = {}

    def __enter__(self) -> Experiment:
        try:
            self.device = dl.resolve_device(self.options.device)
        except (dl.DeviceError, ValueError) as error:
            self._give_up(error)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.options.resume and self.path.exists():
            self.record = json.loads(self.path.read_text())
            if self.record["quick"] != self.quick:
                self._give_up(
                    f"{self.path} was recorded {'with' if self.record['quick'] else 'without'} --quick"
                )
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (dl.DataError, dl.WeightsError, dl.DeviceError)):
            self._give_up(error)
        if error is None:
            print(f"recorded: {self.path}")

    def _give_up(self, reason: Any) -> None:
        print(f"{self.name}: {reason}", file=sys.stderr)
        sys.exit(2)

    # Data -------------------------------------------------------------------------------------------

    def load(self, name: str, **arguments: Any) -> tuple[Split, Split]:
        """The data set `name`; with --quick its first images, or drawn glyphs where it is not at hand."""
        try:
            splits = getattr(dl.data, name)(**arguments)
        except dl.MissingDataError:
            if not self.quick:
                raise
            splits = dl.data.glyphs()
            if name in ("cifar10", "svhn"):
                splits = [(as_rgb(x[:QUICK], 32), y[:QUICK]) for x, y in splits]
            if name == "emnist":
                splits = [(x, y + 1) for x, y in splits]
        if not self.quick:
            return splits
        first, second = ((x[:QUICK], y[:QUICK]) for x, y in splits)
        return first, second

    # Runs -------------------------------------------------------------------------------------------

    def fit(
        self,
        run: str,
        model: dl.Sequential,
        x: Any,
        y: Any,
        *,
        epochs: int,
        needed: bool = False,
        **arguments: Any,
    ) -> dict[str, list[float]] | None:
        """Train as `dl.fit` does and record it as `run`; the history, or None if --runs leaves it out.

        With --resume a recorded run is not done again: the model gets the weights that it ended with.
        `needed` runs are done whatever --runs says, since others start from them.
        """
        if not needed and not fnmatch.fnmatch(run, self.options.runs):
            return None
        weights = self.folder / f"{run}.safetensors"
        if self.options.resume and run in self.record["runs"] and weights.exists():
            print(f"{run}: recorded already")
            dl.weights.load(model, weights)
            return self.record["runs"][run]["history"]
        model.to(self.device)
        print(f"\n{run}: {sum(p.size for p in model.parameters()):,} parameters", flush=True)
        start = time.perf_counter()
        epochs = 1 if self.quick else epochs
        history = dl.fit(model, x, y, epochs=epochs, seed=self.seed, **arguments)
        seconds = time.perf_counter() - start
        dl.weights.save(model, weights)
        self.add(
            run,
            seconds=round(seconds, 2),
            history=history.history,
            batch_size=arguments["batch_size"],
            images=len(x),
            trainable=sum(p.size for p in model.parameters() if p.requires_grad),
        )
        return history.history

    def add(self, run: str, **facts: Any) -> None:
        """Write what is known of a run into the record."""
        self.record["runs"].setdefault(run, {}).update(facts, environment=dl.report.environment())
        text = json.dumps(self.record, indent=1) + "\n"
        write_atomically(self.path, lambda path: path.write_text(text))


def as_rgb(x: np.ndarray, size: int) -> np.ndarray:
    """Grey images (N, H, W, 1) as (N, size, size, 3), bilinear, still uint8."""
    parts = [
        np.rint(dl.ops.resize(x[i : i + 4096].astype(np.float32), size).numpy())
        for i in range(0, len(x), 4096)
    ]
    return np.concatenate(parts).astype(np.uint8).repeat(3, axis=3)
