"""A whole network trained in both libraries, and the conventions of layers against PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minidl as dl
from tests.oracle.agreement import to_nchw, to_nhwc, to_oihw

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")
F = torch.nn.functional

pytestmark = pytest.mark.oracle


def network() -> dl.Sequential:
    layers = dl.layers
    return dl.Sequential(
        layers.Conv2D(4, 3, padding="same"),
        layers.BatchNorm(),
        layers.ReLU(),
        layers.MaxPool2D(2),
        layers.Conv2D(6, 3, strides=2, padding=1, groups=2, activation="relu"),
        layers.Dropout(0.0),
        layers.Flatten(),
        layers.Dense(5),
        input_shape=(8, 8, 2),
    )


class Twin:
    """The same network, written with PyTorch's functions on weights in our layout."""

    def __init__(self, model: dl.Sequential):
        self.weights = {
            name: torch.tensor(p.data.copy(), requires_grad=True) for name, p in model.named_parameters()
        }
        norm = model["batch_norm"]
        self.mean, self.var = torch.tensor(norm.running_mean.copy()), torch.tensor(norm.running_var.copy())

    def __call__(self, x: np.ndarray, training: bool) -> Any:
        w = self.weights
        h = F.conv2d(to_nchw(torch.tensor(x)), to_oihw(w["conv2d.weight"]), w["conv2d.bias"], padding=1)
        h = F.batch_norm(h, self.mean, self.var, w["batch_norm.gamma"], w["batch_norm.beta"], training)
        h = F.max_pool2d(F.relu(h), 2)
        weight = to_oihw(w["conv2d_1.weight"])
        h = F.relu(F.conv2d(h, weight, w["conv2d_1.bias"], stride=2, padding=1, groups=2))
        h = to_nhwc(h).flatten(1)
        return F.linear(h, w["dense.weight"].T, w["dense.bias"])


OPTIMIZERS: dict[str, tuple[Any, Any]] = {
    "sgd": (
        lambda m: dl.optim.SGD(m, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    ),
    "adam": (lambda m: dl.optim.Adam(m, 0.01, eps=1e-4), lambda p: torch.optim.Adam(p, 0.01, eps=1e-4)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_a_network(name: str) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((24, 8, 8, 2)), rng.integers(0, 5, 24)
    model = network()
    model.to(dtype=np.float64)
    twin = Twin(model)
    ours = OPTIMIZERS[name][0](model)
    theirs = OPTIMIZERS[name][1](list(twin.weights.values()))
    losses = []
    for step in range(10):
        batch = slice(8 * (step % 3), 8 * (step % 3) + 8)
        ours.zero_grad()
        theirs.zero_grad()
        loss = dl.ops.cross_entropy(model(x[batch]), labels[batch])
        expected = F.cross_entropy(twin(x[batch], training=True), torch.tensor(labels[batch]))
        loss.backward()
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
        ours.step()
        theirs.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for key, parameter in model.named_parameters():
        np.testing.assert_allclose(
            parameter.data, twin.weights[key].detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=key
        )
    np.testing.assert_allclose(model["batch_norm"].running_mean, twin.mean.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model["batch_norm"].running_var, twin.var.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        dl.predict(model, x), twin(x, training=False).detach().numpy(), rtol=1e-8, atol=1e-9
    )


def test_batch_norm_defaults_are_pytorchs() -> None:
    """Momentum is the weight of the new value, and the variance accumulated is the unbiased one."""
    ours, theirs = dl.layers.BatchNorm(), torch.nn.BatchNorm2d(3, dtype=torch.float64)
    ours.to(dtype=np.float64)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = 2 + 3 * rng.standard_normal((2, 2, 3, 3))
        y, expected = ours(x), to_nhwc(theirs(to_nchw(torch.tensor(x))))
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ours.running_mean, theirs.running_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy(), rtol=1e-12)
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(
        ours(x).data, to_nhwc(theirs(to_nchw(torch.tensor(x)))).detach().numpy(), rtol=1e-9, atol=1e-11
    )


@pytest.fixture
def torch_seed() -> Iterator[None]:
    """PyTorch draws the same each time, and its global generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def same_uniform(ours: np.ndarray, theirs: np.ndarray, limit: float) -> None:
    """Both samples fill [-limit, limit] evenly."""
    for sample in (ours, theirs):
        assert np.abs(sample).max() <= limit * (1 + 1e-6)
        assert np.abs(sample).max() > 0.99 * limit
        assert sample.std() == pytest.approx(limit / math.sqrt(3), rel=0.05)
        levels = np.quantile(sample, np.linspace(0.1, 0.9, 9))
        np.testing.assert_allclose(levels, np.linspace(-0.8, 0.8, 9) * limit, atol=0.06 * limit)


@pytest.mark.usefixtures("torch_seed")
def test_torch_uniform_of_dense() -> None:
    init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}
    model = dl.Sequential(dl.layers.Dense(2000, **init), input_shape=(30,))
    theirs = torch.nn.Linear(30, 2000)
    weight, bias = (p.data for p in model.parameters())
    same_uniform(weight, theirs.weight.detach().numpy(), 1 / math.sqrt(30))
    same_uniform(bias, theirs.bias.detach().numpy(), 1 / math.sqrt(30))


@pytest.mark.usefixtures("torch_seed")
@pytest.mark.parametrize("groups", [1, 2])
def test_torch_uniform_of_conv2d(groups: int) -> None:
    init = {"kernel_initializer": "torch_uniform", "bias_initializer": "torch_uniform"}
    model = dl.Sequential(dl.layers.Conv2D(2000, (3, 2), groups=groups, **init), input_shape=(5, 5, 4))
    theirs = torch.nn.Conv2d(4, 2000, (3, 2), groups=groups)
    weight, bias = (p.data for p in model.parameters())
    limit = 1 / math.sqrt(3 * 2 * 4 / groups)
    same_uniform(weight, theirs.weight.detach().numpy(), limit)
    same_uniform(bias, theirs.bias.detach().numpy(), limit)
