"""Do features learned on digits or on garments help with letters? 250 images of each of 26 letters.

python examples/emnist_transfer.py

After kubic71/pytorch-homework, question 5: hardly. A net of 2.5 million parameters is trained for 20 epochs on
MNIST and on Fashion-MNIST, saved, and read from the file again; then its last layer, or all of it, is trained on
6,500 letters. "None" starts from random weights. Letters are stored transposed, and used so.
"""

from __future__ import annotations

import numpy as np

import minidl as dl
from experiment import QUICK, Experiment, Split
from minidl.layers import Conv2D, Dense, Flatten, MaxPool2D

learning_rate = 1e-3  # Adam's
pretraining = {"epochs": 20, "batch_size": 128}
fine_tuning = {"epochs": 10, "batch_size": 32}
of_each_letter = 250
held_out, split_seed = 0.2, 42
init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}


def build(classes: int, seed: int) -> dl.Sequential:
    def conv(filters: int) -> Conv2D:
        return Conv2D(filters, 3, padding="same", activation="relu", **init)

    return dl.Sequential(
        conv(10),
        MaxPool2D(2),
        conv(150),
        MaxPool2D(2),
        conv(300),
        conv(300),
        conv(150),
        Flatten(),
        Dense(120, activation="relu", **init),
        Dense(84, activation="relu", **init),
        Dense(classes, name="last", **init),
        input_shape=(28, 28, 1),
        seed=seed,
    )


def first_of_each(split: Split, count: int) -> Split:
    """The first `count` images of each class, class after class in order of first appearance."""
    x, y = split
    _, first = np.unique(y, return_index=True)
    rows = np.concatenate([np.flatnonzero(y == y[i])[:count] for i in sorted(first)])
    return x[rows], y[rows]


def test_accuracy(run: str, model: dl.Sequential, test: Split) -> None:
    if run in experiment.record["runs"]:
        figures = dl.evaluate(model, *test)
        experiment.add(run, test=figures)
        print(f"{run}: test accuracy {figures['accuracy']:.2%}")


with Experiment(__doc__) as experiment:
    for name in ("mnist", "fashion_mnist"):
        (x, y), test = experiment.load(name)
        (x, y), validation = dl.data.train_validation_split(x, y, held_out, split_seed)
        model = build(10, experiment.seed)
        optimizer = dl.optim.Adam(model, learning_rate)
        arguments = {"optimizer": optimizer, "validation_data": validation, **pretraining}
        experiment.fit(f"pretraining, {name}", model, x, y, needed=True, **arguments)
        test_accuracy(f"pretraining, {name}", model, test)

    letters, (x_test, y_test) = experiment.load("emnist")
    x, y = first_of_each(letters, QUICK // 26 if experiment.quick else of_each_letter)
    (x, y), validation = dl.data.train_validation_split(x, y - 1, held_out, split_seed)
    for start, part in (
        ("none", "all"),
        ("mnist", "last"),
        ("mnist", "all"),
        ("fashion_mnist", "last"),
        ("fashion_mnist", "all"),
    ):
        model = build(26, experiment.seed + 1000)
        if start != "none":
            weights = experiment.folder / f"pretraining, {start}.safetensors"
            dl.weights.load(model, weights, exclude=["last.*"], strict=False)
        if part == "last":
            model[:-1].freeze()
        arguments = {
            "optimizer": dl.optim.Adam(model, learning_rate),
            "cache_frozen": part == "last",
            **fine_tuning,
        }
        run = f"{start}, {part}"
        experiment.fit(run, model, x, y, validation_data=validation, **arguments)
        test_accuracy(run, model, (x_test, y_test - 1))
