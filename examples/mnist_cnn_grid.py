"""Four CNNs on MNIST that differ in the second convolution, and the best of them without dropout and again with.

python examples/mnist_cnn_grid.py
python examples/mnist_cnn_grid.py --runs '5x5-64*'

After a Keras notebook, whose validation data are the test images. Batch norm's averages begin at 0 and 1 and
move by 1 % a step: accuracy on the test images is low after the first epoch, whatever the training accuracy.
"""

from __future__ import annotations

import minidl as dl
from experiment import Experiment
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D

batch_size, epochs = 128, 10
adam = {"lr": 1e-3, "eps": 1e-7}  # Keras's defaults
bn = {"momentum": 0.01, "eps": 1e-3}  # Keras's too: its 0.99 is the weight of the old average
runs = {  # kernel size and filters of the second convolution, dropout
    "3x3-32": (3, 32, 0.5),
    "3x3-64": (3, 64, 0.5),
    "5x5-32": (5, 32, 0.5),
    "5x5-64": (5, 64, 0.5),
    "5x5-64-no-dropout": (5, 64, 0.0),
    "5x5-64-dropout-again": (5, 64, 0.5),
}


def build(kernel_size: int, filters: int, dropout: float, seed: int) -> dl.Sequential:
    return dl.Sequential(
        Conv2D(32, 3, activation="relu"),
        BatchNorm(**bn),
        MaxPool2D(2),
        Dropout(dropout),
        Conv2D(filters, kernel_size, activation="relu"),
        BatchNorm(**bn),
        MaxPool2D(2),
        Dropout(dropout),
        Flatten(),
        Dense(128, activation="relu"),
        Dense(10),
        input_shape=(28, 28, 1),
        seed=seed,
    )


with Experiment(__doc__) as experiment:
    (x, y), test = experiment.load("mnist")
    for place, (run, settings) in enumerate(runs.items()):
        model = build(*settings, seed=100 * experiment.seed + place)
        experiment.fit(
            run,
            model,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=dl.optim.Adam(model, **adam),
            validation_data=test,
        )
