"""A gradient that nothing else can see may be overwritten by the next one; any other stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import Tensor, backward, layers


class Spy(dl.Function):
    """The identity; spoils the gradient that arrives wherever that is allowed, and may give on another array."""

    def __init__(self, allowed, give=lambda dx: dx):
        self.allowed, self.give = allowed, give

    def forward(self, x):
        return x + 0

    def backward(self, dy):
        self.allowed.append(self.may_overwrite)
        dx = 1 * dy
        if self.may_overwrite:
            dy[...] = np.nan
        return self.give(dx)


@pytest.fixture
def x():
    return Tensor(np.arange(6, dtype=np.float32).reshape(2, 3), requires_grad=True)


def test_a_fresh_gradient_and_a_view_of_one_may_be_overwritten(x):
    allowed = []
    (Spy(allowed)(Spy(allowed)(x).reshape(6)) * 2).sum().backward()
    assert allowed == [True, True]
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2))


@pytest.mark.parametrize(
    "use",
    [
        lambda y: y + y,  # one array for both
        lambda y: y + 3 * y,
        lambda y: y.sum() * y,  # rows of stride zero
        lambda y: y.T * y.T[:1, :1],
        lambda y: y[:1] - y[1:],
    ],
)
def test_overwriting_never_shows(x, use):
    plain, allowed = Tensor(x.data, requires_grad=True), []
    use(Spy(allowed)(Spy(allowed)(x))).sum().backward()
    use(plain).sum().backward()
    np.testing.assert_allclose(x.grad, plain.grad)
    assert len(allowed) == 2


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (lambda g: g, lambda g: g),
        (lambda g: g[...], lambda g: g),
        (lambda g: g.reshape(-1)[1:], lambda g: g),
        (lambda g: g, lambda g: g[...]),
        (lambda g: g.T, lambda g: g.reshape(3, 2).reshape(2, 3)),
    ],
)
def test_a_gradient_that_somebody_keeps_is_left_alone(x, kept, given):
    allowed, keep = [], []

    def give(dx):
        keep.append(kept(dx))
        return given(dx)

    (Spy(allowed, give)(Spy(allowed)(x)) * 2).sum().backward()
    assert allowed == [True, False]  # the outer one is visited first, and what it returned was kept
    assert (keep[0] == 2).all()


def read_only(g):
    g.flags.writeable = False
    return g


@pytest.mark.parametrize("give", [read_only, lambda g: np.lib.stride_tricks.as_strided(g, (2, 3), (0, 4))])
def test_memory_that_cannot_be_written_or_lies_upon_itself_is_left_alone(x, give):
    allowed = []
    (Spy(allowed, give)(Spy(allowed)(x)) * 2).sum().backward()
    assert allowed == [True, False]
    assert (x.grad == 2).all()


def test_the_gradient_of_the_caller_is_left_alone(x):
    allowed, grad = [], np.ones((2, 3), np.float32)
    Spy(allowed)(x).backward(grad)
    assert allowed == [False]
    assert (grad == 1).all()


def test_who_watches_sees_the_gradient_that_arrived(x, monkeypatch):
    allowed, arrived = [], []
    monkeypatch.setattr(dl.Function, "watch_backward", lambda node, grad, grads: arrived.append(grad))
    (Spy(allowed)(x) * 2).sum().backward()
    assert allowed == [False]
    assert (arrived[-1] == 2).all()


def test_a_network_finds_the_same_gradients_without(monkeypatch):
    def gradients():
        same = {"padding": "same", "activation": "relu"}
        model = dl.Sequential(
            layers.Conv2D(3, 3, **same), layers.BatchNorm(), layers.MaxPool2D(2), layers.Dropout(0.3),
            layers.Conv2D(4, 3, **same), layers.Flatten(), layers.Dropout(0.3), layers.Dense(5), layers.BatchNorm(),
            layers.ELU(), layers.Dense(6, activation="leaky_relu"), layers.Dense(3), input_shape=(8, 8, 2), seed=1,
        )  # fmt: skip
        batch = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype(np.float32)
        loss = dl.ops.cross_entropy(model(batch), np.arange(4) % 3)
        loss.backward(retain_graph=True)
        loss.backward()
        return [p.grad for p in model.parameters()]

    fast = gradients()
    monkeypatch.setattr(backward, "_seen_by_nobody_else", lambda pending, node: False)
    for a, b in zip(fast, gradients(), strict=True):
        np.testing.assert_array_equal(a, b)
