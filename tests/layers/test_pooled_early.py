"""In inference, max pooling goes ahead of layers that keep order: nothing but the work may change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl.layers import AvgPool2D, BatchNorm, LeakyReLU, MaxPool2D, ReLU, Sequential


class Counted(BatchNorm):
    """A subclass may do anything in `forward`, so it is left where it is."""


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """How many numbers batch norm saw."""
    seen, forward = [], BatchNorm.forward
    monkeypatch.setattr(BatchNorm, "forward", lambda self, x: (seen.append(x.size), forward(self, x))[1])
    return seen


def model(pool=None, gamma=(0.5, 2.0, 1e-20), norm=BatchNorm, **window):
    layers = norm(), ReLU(), pool or MaxPool2D(2, **window)
    made = Sequential(*layers, input_shape=(6, 6, 3)).eval()
    rng = np.random.default_rng(0)
    made[0].gamma.data = np.array(gamma, np.float32)
    made[0].beta.data = rng.normal(size=3)
    made[0].running_mean[:], made[0].running_var[:] = rng.normal(size=3), rng.uniform(0.5, 2, 3)
    return made


def outputs(model, x):
    """(with a graph, without one)."""
    with dl.no_grad():
        early = model(x).data
    return model(x).data, early


def image(seed=0, n=2):
    return np.random.default_rng(seed).normal(size=(n, 6, 6, 3)).astype(np.float32)


@given(st.integers(0, 50), st.sampled_from([1, 2, 3]), st.sampled_from(["valid", "same", 1]), st.data())
def test_bitwise_the_same(seed, strides, padding, data):
    gamma = data.draw(st.tuples(*[st.floats(-1, 4, width=32)] * 3))
    kept, early = outputs(model(gamma=gamma, strides=strides, padding=padding), image(seed))
    np.testing.assert_array_equal(early, kept)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_arrives(value):
    x = image()
    x[0, 1, 1] = x[1, 2:4, 2:4] = value
    kept, early = outputs(model(gamma=(1, 2, 3)), x)
    np.testing.assert_array_equal(early, kept)
    assert not np.isfinite(kept).all() or value < 0


def test_a_quarter_of_the_numbers(sizes):
    outputs(model(), image())
    assert sizes[-2:] == [2 * 3 * 3 * 3, 2 * 6 * 6 * 3]


@pytest.mark.parametrize(
    "kept_in_place",
    [
        lambda: model(gamma=(1, -1, 1)),
        lambda: model(gamma=(1, 0, 1)),
        lambda: model(gamma=(1, np.nan, 1)),
        lambda: model(AvgPool2D(2)),
        lambda: model(norm=Counted),
        lambda: Sequential(BatchNorm(), LeakyReLU(-2.0), MaxPool2D(2), input_shape=(6, 6, 3)).eval(),
        lambda: model().train(),
        lambda: model().freeze(batch_norm="batch").train(),
        lambda: model().freeze(batch_norm="update").train(),
    ],
    ids=[
        "negative",
        "zero",
        "nan",
        "average",
        "subclass",
        "falling",
        "training",
        "frozen-batch",
        "frozen-update",
    ],
)
def test_where_order_may_change_layers_stay(kept_in_place, sizes):
    made = kept_in_place()
    sizes.clear()
    with dl.no_grad():
        made(image())
    assert sizes == [2 * 6 * 6 * 3]


def test_frozen_batch_norm_in_training_keeps_order(sizes):
    made = model().freeze().train()
    sizes.clear()
    kept, early = outputs(made, image())
    np.testing.assert_array_equal(early, kept)
    assert sizes[0] == 2 * 3 * 3 * 3


def test_who_watches_a_layer_sees_its_own_output():
    seen = {}
    made = model()
    made[0]._watch = lambda layer, y: seen.setdefault("norm", y.shape)
    with dl.no_grad():
        made(image())
    assert seen == {"norm": (2, 6, 6, 3)}
