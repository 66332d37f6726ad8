"""Parameter counts of published networks: (total, trainable) as their own frameworks print them."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl.layers import (
    ELU,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    ReLU,
    Sequential,
)

DIGITS = (28, 28, 1)


def keras_cnn(kernel, filters, dropout=0.5):
    """Conv, ReLU, batch norm, pool, dropout, twice; then two dense layers."""

    def block(filters, kernel):
        drop = [Dropout(dropout)] if dropout else []
        return [
            Conv2D(filters, kernel, activation="relu"),
            BatchNorm(momentum=0.01, eps=1e-3),
            MaxPool2D(2),
            *drop,
        ]

    return [*block(32, 3), *block(filters, kernel), Flatten(), Dense(128, "relu"), Dense(10)]


def elu_mlp(blocks=5, norm=False, dropout=0.0):
    """Dense, batch norm, ELU, dropout, five times; then five classes."""
    layers = []
    for _ in range(blocks):
        layers += [Dense(100, kernel_initializer="he_normal"), *([BatchNorm()] if norm else []), ELU()]
        layers += [Dropout(dropout)] if dropout else []
    return [*layers, Dense(5, kernel_initializer="he_normal")]


def torch_cnn(classes=10):
    convolutions = [
        Conv2D(10, 3, padding=1), ReLU(), MaxPool2D(2), Conv2D(150, 3, padding=1), ReLU(), MaxPool2D(2),
        Conv2D(300, 3, padding=1), ReLU(), Conv2D(300, 3, padding=1), ReLU(), Conv2D(150, 3, padding=1), ReLU(),
    ]  # fmt: skip
    return [*convolutions, Flatten(), Dense(120, "relu"), Dense(84, "relu"), Dense(classes)]


def lenet():
    return [
        Conv2D(6, 5, activation="tanh"), MaxPool2D(2), Conv2D(16, 5, activation="tanh"), MaxPool2D(2),
        Flatten(), Dense(120, "tanh"), Dense(84, "tanh"), Dense(10),
    ]  # fmt: skip


def wide_cnn():
    widths = [(32, 1), (64, 1), None, (128, 1), (256, 1), None, (512, 0), (1024, 0)]
    layers = [MaxPool2D(2) if w is None else Conv2D(w[0], 3, padding=w[1], activation="relu") for w in widths]
    return [*layers, Conv2D(10, 3), Flatten()]


def thin_cnn(norm=False, dropout=0.0, last=False):
    """No biases; the 1x1 convolution pads in the last variant, so that its 9x9 image becomes 11x11."""

    def block(filters, kernel, padding=0):
        after = [*([BatchNorm()] if norm else []), *([Dropout(dropout)] if dropout else [])]
        return [Conv2D(filters, kernel, padding=padding, use_bias=False), ReLU(), *after]

    layers = [*block(8, 3, 1), *block(16, 3), MaxPool2D(2), *block(16, 3), *block(16, 3)]
    if last:
        layers += [*block(14, 1, 1), *block(12, 3, 1), *block(12, 3), *block(10, 3)]
    else:
        layers += [*block(14, 1), *block(12, 3)]
    return [*layers, AvgPool2D(7), Conv2D(10, 1, use_bias=False), Flatten()]


NETWORKS = {
    "keras-3-32": (lambda: keras_cnn(3, 32), DIGITS, 113_642, 113_514),
    "keras-3-64": (lambda: keras_cnn(3, 64), DIGITS, 225_418, 225_226),
    "keras-5-32": (lambda: keras_cnn(5, 32), DIGITS, 93_162, 93_034),
    "keras-5-64": (lambda: keras_cnn(5, 64), DIGITS, 184_458, 184_266),
    "keras-5-64-no-dropout": (lambda: keras_cnn(5, 64, dropout=0), DIGITS, 184_458, 184_266),
    "elu-mlp": (elu_mlp, (784,), 119_405, 119_405),
    "elu-mlp-norm": (lambda: elu_mlp(norm=True), (784,), 121_405, 120_405),
    "elu-mlp-norm-dropout": (lambda: elu_mlp(norm=True, dropout=0.1), (784,), 121_405, 120_405),
    "elu-mlp-first-four": (lambda: elu_mlp(blocks=4, norm=True, dropout=0.1), (784,), 110_905, 110_105),
    "torch-mlp": (lambda: [Flatten(), Dense(4096, "relu"), Dense(10)], DIGITS, 3_256_330, 3_256_330),
    "torch-cnn": (torch_cnn, DIGITS, 2_527_634, 2_527_634),
    "torch-cnn-letters": (lambda: torch_cnn(26), DIGITS, 2_528_994, 2_528_994),
    "lenet": (lenet, (32, 32, 3), 62_006, 62_006),
    "wide": (wide_cnn, DIGITS, 6_379_786, 6_379_786),
    "thin": (thin_cnn, DIGITS, 7_688, 7_688),
    "thin-norm": (lambda: thin_cnn(norm=True), DIGITS, 7_852 + 164, 7_852),
    "thin-norm-dropout": (lambda: thin_cnn(norm=True, dropout=0.07), DIGITS, 7_852 + 164, 7_852),
    "thin-last": (lambda: thin_cnn(norm=True, dropout=0.07, last=True), DIGITS, 10_252 + 208, 10_252),
}


@pytest.mark.parametrize(("make", "shape", "total", "trainable"), NETWORKS.values(), ids=NETWORKS)
def test_count(make, shape, total, trainable):
    model = Sequential(*make(), input_shape=shape)
    assert model.count_parameters() == (trainable, total - trainable)
    assert sum(p.size for p in model.parameters()) == trainable  # PyTorch counts no buffers
    classes = 26 if total == 2_528_994 else 5 if shape == (784,) else 10
    assert model.eval()(np.zeros((2, *shape), np.float32)).shape == (2, classes)
    assert f"Total params: {total:,} " in dl.summary(model)


def test_layers_of_the_keras_network():
    model = Sequential(*keras_cnn(5, 64), input_shape=DIGITS)
    sizes = [sum(v.size for v in layer.state_dict().values()) for layer in model]
    assert [size for size in sizes if size] == [320, 128, 51_264, 256, 131_200, 1_290]


def test_frozen_body_and_new_head():
    body = Sequential(*elu_mlp(norm=True, dropout=0.1)[:-1], input_shape=(784,)).freeze()
    model = Sequential(*body, Dense(5, name="head"), input_shape=(784,))
    assert model.count_parameters() == (505, 120_900)


def test_frozen_convolutions_and_new_head():
    model = Sequential(*torch_cnn(26), input_shape=DIGITS)
    model[:-1].freeze()
    assert model.count_parameters() == (2_210, 2_528_994 - 2_210)
