"""LeNet on MNIST, SVHN and CIFAR-10 with batches of four: activations, optimisers, and from digits to house numbers.

python examples/lenet_mnist_svhn_cifar.py
python examples/lenet_mnist_svhn_cifar.py --runs 'cifar10*'

After ziaulchowdhury/advanced-deep-learning, exercises 1 and 2. SVHN is left out where it is not at hand. There,
"fine-tuned" starts from the net of MNIST, which the document announces and leaves blank.
"""

from __future__ import annotations

import minidl as dl
from experiment import Experiment, Split, as_rgb
from minidl.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, Normalize

batch_size = 4
learning_rate, epochs = 1e-3, 5  # Adam's, for LeakyReLU on MNIST and SVHN
grid_rate, grid_epochs, momentum = 1e-4, 3, 0.9  # of the grid on CIFAR-10; momentum is SGD's
init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}


def build(activation: str, normalize: bool, seed: int) -> dl.Sequential:
    first: list[Layer] = [Normalize(0.5, 0.5)] if normalize else []
    return dl.Sequential(
        *first,
        Conv2D(6, 5, activation=activation, **init),
        MaxPool2D(2),
        Conv2D(16, 5, activation=activation, **init),
        MaxPool2D(2),
        Flatten(),
        Dense(120, activation=activation, **init),
        Dense(84, activation=activation, **init),
        Dense(10, **init),
        input_shape=(32, 32, 3),
        seed=seed,
    )


def train(
    run: str, model: dl.Sequential, optimizer: dl.optim.Optimizer, data: tuple[Split, Split], n: int
) -> None:
    arguments = {"batch_size": batch_size, "optimizer": optimizer, "validation_data": data[1]}
    experiment.fit(run, model, *data[0], epochs=n, **arguments)


with Experiment(__doc__) as experiment:
    seed = experiment.seed
    digits = [(x if x.shape[1] == 32 else as_rgb(x, 32), y) for x, y in experiment.load("mnist")]
    net = build("leaky_relu", False, seed)
    train("mnist", net, dl.optim.Adam(net, learning_rate), (digits[0], digits[1]), epochs)

    try:
        houses = experiment.load("svhn")
        for run, start in (("svhn", None), ("svhn, fine-tuned", net)):
            model = build("leaky_relu", True, seed)
            if start is not None:
                dl.weights.load(model, start.state_dict())
            train(run, model, dl.optim.Adam(model, learning_rate), houses, epochs)
    except dl.MissingDataError as error:
        print(f"SVHN is left out: {str(error).splitlines()[0]}")

    photographs = experiment.load("cifar10")
    for place, activation in enumerate(("leaky_relu", "tanh", "relu")):
        for optimizer in ("sgd", "adam"):
            model = build(activation, True, 100 * seed + place)
            rule = (
                dl.optim.Adam(model, grid_rate)
                if optimizer == "adam"
                else dl.optim.SGD(model, grid_rate, momentum)
            )
            train(f"cifar10, {activation}, {optimizer}", model, rule, photographs, grid_epochs)
