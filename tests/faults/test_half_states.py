"""An error in the middle leaves nothing half done: modes, no_grad, gradients, random numbers, batch norm."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import Tensor, layers, ops


class Broken(dl.Function):
    """The identity, with a failure forward or backward when told."""

    where: str | None = None
    error: BaseException = RuntimeError("broken on purpose")

    def forward(self, x):
        if Broken.where == "forward":
            raise Broken.error
        return x * 1.0

    def backward(self, dy):
        if Broken.where == "backward":
            raise Broken.error
        return dy


class Breaking(dl.Layer):
    def forward(self, x):
        return Broken()(x)


@pytest.fixture
def broken(monkeypatch):
    """Call it with "forward" or "backward" and an error."""

    def set_where(where, error=None):
        monkeypatch.setattr(Broken, "where", where)
        monkeypatch.setattr(Broken, "error", error or RuntimeError("broken on purpose"))

    return set_where


def make():
    return dl.Sequential(
        layers.Dense(4), Breaking(), layers.Dropout(0.5), layers.Dense(3), input_shape=(5,), seed=3
    )  # fmt: skip


def run(model, x, y, steps):
    optimizer = dl.optim.Adam(model, 0.01)
    for step in range(steps):
        model[2].start_step(0, "d", step)
        optimizer.zero_grad()
        ops.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.scenario("F34")
@pytest.mark.parametrize(
    "error", [RuntimeError("x"), MemoryError(), KeyboardInterrupt()], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_f34_the_next_step_is_as_if_nothing_had_been(where, error, broken, rng):
    x, y = rng.normal(size=(6, 5)).astype(np.float32), np.arange(6) % 3
    expected = run(make(), x, y, 3)
    model = make()
    before = model.state_dict()
    broken(where, error)
    with pytest.raises(type(error)):
        ops.cross_entropy(model(x), y).backward()
    assert all(layer.training for _, layer in model.named_layers())
    assert dl.autograd.grad_enabled()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    broken(None)
    for name, value in run(model, x, y, 3).items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.scenario("F34")
@pytest.mark.parametrize(
    "call", [dl.predict, lambda m, x: dl.evaluate(m, x, np.zeros(len(x), int))], ids=["predict", "evaluate"]
)
def test_f34_inference_that_fails(call, broken, rng):
    model, x = make(), rng.normal(size=(6, 5)).astype(np.float32)
    model[0].eval()
    broken("forward")
    with pytest.raises(RuntimeError, match="broken on purpose"):
        call(model, x)
    assert [layer.training for layer in model] == [False, True, True, True]
    assert dl.autograd.grad_enabled()


@pytest.mark.scenario("F34")
def test_f34_values_may_be_changed_after_a_failed_backward(broken):
    x = Tensor(np.ones(3), requires_grad=True)
    broken("backward")
    y = Broken()(x * x)
    with pytest.raises(RuntimeError, match="on purpose"):
        y.sum().backward()
    broken(None)
    x.data[...] = 2.0
    x.grad = None
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 4)


@pytest.mark.scenario("F34")
def test_f34_a_refused_batch_leaves_the_running_statistics(rng):
    layer = layers.BatchNorm()
    layer(rng.normal(size=(8, 3)).astype(np.float32))
    mean, var = layer.running_mean.copy(), layer.running_var.copy()
    for wrong in (np.ones((1, 3), np.float32), np.ones((4, 2), np.float32)):
        with pytest.raises(ValueError, match="batch_norm"):
            layer(wrong)
    np.testing.assert_array_equal((layer.running_mean, layer.running_var), (mean, var))
