"""VGG16's ImageNet features on MNIST at 32x32: frozen under a new head, then with the last block trained too.

python examples/vgg16_transfer.py --weights vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5

After a Keras notebook that stops at 95.45 % and proposes retraining the last layers, without a figure. Pixels
are 0..255 and not prepared as the weights expect, as published. Keras's file is looked for in MINIDL_DATA/vgg; if
only the first two of five blocks are at hand, they stand in for the whole net, under names that say so.
"""

from __future__ import annotations

import os
from pathlib import Path

import minidl as dl
from experiment import Experiment, as_rgb
from minidl.layers import BatchNorm, Dense, Dropout, Flatten, Normalize

batch_size, epochs = 128, 10
adam = {"lr": 1e-3, "eps": 1e-7}  # Keras's defaults
fine_tuning_rate, fine_tuning_epochs = 1e-4, 5  # of the unfrozen block and the head that was trained before
bn = {"momentum": 0.01, "eps": 1e-3}
whole = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
part, part_layers = "vgg16_blocks1-2.npz", 6  # two blocks are four convolutions and two poolings
folder = Path(os.environ.get("MINIDL_DATA", ".")) / "vgg"


def imagenet_layers(weights: Path | None, quick: bool) -> tuple[str, dl.Sequential]:
    """What there is of VGG16: its name in the record, and the layers."""
    vgg = dl.models.vgg16(include_top=False, input_shape=(32, 32, 3))
    file = weights or next((folder / name for name in (*whole, part) if (folder / name).exists()), None)
    if file is None and quick:
        return "vgg16", vgg
    if file is None:
        raise dl.WeightsError(f"needs VGG16's weights: --weights FILE, or {whole[0]} in MINIDL_DATA/vgg")
    name = "blocks 1 and 2" if file.name == part else "vgg16"
    chosen = vgg[:part_layers] if file.name == part else vgg
    missing = dl.weights.load(chosen, file, strict=False).missing  # the file may have dense layers as well
    if missing:
        raise dl.WeightsError(f"{file} lacks {', '.join(missing)}")
    return name, chosen


with Experiment(__doc__, weights={"type": Path, "help": "Keras's VGG16"}) as experiment:
    name, features = imagenet_layers(experiment.options.weights, experiment.quick)
    (x, y), (x_test, y_test) = experiment.load("mnist")
    x, x_test = as_rgb(x, 32), as_rgb(x_test, 32)
    model = dl.Sequential(
        Normalize(0, 1 / 255),  # back to 0..255
        *features,
        Flatten(),
        Dense(128, activation="relu"),
        BatchNorm(**bn),
        Dropout(0.5),
        Dense(10),
        input_shape=(32, 32, 3),
        seed=experiment.seed,
    )
    arguments = {"batch_size": batch_size, "validation_data": (x_test, y_test), "cache_frozen": True}
    model[: 1 + len(features)].freeze()
    optimizer = dl.optim.Adam(model, **adam)
    experiment.fit(
        f"{name}, frozen", model, x, y, epochs=epochs, optimizer=optimizer, needed=True, **arguments
    )

    last_block = features[-1].name.partition("_")[0]
    model.unfreeze(f"{last_block}_*")
    optimizer = dl.optim.Adam(model, fine_tuning_rate)
    run = f"{name}, {last_block} unfrozen"
    experiment.fit(run, model, x, y, epochs=fine_tuning_epochs, optimizer=optimizer, **arguments)
