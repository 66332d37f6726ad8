"""An MLP that learns its training set by heart: 784-4096-10 on MNIST, and what it does on data it has not seen.

python examples/mnist_overfit_mlp.py

After kubic71/pytorch-homework, question 4: all 48,000 training images right after 30 epochs, and still 98.2 % of
the 12,000 that were held out.
"""

from __future__ import annotations

import minidl as dl
from experiment import Experiment
from minidl.layers import Dense, Flatten

hidden = 4096
learning_rate = 0.006  # Adam's
batch_size = 2048
epochs = 30
held_out, split_seed = 0.2, 42  # by NumPy's legacy generator: exactly the published split
init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}


def build(seed: int) -> dl.Sequential:
    return dl.Sequential(
        Flatten(),
        Dense(hidden, activation="relu", **init),
        Dense(10, **init),
        input_shape=(28, 28, 1),
        seed=seed,
    )


with Experiment(__doc__) as experiment:
    (x, y), _ = experiment.load("mnist")
    (x, y), validation = dl.data.train_validation_split(x, y, held_out, split_seed)
    model = build(experiment.seed)
    experiment.fit(
        "overfit",
        model,
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=dl.optim.Adam(model, learning_rate),
        validation_data=validation,
    )
