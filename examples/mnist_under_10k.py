"""From 6.4 million parameters to 99.4 % on MNIST with ten thousand, in seven steps.

python examples/mnist_under_10k.py
python examples/mnist_under_10k.py --runs 'step[2-7]*'      # without the large net of step 1

After Archived-Courses/eva_session6_mnist. Accuracy there is the best over the epochs, on the test images. Step 2
begins on a plateau near 10 %: PyTorch's first weights are too small for seven layers without batch norm.
"""

from __future__ import annotations

from collections.abc import Iterator

import minidl as dl
from experiment import Experiment
from minidl.layers import AvgPool2D, BatchNorm, Conv2D, Dropout, Flatten, Layer, MaxPool2D, Normalize

batch_size = 128
learning_rate, momentum = 0.01, 0.9  # of SGD
decay = dl.optim.StepDecay(learning_rate, every=10, gamma=0.1)
rotation = dl.data.RandomRotation(7, fill=1)  # degrees; pixels from outside are 1 of 255, as published
small_dropout = 0.07
init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}

# Filters, kernel size and padding of each convolution; "max" halves, "avg" averages what is left.
large = [
    (32, 3, 1),
    (64, 3, 1),
    "max",
    (128, 3, 1),
    (256, 3, 1),
    "max",
    (512, 3, 0),
    (1024, 3, 0),
    (10, 3, 0),
]
thin = [(8, 3, 1), (16, 3, 0), "max", (16, 3, 0), (16, 3, 0), (14, 1, 0), (12, 3, 0), "avg", (10, 1, 0)]
deep = [(8, 3, 1), (16, 3, 0), "max", (16, 3, 0), (16, 3, 0), (14, 1, 1), (12, 3, 1), (12, 3, 0), (10, 3, 0)]
deep += ["avg", (10, 1, 0)]
steps = {  # network, batch norm, dropout, learning rate, epochs, augmentation
    "step2-fewer-parameters": (thin, False, 0.0, learning_rate, 15, None),
    "step3-batch-norm": (thin, True, 0.0, learning_rate, 15, None),
    "step4-dropout": (thin, True, small_dropout, learning_rate, 15, None),
    "step5-deeper": (deep, True, small_dropout, learning_rate, 15, None),
    "step6-learning-rate": (deep, True, small_dropout, decay, 20, None),
    "step7-augmentation": (deep, True, small_dropout, decay, 20, rotation),
    "step1-large": (large, False, 0.0, learning_rate, 15, None),
}


def layers(network: list, batch_norm: bool, dropout: float) -> Iterator[Layer]:
    yield Normalize(0.1307, 0.3081)
    for place, part in enumerate(network):
        if isinstance(part, str):
            yield MaxPool2D(2) if part == "max" else AvgPool2D(7)
            continue
        filters, kernel_size, padding = part
        last = place == len(network) - 1
        activation = None if last else "relu"
        yield Conv2D(
            filters, kernel_size, padding=padding, use_bias=network is large, activation=activation, **init
        )
        if batch_norm and not last:
            yield BatchNorm()
        if dropout and not last:
            yield Dropout(dropout)
    yield Flatten()


with Experiment(__doc__) as experiment:
    (x, y), test = experiment.load("mnist")
    for place, (run, (network, batch_norm, dropout, lr, epochs, augment)) in enumerate(steps.items()):
        model = dl.Sequential(
            list(layers(network, batch_norm, dropout)),
            input_shape=(28, 28, 1),
            seed=100 * experiment.seed + place,
        )
        experiment.fit(
            run,
            model,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=dl.optim.SGD(model, lr, momentum),
            validation_data=test,
            augment=augment,
        )
