"""A net that knows the digits 0 to 4 learns 5 to 9 from 500 images: new softmax, cached layers, freezing.

python examples/digits_transfer.py

After alikhil/mnist-transfer-learning (Keras 2.1, from Hands-On Machine Learning, chapter 11). Three things there
decide the figures. Pixels are 0..255, not scaled. Frozen batch norm still normalised by the batch, and depending
on the version moved its averages ("update") or not ("batch"). And the published figures of the second part come
from a notebook whose cells had run twice: blocks 1 and 2 had been fitted to the 500 images before the first row,
and stayed trainable. Each row is done from the clean net, and in the order that was published.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

import minidl as dl
from experiment import Experiment, Split
from minidl.layers import ELU, BatchNorm, Dense, Dropout, Layer

units, blocks, classes = 100, 5, 5
batch_size = 128
adam = {"lr": 5e-4, "eps": 1e-7}
bn = {"momentum": 0.01, "eps": 1e-3}  # Keras's defaults
few = 500  # the first of 29,404 images
heads = itertools.count(1)  # each new softmax begins elsewhere
patience = 3  # epochs without a better validation accuracy


def build(batch_norm: bool, dropout: float, seed: int) -> dl.Sequential:
    layers: list[Layer] = []
    for number in range(1, blocks + 1):
        layers.append(Dense(units, kernel_initializer="he_normal", name=f"block{number}_dense"))
        layers += [BatchNorm(**bn, name=f"block{number}_norm")] if batch_norm else []
        layers.append(ELU(name=f"block{number}_elu"))
        layers += [Dropout(dropout, name=f"block{number}_dropout")] if dropout else []
    return dl.Sequential([*layers, head()], input_shape=(784,), seed=seed)


def head() -> Dense:
    return Dense(classes, kernel_initializer="he_normal", name="softmax")


def with_new_softmax(net: dl.Sequential, kept: int, seed: int) -> dl.Sequential:
    """The first `kept` blocks of `net`, which they stay layers of, under a new softmax."""
    return dl.Sequential([*list(net[: 4 * kept]), head()], input_shape=(784,), seed=seed)


def digits(split: Split, first: int) -> Split:
    """Five classes from `first` on, raw pixels as (N, 784)."""
    x, y = split
    chosen = (y >= first) & (y < first + classes)
    return x[chosen].reshape(-1, 784).astype(np.float32), y[chosen] - first


def stop(monitor: str = "val_accuracy") -> list[dl.callbacks.Callback]:
    return [dl.callbacks.EarlyStopping(monitor, patience=patience)]


def part_two(norm: str, order: str, base: dict[str, np.ndarray]) -> None:
    """The rows of the second part, one after the other on the same layers, frozen batch norm in mode `norm`."""
    net = build(True, 0.1, experiment.seed)
    trainable = {"clean": (), "published": ("block[12]_*",)}[order]

    def run(row: str, kept: int, unfrozen: tuple[str, ...], epochs: int = 100) -> None:
        net.freeze(batch_norm=norm)
        model = with_new_softmax(net, kept, seed=100 * experiment.seed + next(heads))
        model.unfreeze("softmax", *unfrozen)
        optimizer = dl.optim.Adam(model, **adam)
        arguments = {
            "batch_size": batch_size,
            "optimizer": optimizer,
            "validation_data": test,
            "callbacks": stop(),
        }
        name = f"{row}, {order}, {norm}"
        experiment.fit(name, model, x_few, y_few, epochs=epochs, needed=True, verbose=0, **arguments)

    net.load_state_dict(base)
    if order == "published":
        run("before the others", blocks, trainable)
    run("new softmax", blocks, trainable, epochs=200)
    cached(f"cached layers, {order}, {norm}", net)
    run("first four blocks", 4, trainable)
    run("input side unfrozen", blocks, ("block[12]_*",))
    if order == "clean":
        net.load_state_dict(base)
        run("top two unfrozen", blocks, ("block[45]_*",))


def cached(name: str, net: dl.Sequential) -> None:
    """A softmax on what the five blocks make of all images, which is computed once."""
    model = dl.Sequential(head(), input_shape=(units,), seed=experiment.seed)
    optimizer = dl.optim.Adam(model, **adam)
    kept = dl.features(net, x_new, upto="block5_dropout")
    arguments = {
        "batch_size": batch_size,
        "optimizer": optimizer,
        "callbacks": stop("accuracy"),
        "verbose": 0,
    }
    experiment.fit(name, model, kept, y_new, epochs=100, needed=True, **arguments)


def caching_pays(net: dl.Sequential, epochs: int = 5) -> None:
    """Seconds of an epoch on all images, with the frozen blocks computed each time and once."""
    net.freeze()
    seconds = {}
    for validation in (None, test):
        for cache in (False, True):
            model = with_new_softmax(net, blocks, experiment.seed)
            for part in model:
                if isinstance(part, Dropout):
                    part.rate = 0.0  # it would draw new numbers in each epoch, and nothing could be kept
            model.unfreeze("softmax")
            arguments = {"batch_size": batch_size, "optimizer": dl.optim.Adam(model, **adam), "verbose": 0}
            start = time.perf_counter()
            dl.fit(
                model,
                x_new,
                y_new,
                epochs=epochs,
                cache_frozen=cache,
                validation_data=validation,
                **arguments,
            )
            key = f"{'cached' if cache else 'whole net'}, {'without' if validation is None else 'with'} validation"
            seconds[key] = round((time.perf_counter() - start) / epochs, 4)
    experiment.add("seconds of an epoch", facts=seconds)


with Experiment(__doc__) as experiment:
    train, validation = experiment.load("mnist")
    (x, y), known = digits(train, 0), digits(validation, 0)
    (x_new, y_new), test = digits(train, 5), digits(validation, 5)
    x_few, y_few = x_new[:few], y_new[:few]
    for name, batch_norm, dropout in (
        ("base", False, 0.0),
        ("batch norm", True, 0.0),
        ("dropout", True, 0.1),
    ):
        net = build(batch_norm, dropout, experiment.seed)
        optimizer = dl.optim.Adam(net, **adam)
        arguments = {
            "batch_size": batch_size,
            "optimizer": optimizer,
            "validation_data": known,
            "callbacks": stop(),
        }
        experiment.fit(name, net, x, y, epochs=100, needed=True, **arguments)
    base = net.state_dict()
    for norm in ("update", "batch"):
        for order in ("clean", "published"):
            part_two(norm, order, base)
    net.load_state_dict(base)
    caching_pays(net)
