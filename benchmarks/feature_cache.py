"""Training a new head on a frozen VGG16: every epoch through the whole network, or on its features computed once.

python -m benchmarks.feature_cache [--samples 2000] [--epochs 5] [--weights FILE] [--json FILE]

MNIST at 32x32 in three equal channels, as in the experiment that this is about. Without a file of weights the
network keeps its random ones: times are the same.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import minidl as dl
from minidl.environment import environment
from minidl.layers import BatchNorm, Dense, Dropout, Flatten


def pictures(x: np.ndarray) -> np.ndarray:
    """(N, 28, 28, 1) uint8 -> (N, 32, 32, 3) float32 in 0..255."""
    return np.repeat(dl.ops.resize(x.astype(np.float32), 32).numpy(), 3, axis=-1)


def train(
    data: Any, weights: str | None, epochs: int, cache: bool, validate: bool
) -> tuple[float, list[float]]:
    """Seconds, and the accuracy of each epoch."""
    body = dl.models.vgg16(include_top=False, input_shape=(32, 32, 3), weights=weights, seed=1).freeze()
    head = (
        Flatten(),
        Dense(128, activation="relu"),
        BatchNorm(momentum=0.01, eps=1e-3),
        Dropout(0.5),
        Dense(10),
    )
    model = dl.Sequential(*body, *head, input_shape=(32, 32, 3), seed=1)
    options = {"validation_data": data[1]} if validate else {}
    start = time.perf_counter()
    history = dl.fit(
        model, *data[0], epochs=epochs, batch_size=128, optimizer=dl.optim.Adam(model), seed=1,
        cache_frozen=cache, verbose=0, **options,
    )  # fmt: skip
    return time.perf_counter() - start, history.history["val_accuracy" if validate else "accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--weights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = [(pictures(x[: options.samples]), y[: options.samples]) for x, y in dl.data.mnist()]
    train([(x[:128], y[:128]) for x, y in data], options.weights, 1, True, True)  # compiles
    rows = {}
    for validate in (False, True):
        runs = {
            cache: train(data, options.weights, options.epochs, cache, validate) for cache in (False, True)
        }
        once = train(data, options.weights, 1, True, validate)[0]
        epoch = {False: runs[False][0] / options.epochs, True: (runs[True][0] - once) / (options.epochs - 1)}
        name = "with validation" if validate else "without validation"
        rows[name] = {
            "seconds": {"uncached": round(runs[False][0], 2), "cached": round(runs[True][0], 2)},
            "seconds_an_epoch": {"uncached": round(epoch[False], 3), "cached": round(epoch[True], 4)},
            "accuracy": {"uncached": runs[False][1], "cached": runs[True][1]},
        }
        print(
            f"{name}: {epoch[False]:.2f} s an epoch, {epoch[True]:.3f} on features: {epoch[False] / epoch[True]:.0f} times "
            f"faster; {options.epochs} epochs {runs[False][0]:.1f} s, {runs[True][0]:.1f} with the features made first; "
            f"accuracy {runs[False][1][-1]:.2%}, {runs[True][1][-1]:.2%}",
            flush=True,
        )
    if options.json:
        record = {
            "environment": environment(),
            "samples": options.samples,
            "epochs": options.epochs,
            "runs": rows,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
