"""Weights under other names and in other orders of axes."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl.layers import BatchNorm, Conv2D, Dense, Flatten
from minidl.weights import WeightsError, load


def model(seed=0):
    return dl.Sequential(
        Conv2D(3, (1, 2), name="conv"), BatchNorm(name="norm"), Flatten(), Dense(4, name="fc"), Dense(2, name="head"),
        input_shape=(2, 3, 2), seed=seed,
    )  # fmt: skip


def in_torch(state):
    """What the model's values are called and look like in PyTorch."""
    first = state["fc.weight"].reshape(2, 2, 3, 4).transpose(2, 0, 1, 3).reshape(12, 4)
    return {
        "0.weight": state["conv.weight"].transpose(3, 2, 0, 1), "0.bias": state["conv.bias"],
        "1.weight": state["norm.gamma"], "1.bias": state["norm.beta"],
        "1.running_mean": state["norm.running_mean"], "1.running_var": state["norm.running_var"],
        "1.num_batches_tracked": np.array(3),
        "4.weight": first.T, "4.bias": state["fc.bias"], "5.weight": state["head.weight"].T, "5.bias": state["head.bias"],
    }  # fmt: skip


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.scenario("B59")
@pytest.mark.parametrize("layout", ["auto", "torch"])
def test_order_and_axes_of_torch(layout):
    source, target = model(1), model(2)
    assert load(target, in_torch(source.state_dict()), layout=layout) == ([], [], [])
    assert same(source, target)


def test_names_of_keras():
    source, target = model(1), model(2)
    words = {"weight": "kernel", "running_mean": "moving_mean", "running_var": "moving_variance"}
    state = {}
    for path, value in source.state_dict().items():
        layer, _, key = path.partition(".")
        state[f"{layer}/{words.get(key, key)}"] = value
    shuffled = dict(sorted(state.items(), reverse=True))
    load(target, shuffled, layout="keras")
    assert same(source, target)


def test_mapping_by_dict_and_by_function():
    source, target = model(1), model(2)
    state = {f"x.{path}": value for path, value in source.state_dict().items()}
    for mapping in (lambda path: f"x.{path}", {name: f"x.{name}" for name in ("conv", "norm", "fc", "head")}):
        load(target, dict(sorted(state.items())), mapping=mapping, layout="keras")
        assert same(source, target)


@pytest.mark.scenario("B56", "B57")
def test_every_difference_in_one_message_and_nothing_loaded():
    target = model()
    before = target.state_dict()
    state = dict(before)
    del state["conv.bias"], state["norm.beta"]
    state["more.weight"] = np.zeros(3)
    state["head.weight"] = np.zeros((4, 5))
    with pytest.raises(WeightsError) as caught:
        load(target, state)
    text = str(caught.value)
    assert "missing: conv.bias (3,)" in text
    assert "missing: norm.beta (3,)" in text
    assert "surplus: more.weight (3,)" in text
    assert "wrong shape: head.weight (4, 2), but head.weight (4, 5)" in text
    assert all(np.array_equal(before[key], value) for key, value in target.state_dict().items())


@pytest.mark.scenario("B56")
def test_not_strict_loads_what_fits_and_returns_the_rest():
    source, target = model(1), model(2)
    state = source.state_dict() | {"more.weight": np.zeros(3)}
    del state["conv.bias"]
    report = load(target, state, strict=False)
    assert report == (["conv.bias (3,)"], ["more.weight (3,)"], [])
    assert np.array_equal(target["fc"].weight.data, source["fc"].weight.data)


@pytest.mark.scenario("B60")
def test_a_new_head():
    source, target = model(1), model(2)
    state = source.state_dict() | {"head.weight": np.zeros((4, 7)), "head.bias": np.zeros(7)}
    head = target["head"].state_dict()
    with pytest.raises(WeightsError, match=r"wrong shape: head.weight \(4, 2\), but head.weight \(4, 7\)"):
        load(target, state)
    report = load(target, state, skip_mismatch=True)
    assert len(report.mismatched) == 2
    assert np.array_equal(target["conv"].weight.data, source["conv"].weight.data)
    again = model(3)
    load(again, state, exclude=["head.*"], strict=False)
    for layer in (target, again):
        assert np.array_equal(layer["fc"].weight.data, source["fc"].weight.data)
    assert np.array_equal(target["head"].weight.data, head["weight"])


@pytest.mark.scenario("B58")
def test_axes_that_shapes_do_not_tell():
    square = dl.Sequential(Dense(3), input_shape=(3,))
    with pytest.raises(WeightsError, match="say layout='keras' or layout='torch'"):
        load(square, {"0.weight": np.ones((3, 3)), "0.bias": np.ones(3)})
    load(square, {"0.weight": np.arange(9.0).reshape(3, 3), "0.bias": np.ones(3)}, layout="torch")
    assert square[0].weight.data[0, 1] == 3


def test_names_out_of_order_are_not_matched_by_order():
    """Two layers of one shape whose names say otherwise."""
    target = dl.Sequential(Dense(2, name="a"), Dense(2, name="b"), input_shape=(2,))
    state = {
        f"{name}.{key}": np.ones(s) for name in ("b", "c") for key, s in (("weight", (2, 2)), ("bias", (2,)))
    }
    with pytest.raises(WeightsError, match=r"missing: a\.weight"):
        load(target, state, layout="keras")


def test_wrong_layout_word():
    with pytest.raises(ValueError, match="layout must be one of auto, keras, torch, got 'caffe'"):
        load(model(), {}, layout="caffe")
