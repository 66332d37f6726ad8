"""AlexNet's ImageNet features at 224x224 on CIFAR-10, MNIST and SVHN: a new head alone, or everything.

python examples/alexnet_transfer.py --weights alexnet-owt-7be5be79.pth
python examples/alexnet_transfer.py --estimate     # how long it would take here

After ziaulchowdhury/advanced-deep-learning, exercise 2. torchvision's file is looked for in MINIDL_DATA/alexnet.
What the five convolutions make of a picture is computed once for the head alone. Fine-tuning on 50,000 pictures
is work for a GPU.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

import minidl as dl
from experiment import Experiment
from minidl.layers import Dense, Layer

batch_size = 4
learning_rate = dl.optim.StepDecay(1e-3, every=7, gamma=0.1)
momentum = 0.9  # of SGD
epochs = {"cifar10": 10, "mnist": 5, "svhn": 5}
file = Path(os.environ.get("MINIDL_DATA", ".")) / "alexnet" / "alexnet-owt-7be5be79.pth"


class Picture(Layer):
    """To 224x224 RGB: photographs by way of 256x256, normalised; digits stretched and not normalised, as published."""

    def __init__(self, photograph: bool):
        super().__init__()
        self.photograph = photograph

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        if not self.photograph:
            x = dl.ops.resize(x, 224)
            return x if x.shape[-1] == 3 else dl.ops.concatenate([x, x, x], axis=-1)
        x = dl.ops.resize(x, 256)[:, 16:240, 16:240]
        return dl.layers.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(x)


def build(photograph: bool, shape: tuple[int, ...], weights: Path | None, seed: int) -> dl.Sequential:
    """AlexNet up to its first dense layer, and two new ones."""
    net = dl.models.alexnet(weights=weights)
    kept = [Picture(photograph), *net[:3], *net["classifier"][:3]]
    head = Dense(1024, activation="relu", name="new1"), Dense(10, name="new2")
    return dl.Sequential(kept + list(head), input_shape=shape, seed=seed)


class Clock(dl.callbacks.Callback):
    """When each step ended."""

    def on_train_begin(self) -> None:
        self.times: list[float] = []

    def on_batch_end(self, step: int, logs: dict[str, float]) -> None:
        self.times.append(time.perf_counter())


def estimate(data: str, x: np.ndarray, y: np.ndarray, steps: int = 10) -> None:
    """Seconds of a step with random weights, and hours of the whole experiment without cached features."""
    for run, frozen in (("feature extraction", True), ("fine-tuning", False)):
        model, clock = build(data == "cifar10", x.shape[1:], None, 0), Clock()
        if frozen:
            model[:-2].freeze()
        rows = slice(0, (steps + 1) * batch_size)
        optimizer = dl.optim.SGD(model, learning_rate, momentum)
        arguments = {"epochs": 1, "batch_size": batch_size, "optimizer": optimizer, "verbose": 0}
        dl.fit(model, x[rows], y[rows], callbacks=[clock], **arguments)
        step = float(np.median(np.diff(clock.times)))
        hours = step * len(x) / batch_size * epochs[data] / 3600
        print(
            f"{data}, {run}: {1e3 * step:.0f} ms a step of {batch_size}, {hours:.1f} h for {epochs[data]} epochs"
        )
        facts = {"seconds of a step": round(step, 4), "hours of all": round(hours, 2)}
        experiment.add(f"estimate: {data}, {run}", facts=facts)


options = {
    "weights": {"type": Path, "help": "torchvision's AlexNet"},
    "estimate": {"action": "store_true", "help": "time a few steps with random weights instead"},
}
with Experiment(__doc__, **options) as experiment:
    weights = experiment.options.weights or (file if file.exists() else None)
    if weights is None and not experiment.quick and not experiment.options.estimate:
        raise dl.WeightsError(
            f"needs torchvision's weights: --weights FILE, or {file.name} in MINIDL_DATA/alexnet"
        )
    for data in epochs:
        try:
            (x, y), test = experiment.load(data)
        except dl.MissingDataError as error:
            print(f"{data} is left out: {str(error).splitlines()[0]}")
            continue
        if experiment.options.estimate:
            estimate(data, x, y)
            continue
        if experiment.quick:
            x, y, test = x[:16], y[:16], (test[0][:16], test[1][:16])
        for run, frozen in (("feature extraction", True), ("fine-tuning", False)):
            model = build(data == "cifar10", x.shape[1:], weights, experiment.seed)
            if frozen:
                model[:-2].freeze()
            optimizer = dl.optim.SGD(model, learning_rate, momentum)
            arguments = {"batch_size": batch_size, "optimizer": optimizer, "cache_frozen": frozen}
            experiment.fit(
                f"{data}, {run}", model, x, y, epochs=epochs[data], validation_data=test, **arguments
            )
