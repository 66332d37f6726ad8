"""What `fit` adds to the bare training step: shuffling, batches of uint8 images, metrics, progress, callbacks.

python -m benchmarks.fit_overhead [--rounds 5]

Both train the digits network on the same images, an epoch at a time in turn. The bare step gets batches that
were cut out and divided by 255 beforehand.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import minidl as dl
from benchmarks.networks import CASES
from benchmarks.peers.with_minidl import build


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


if __name__ == "__main__":
    main()
