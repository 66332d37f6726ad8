"""SqueezeNet's ImageNet features on CIFAR-10 and MNIST: a new head alone, or everything.

python examples/squeezenet_transfer.py

The two experiments of alexnet_transfer.py with weights that are smaller (keras-squeezenet's file of version 1.1,
looked for in MINIDL_DATA/squeezenet). They stand in for AlexNet's and are no reproduction: another net, another
head, and fine-tuning of fewer epochs at a smaller size, which two cores can do.
"""

from __future__ import annotations

import os
from pathlib import Path

import minidl as dl
from experiment import Experiment
from minidl.layers import Dense, Dropout, GlobalAvgPool2D, Layer

head_size, head_epochs, head_rate, head_batch = (
    224,
    20,
    1e-3,
    32,
)  # the head alone: Adam, features computed once
size, epochs, learning_rate, batch_size = 96, 3, 3e-4, 32  # everything: Adam, step by step
name = "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
folder = Path(os.environ.get("MINIDL_DATA", ".")) / "squeezenet"


class Picture(Layer):
    """Pixels in 0..1 to what Caffe's nets were trained on: RGB -> BGR in 0..255, minus ImageNet's means."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: dl.Tensor) -> dl.Tensor:
        x = dl.ops.resize(x * 255, self.size)
        x = x if x.shape[-1] == 3 else dl.ops.concatenate([x, x, x], axis=-1)
        return dl.Tensor(dl.models.caffe_pixels(x.data))


def build(shape: tuple[int, ...], size: int, weights: Path | None, seed: int) -> dl.Sequential:
    net = dl.models.squeezenet("1.1", include_top=False, input_shape=(size, size, 3), weights=weights)
    head = GlobalAvgPool2D(), Dropout(0.5), Dense(10)
    return dl.Sequential([Picture(size), *net, *head], input_shape=shape, seed=seed)


with Experiment(__doc__, weights={"type": Path, "help": "keras-squeezenet's 1.1"}) as experiment:
    weights = experiment.options.weights or (folder / name if (folder / name).exists() else None)
    if weights is None and not experiment.quick:
        raise dl.WeightsError(
            f"needs SqueezeNet's weights: --weights FILE, or {name} in MINIDL_DATA/squeezenet"
        )
    for data in ("cifar10", "mnist"):
        (x, y), test = experiment.load(data)
        if experiment.quick:
            x, y, test = x[:64], y[:64], (test[0][:64], test[1][:64])

        model = build(x.shape[1:], head_size, weights, experiment.seed)
        model[:-3].freeze()
        arguments = {
            "optimizer": dl.optim.Adam(model, head_rate),
            "batch_size": head_batch,
            "cache_frozen": True,
        }
        run = f"{data}, feature extraction"
        experiment.fit(run, model, x, y, epochs=head_epochs, validation_data=test, **arguments)

        model = build(x.shape[1:], size, weights, experiment.seed)
        arguments = {"optimizer": dl.optim.Adam(model, learning_rate), "batch_size": batch_size}
        experiment.fit(f"{data}, fine-tuning", model, x, y, epochs=epochs, validation_data=test, **arguments)
