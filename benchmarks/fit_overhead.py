"""What `fit` adds to the bare training step, and checkpoints every 100 steps to `fit`.

python -m benchmarks.fit_overhead [--rounds 5]

Both train the digits network on the same images, an epoch at a time in turn. The bare step gets batches that
were cut out and divided by 255 beforehand. What checkpoints take is timed inside one run of 600 steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import minidl as dl
from benchmarks.networks import CASES
from benchmarks.peers.with_minidl import build


class Timed(dl.callbacks.Checkpoint):
    """Checkpoints that know how long they took."""

    seconds = 0.0

    def save(self) -> None:
        start = time.perf_counter()
        super().save()
        self.seconds += time.perf_counter() - start


def share_of_checkpoints(
    model: dl.Sequential, optimizer: dl.optim.Optimizer, x: np.ndarray, y: np.ndarray, batch: int
) -> float:
    """Seconds in checkpoints over all others, with one every 100 steps of ten epochs."""
    with tempfile.TemporaryDirectory(dir=".") as folder:  # on a disk: /tmp may be memory
        saver = Timed(Path(folder) / "checkpoints", every=100)
        start = time.perf_counter()
        dl.fit(model, x, y, epochs=10, batch_size=batch, optimizer=optimizer, callbacks=[saver], verbose=0)
        return saver.seconds / (time.perf_counter() - start - saver.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", default="cnn")
    options = parser.parse_args()
    case = CASES[options.case]
    rng = np.random.default_rng(0)
    steps = 60 if case.batch > 4 else 1000
    x = rng.integers(0, 256, (steps * case.batch, *case.shape), np.uint8)
    y = rng.integers(0, case.classes, len(x))
    model = dl.Sequential(*build(case), input_shape=case.shape)
    optimizer = dl.optim.Adam(model)
    ready = [
        (x[i : i + case.batch] / np.float32(255), y[i : i + case.batch]) for i in range(0, len(x), case.batch)
    ]

    def bare() -> None:
        model.train()
        for images, labels in ready:
            optimizer.zero_grad()
            dl.ops.cross_entropy(model(images), labels).backward()
            optimizer.step()

    def fit() -> None:
        dl.fit(model, x, y, epochs=1, batch_size=case.batch, optimizer=optimizer)

    times: dict[str, list[float]] = {"bare step": [], "fit": []}
    for round_ in range(options.rounds + 1):
        for name, run in zip(times, (bare, fit), strict=True):
            start = time.perf_counter()
            run()
            if round_:  # the first compiles
                times[name].append(1e3 * (time.perf_counter() - start) / steps)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{case.name}: {name:<10}{median:>9.3f} ms a step")
    print(f"fit adds {medians['fit'] / medians['bare step'] - 1:.1%}")
    share = share_of_checkpoints(model, optimizer, x, y, case.batch)
    print(f"a checkpoint every 100 steps adds {share:.2%}")


if __name__ == "__main__":
    main()
