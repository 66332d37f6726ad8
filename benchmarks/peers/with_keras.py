"""Keras on TensorFlow: a step compiled by tf.function."""

from __future__ import annotations

import os

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.networks import EPS, MOMENTUM, Case

VERSION = f"keras {keras.__version__}, tensorflow {tf.__version__}"


def layer(word: str, *arguments: Any) -> list[keras.Layer]:
    """The layers that a word of `networks` means."""
    match word, arguments:
        case "conv", (filters, kernel, padding, bias, stride):
            if padding and kernel == 2 * padding + 1 and stride == 1:
                return [keras.layers.Conv2D(filters, kernel, padding="same", use_bias=bias)]
            frame = [keras.layers.ZeroPadding2D(padding)] if padding else []
            return [*frame, keras.layers.Conv2D(filters, kernel, stride, use_bias=bias)]
        case "batch_norm", _:
            return [keras.layers.BatchNormalization(momentum=1 - MOMENTUM, epsilon=EPS)]
        case "leaky_relu", _:
            return [keras.layers.LeakyReLU(negative_slope=0.01)]
    kinds: dict[str, Any] = {
        "dense": keras.layers.Dense,
        "relu": keras.layers.ReLU,
        "elu": keras.layers.ELU,
        "max_pool": keras.layers.MaxPooling2D,
        "avg_pool": keras.layers.AveragePooling2D,
        "dropout": keras.layers.Dropout,
        "flatten": keras.layers.Flatten,
    }
    return [kinds[word](*arguments)]


class Contestant:
    def __init__(self, case: Case, weights: list[np.ndarray]):
        body = [part for words in case.network for part in layer(*words)]
        self.model = keras.Sequential([keras.Input(case.shape), *body])
        sources = iter(weights)
        for part in self.model.layers:
            if isinstance(part, (keras.layers.Conv2D, keras.layers.Dense)):
                part.set_weights([next(sources) for _ in part.weights])
        x, y = case.batch_of_data()
        self.x, self.y = tf.constant(x), tf.constant(y)
        kind, lr = case.optimizer
        optimizers = keras.optimizers
        self.optimizer = (
            optimizers.Adam(lr, epsilon=1e-8) if kind == "adam" else optimizers.SGD(lr, momentum=0.9)
        )
        self.criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.optimizer.build(self.model.trainable_variables)
        self._compiled = tf.function(self._train if case.training else self._forward)

    def _train(self, x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.criterion(y, self.model(x, training=True))
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def _forward(self, x: Any, y: Any) -> Any:
        return self.model(x, training=False)

    def step(self) -> None:
        self.result = self._compiled(self.x, self.y)
        self.result.numpy()

    def loss(self) -> float:
        return float(self.result.numpy().mean())
