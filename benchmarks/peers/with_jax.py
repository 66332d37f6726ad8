"""JAX: one jitted function for the whole step, buffers donated, NHWC."""

from __future__ import annotations

import os

os.environ["JAX_PLATFORMS"] = "cpu"

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import EPS, MOMENTUM, Case

VERSION = f"jax {jax.__version__}"


def apply(case: Case, parameters: Any, averages: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """Outputs, and the new running averages of batch normalisation."""
    weights, scales, fresh = iter(parameters["weights"]), iter(parameters["scales"]), []
    for words in case.network:
        match words:
            case "conv", _, _, pad, bias, stride:
                steps, frame = (stride, stride), ((pad, pad), (pad, pad))
                layout = ("NHWC", "HWIO", "NHWC")
                x = jax.lax.conv_general_dilated(x, next(weights), steps, frame, dimension_numbers=layout)
                x = x + next(weights) if bias else x
            case "dense", _:
                x = x @ next(weights) + next(weights)
            case ("relu",):
                x = jax.nn.relu(x)
            case ("leaky_relu",):
                x = jax.nn.leaky_relu(x, 0.01)
            case ("elu",):
                x = jax.nn.elu(x)
            case "max_pool", k, *stride:
                s = stride[0] if stride else k
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, k, k, 1), (1, s, s, 1), "VALID")
            case "avg_pool", k:
                total = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, k, k, 1), (1, k, k, 1), "VALID")
                x = total / k**2
            case ("flatten",):
                x = x.reshape(len(x), -1)
            case "dropout", rate:
                if case.training:
                    key, mine = jax.random.split(key)
                    x = jnp.where(jax.random.bernoulli(mine, 1 - rate, x.shape), x / (1 - rate), 0)
            case ("batch_norm",):
                gamma, beta = next(scales)
                mean, var = averages[len(fresh)]
                if case.training:
                    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
                    now, spread = x.mean(axes), x.var(axes)
                    fresh.append(
                        (
                            mean + MOMENTUM * (now - mean),
                            var + MOMENTUM * (spread * count / (count - 1) - var),
                        )
                    )
                    mean, var = now, spread
                else:
                    fresh.append((mean, var))
                x = (x - mean) * (gamma * jax.lax.rsqrt(var + EPS)) + beta
    return x, fresh


class Contestant:
    def __init__(self, case: Case, weights: list[np.ndarray]):
        channels = [shape[-1] for words, shape, _ in case.walk() if words[0] == "batch_norm"]
        self.parameters = {
            "weights": [jnp.asarray(w) for w in weights],
            "scales": [(jnp.ones(c), jnp.zeros(c)) for c in channels],
        }
        self.averages = [(jnp.zeros(c), jnp.ones(c)) for c in channels]
        self.moments = [jax.tree.map(jnp.zeros_like, self.parameters) for _ in range(2)]
        self.key, self.count = jax.random.key(0), jnp.zeros((), jnp.int32)
        x, y = case.batch_of_data()
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        self.training = case.training
        kind, lr = case.optimizer

        def loss_of(parameters: Any, averages: Any, key: Any) -> tuple[Any, Any]:
            outputs, averages = apply(case, parameters, averages, self.x, key)
            log_p = jax.nn.log_softmax(outputs)
            return -jnp.take_along_axis(log_p, self.y[:, None], 1).mean(), averages

        def train(parameters: Any, averages: Any, moments: Any, count: Any, key: Any) -> Any:
            key, mine = jax.random.split(key)
            (loss, averages), grads = jax.value_and_grad(loss_of, has_aux=True)(parameters, averages, mine)
            mean, square = moments
            count = count + 1
            if kind == "adam":
                mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
                square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, grads)
                rate, root = lr / (1 - 0.9**count), (1 - 0.999**count) ** 0.5
                parameters = jax.tree.map(
                    lambda p, m, s: p - rate * m / (jnp.sqrt(s) / root + 1e-8), parameters, mean, square
                )
            else:
                mean = jax.tree.map(lambda m, g: 0.9 * m + g, mean, grads)
                parameters = jax.tree.map(lambda p, m: p - lr * m, parameters, mean)
            return loss, parameters, averages, [mean, square], count, key

        self._train = jax.jit(train, donate_argnums=(0, 1, 2, 3, 4))
        self._forward = jax.jit(lambda p, a, x: apply(case, p, a, x, None)[0])

    def step(self) -> None:
        if self.training:
            state = self.parameters, self.averages, self.moments, self.count, self.key
            self.result, self.parameters, self.averages, self.moments, self.count, self.key = self._train(
                *state
            )
        else:
            self.result = self._forward(self.parameters, self.averages, self.x)
        self.result.block_until_ready()

    def loss(self) -> float:
        return float(self.result.mean())
