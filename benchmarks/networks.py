"""The workloads: each network once, as a list of plain words that every peer turns into its own layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# ("conv", filters, kernel, padding, bias, stride), ("relu",), ("max_pool", size, stride), ("dense", units) ...
Spec = tuple[tuple[Any, ...], ...]

EPS, MOMENTUM = 1e-5, 0.1  # of batch normalisation, in every peer


@dataclass(frozen=True)
class Case:
    """One row of the table: a network, the size of a batch, and how it is trained (or that it is not)."""

    name: str
    title: str
    network: Spec
    shape: tuple[int, ...]
    classes: int
    batch: int
    optimizer: tuple[str, float] = ("adam", 1e-3)  # SGD has momentum 0.9
    training: bool = True

    def forward_only(self) -> Case:
        """The same network in inference mode."""
        return Case(
            f"{self.name}/forward", f"{self.title}, forward", self.network, *self._data(), training=False
        )

    def at(self, batch: int) -> Case:
        """The same work on batches of another size."""
        name = f"{self.name}@{batch}"
        data = self.shape, self.classes, batch
        return Case(name, f"{self.title}, batch {batch}", self.network, *data, self.optimizer, self.training)

    def without_dropout(self) -> Case:
        """What can be compared exactly: random numbers are each peer's own."""
        network = tuple(layer for layer in self.network if layer[0] != "dropout")
        return Case(self.name, self.title, network, *self._data(), self.optimizer, self.training)

    def _data(self) -> tuple[tuple[int, ...], int, int]:
        return self.shape, self.classes, self.batch

    def batch_of_data(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """x (N, H, W, C) or (N, I), float32 in 0..1, and class numbers (N,)."""
        rng = np.random.default_rng(seed)
        x = rng.random((self.batch, *self.shape), np.float32)
        return x, rng.integers(0, self.classes, self.batch)

    def weights(self, seed: int = 0) -> list[np.ndarray]:
        """Weight and bias of every convolution (KH, KW, C, F) and dense layer (I, O), He-normal."""
        rng = np.random.default_rng(seed)
        arrays = []
        for layer, shape, _ in self.walk():
            if layer[0] in ("conv", "dense"):
                size = (
                    (*2 * (layer[2],), shape[-1], layer[1]) if layer[0] == "conv" else (shape[-1], layer[1])
                )
                std = (2 / np.prod(size[:-1])) ** 0.5
                arrays.append((std * rng.standard_normal(size)).astype(np.float32))
                if layer[0] == "dense" or layer[4]:
                    arrays.append(np.zeros(layer[1], np.float32))
        return arrays

    def walk(self) -> list[tuple[tuple[Any, ...], tuple[int, ...], tuple[int, ...]]]:
        """(layer, shape of its input, shape of its output), the batch axis left out."""
        steps, shape = [], self.shape
        for layer in self.network:
            before = shape
            if layer[0] == "conv":
                _, filters, kernel, padding, _, stride = layer
                shape = (*((n + 2 * padding - kernel) // stride + 1 for n in shape[:2]), filters)
            elif layer[0] in ("max_pool", "avg_pool"):
                size, stride = layer[1], layer[-1]  # which may be one number
                shape = (*((n - size) // stride + 1 for n in shape[:2]), shape[2])
            elif layer[0] == "flatten":
                shape = (int(np.prod(shape)),)
            elif layer[0] == "dense":
                shape = (layer[1],)
            steps.append((layer, before, shape))
        return steps

    def flops(self) -> float:
        """Of the matrix products, by direct arithmetic: forward, and for training both gradients."""
        total, first = 0.0, True
        for layer, before, after in self.walk():
            if layer[0] in ("conv", "dense"):
                window = layer[2] ** 2 if layer[0] == "conv" else 1
                once = 2.0 * self.batch * np.prod(after) * before[-1] * window
                total += once * (1 if not self.training else 2 if first else 3)
                first = False
        return total


def conv(filters: int, kernel: int, padding: int = 0, bias: bool = True, stride: int = 1) -> tuple[Any, ...]:
    return ("conv", filters, kernel, padding, bias, stride)


def _digits_cnn() -> Spec:
    """Conv, ReLU, batch norm, pool, dropout, twice; then two dense layers."""
    after = (("relu",), ("batch_norm",), ("max_pool", 2), ("dropout", 0.5))
    head = (("flatten",), ("dense", 128), ("relu",), ("dense", 10))
    return (conv(32, 3), *after, conv(64, 5), *after, *head)


def _thin() -> Spec:
    def block(*arguments: int) -> Spec:
        return (conv(*arguments, bias=False), ("relu",), ("batch_norm",), ("dropout", 0.07))

    first = (*block(8, 3, 1), *block(16, 3), ("max_pool", 2), *block(16, 3), *block(16, 3))
    second = (*block(14, 1, 1), *block(12, 3, 1), *block(12, 3), *block(10, 3))
    return (*first, *second, ("avg_pool", 7), conv(10, 1, bias=False), ("flatten",))


def _transfer_cnn() -> Spec:
    relu, pool = ("relu",), ("max_pool", 2)
    body = (
        conv(10, 3, 1),
        relu,
        pool,
        conv(150, 3, 1),
        relu,
        pool,
        conv(300, 3, 1),
        relu,
        conv(300, 3, 1),
        relu,
    )
    head = (("flatten",), ("dense", 120), relu, ("dense", 84), relu, ("dense", 10))
    return (*body, conv(150, 3, 1), relu, *head)


def _lenet() -> Spec:
    act, pool = ("leaky_relu",), ("max_pool", 2)
    head = (("flatten",), ("dense", 120), act, ("dense", 84), act, ("dense", 10))
    return (conv(6, 5), act, pool, conv(16, 5), act, pool, *head)


def _elu_mlp() -> Spec:
    return (*5 * (("dense", 100), ("batch_norm",), ("elu",), ("dropout", 0.1)), ("dense", 5))


def _vgg16() -> Spec:
    layers: list[tuple[Any, ...]] = []
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        layers += [*count * (conv(filters, 3, 1), ("relu",)), ("max_pool", 2)]
    return (*layers, ("flatten",))


def _alexnet() -> Spec:
    """Krizhevsky's "One weird trick" (2014), as torchvision has it."""
    relu, pool, drop = ("relu",), ("max_pool", 3, 2), ("dropout", 0.5)
    first = (conv(64, 11, 2, stride=4), relu, pool, conv(192, 5, 2), relu, pool)
    second = (conv(384, 3, 1), relu, conv(256, 3, 1), relu, conv(256, 3, 1), relu, pool)
    head = (("flatten",), drop, ("dense", 4096), relu, drop, ("dense", 4096), relu, ("dense", 1000))
    return (*first, *second, *head)


_MLP: Spec = (("dense", 4096), ("relu",), ("dense", 10))
_TRAINING = (
    Case("mlp", "784-4096-10 MLP", _MLP, (784,), 10, 2048, ("adam", 6e-3)),
    Case("cnn", "digits CNN, batch norm, dropout", _digits_cnn(), (28, 28, 1), 10, 128),
    Case("thin", "10,000-parameter CNN", _thin(), (28, 28, 1), 10, 128, ("sgd", 0.01)),
    Case("transfer", "2.5 M parameter CNN", _transfer_cnn(), (28, 28, 1), 10, 128),
    Case("lenet", "LeNet", _lenet(), (32, 32, 3), 10, 4),
    Case("elu", "5x100 ELU MLP, batch norm, dropout", _elu_mlp(), (784,), 5, 128, ("adam", 5e-4)),
)
_VGG = Case("vgg16", "VGG16 features", _vgg16(), (32, 32, 3), 512, 128, training=False)
ALEXNET = Case("alexnet", "AlexNet", _alexnet(), (224, 224, 3), 1000, 128, ("sgd", 1e-3), training=False)
SCALING = tuple(_TRAINING[1].at(batch) for batch in (32, 64, 128, 256, 512, 1024, 2048, 4096))
CASES = {
    case.name: case for case in (*_TRAINING, _VGG, *(case.forward_only() for case in _TRAINING), *SCALING)
}
