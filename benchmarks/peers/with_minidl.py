"""minidl itself."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import minidl as dl
from benchmarks.networks import EPS, MOMENTUM, Case
from minidl import kernels, layers

VERSION = f"minidl {dl.__version__}"


def build(case: Case) -> list[layers.Layer]:
    """The layers that the words of `networks` mean; an activation belongs to the layer before it."""
    made: list[layers.Layer] = []
    words = list(case.network)
    for word, following in zip(words, [*words[1:], ("end",)], strict=True):
        after = following[0] if following[0] in ("relu", "leaky_relu") else None
        match word:
            case "conv", filters, kernel, padding, bias, stride:
                made.append(layers.Conv2D(filters, kernel, stride, padding, use_bias=bias, activation=after))
            case "dense", units:
                made.append(layers.Dense(units, activation=after))
            case ("batch_norm",):
                made.append(layers.BatchNorm(momentum=MOMENTUM, eps=EPS))
            case ("relu" | "leaky_relu",):
                pass
            case kind, *arguments:
                made.append(LAYERS[kind](*arguments))
    return made


LAYERS: dict[str, Any] = {
    "elu": layers.ELU,
    "max_pool": layers.MaxPool2D,
    "avg_pool": layers.AvgPool2D,
    "dropout": layers.Dropout,
    "flatten": layers.Flatten,
}


class Contestant:
    def __init__(self, case: Case, weights: list[np.ndarray]):
        kernels.use(os.environ.get("MINIDL_KERNELS", "auto"))
        self.model = layers.Sequential(*build(case), input_shape=case.shape)
        sources = iter(weights)
        for part in self.model:
            if isinstance(part, (layers.Conv2D, layers.Dense)):
                for parameter in part.parameters():
                    parameter.data = next(sources)
        self.training = case.training
        self.x, self.y = case.batch_of_data()
        kind, lr = case.optimizer
        optim = dl.optim
        self.optimizer = (
            optim.Adam(self.model, lr=lr) if kind == "adam" else optim.SGD(self.model, lr=lr, momentum=0.9)
        )
        self.model.train(case.training)

    def step(self) -> None:
        if not self.training:
            with dl.no_grad():
                self.result = self.model(self.x)
            return
        self.optimizer.zero_grad()
        self.result = dl.ops.cross_entropy(self.model(self.x), self.y)
        self.result.backward()
        self.optimizer.step()

    def loss(self) -> float:
        return float(self.result.numpy().mean())


def tidy() -> None:
    """Give back what kernels keep for the next call, so that it is counted."""
    if kernels.of(np) is not kernels.reference:
        from minidl.kernels.cpu.compiling import free_scratch

        free_scratch()
