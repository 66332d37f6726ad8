"""Freezing: what is frozen does not move, costs nothing backward, and keeps its optimiser state."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl.kernels import reference
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sequential

OPTIMIZERS = {
    "sgd": lambda m: dl.optim.SGD(m, 0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda m: dl.optim.SGD(m, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda m: dl.optim.Adam(m, 0.01, weight_decay=0.1),
    "adamw": lambda m: dl.optim.AdamW(m, 0.01, weight_decay=0.1),
    "rmsprop": lambda m: dl.optim.RMSprop(m, 0.01, momentum=0.9, weight_decay=0.1),
}


def make_model():
    return Sequential(
        Conv2D(3, 3), ReLU(), BatchNorm(), MaxPool2D(), Conv2D(4, 2), BatchNorm(), ReLU(), Flatten(), Dense(5), Dense(3),
        input_shape=(8, 8, 1),
    )  # fmt: skip


@pytest.fixture
def data(rng):
    return rng.standard_normal((6, 8, 8, 1)).astype(np.float32), rng.integers(0, 3, 6)


def train(model, optimizer, x, y, steps=1):
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        dl.ops.cross_entropy(model(x), y).backward()
        optimizer.step()


def same(a, b, keys=None):
    return {key: np.array_equal(a[key], b[key]) for key in (a if keys is None else keys)}


@pytest.fixture
def calls(monkeypatch):
    """Backward calls by the class of the Function, and calls of the costly kernels."""
    counted: dict[str, int] = {}

    def count(name, function):
        def counting(*args, **kwargs):
            counted[name] = counted.get(name, 0) + 1
            return function(*args, **kwargs)

        return counting

    def subclasses(cls):
        for sub in cls.__subclasses__():
            yield sub
            yield from subclasses(sub)

    for function in set(subclasses(dl.Function)):
        if "backward" in vars(function) and function.__module__.startswith("minidl."):
            monkeypatch.setattr(function, "backward", count(function.__name__, function.backward))
    kernels = dl.kernels.of(np)
    for name in ("conv2d_grad_weight", "conv2d_grad_input", "batch_norm_grad", "max_pool_grad"):
        monkeypatch.setattr(kernels, name, count(name, getattr(kernels, name)))
    return counted


@pytest.mark.scenario("N24")
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("frozen_from_start", [True, False])
def test_frozen_parameters_stay_bitwise(optimizer, frozen_from_start, data):
    model = make_model()
    optimizer = optimizer(model)
    if not frozen_from_start:
        train(model, optimizer, *data, steps=3)  # momentum is under way
    model[:6].freeze()
    before = model.state_dict()
    train(model, optimizer, *data, steps=50)
    unchanged = same(before, model.state_dict())
    assert unchanged == {key: not key.startswith("dense") for key in before}


def test_nothing_to_train():
    model = make_model().freeze()
    with pytest.raises(ValueError, match="all parameters are frozen"):
        dl.optim.SGD(model, 0.1).step()
    with pytest.raises(RuntimeError, match="requires_grad"):
        model(np.ones((2, 8, 8, 1), np.float32)).sum().backward()


def test_all_gradients_are_computed_without_freezing(calls, data):
    model = make_model()
    train(model, dl.optim.SGD(model, 0.1), *data)
    assert calls["conv2d_grad_weight"] == 2
    assert calls["conv2d_grad_input"] == 1  # the images need none
    assert (calls["Dense"], calls["Conv2D"], calls["BatchNorm"]) == (2, 2, 2)


@pytest.mark.scenario("N24")
def test_nothing_below_the_lowest_trainable_layer_runs_backward(calls, data):
    model = make_model()
    model[:6].freeze()
    train(model, dl.optim.SGD(model, 0.1), *data)
    assert calls["Dense"] == 2
    below = {"Conv2D", "BatchNorm", "BatchNormInference", "ReLU", "MaxPool", "MaxPool2D", "Reshape"}
    below |= {"conv2d_grad_weight", "conv2d_grad_input", "batch_norm_grad", "max_pool_grad"}
    assert not below & set(calls), calls


def test_no_weight_gradient_for_a_frozen_layer_in_the_middle(calls, data):
    model = make_model()
    model["conv2d_1"].freeze()
    train(model, dl.optim.SGD(model, 0.1), *data)
    assert calls["conv2d_grad_weight"] == 1  # of the first convolution only
    assert calls["conv2d_grad_input"] == 1  # on the way down to it
    assert model["conv2d_1"].weight.grad is None and model["conv2d"].weight.grad is not None


def test_no_dense_weight_gradient_when_frozen(data):
    """The Function itself sees that nobody asks: dw is not computed."""
    model = make_model()
    model["dense_1"].freeze()
    logits = model(data[0])
    assert logits.creator.needs_grad == (True, False, False)


@pytest.mark.scenario("N15", "N24")
def test_frozen_batch_norm_uses_and_keeps_running_statistics(rng):
    model = Sequential(BatchNorm(momentum=0.5), input_shape=(3,))
    x = rng.standard_normal((9, 3)).astype(np.float32) * 2 + 5
    model.train()(x)
    norm = model[0]
    kept = norm.running_mean.copy(), norm.running_var.copy()
    model.freeze()
    assert model.training and norm.training
    frozen = model(x)
    np.testing.assert_array_equal(norm.running_mean, kept[0])
    np.testing.assert_array_equal(norm.running_var, kept[1])
    np.testing.assert_allclose(frozen.data, (x - kept[0]) / np.sqrt(kept[1] + norm.eps), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(frozen.data, model.eval()(x).data)
    again = model.unfreeze().train()(x)
    np.testing.assert_allclose(again.data.mean(0), 0, atol=1e-5)
    assert not np.array_equal(norm.running_mean, kept[0])


def test_frozen_dropout_still_drops():
    """Dropout has nothing to train; as in Keras and PyTorch only the mode switches it."""
    model = Sequential(Dropout(0.5)).freeze().train()
    assert (model(np.ones((10, 10), np.float32)).data == 0).any()


def test_freeze_and_unfreeze_are_inverse(data):
    model = make_model()
    assert all(p.requires_grad for p in model.parameters())
    assert model.freeze() is model
    assert not any(p.requires_grad for p in model.parameters())
    assert model.unfreeze() is model
    assert all(p.requires_grad for p in model.parameters())


def test_freezing_forgets_gradients(data):
    model = make_model()
    dl.ops.cross_entropy(model(data[0]), data[1]).backward()
    model[:6].freeze()
    assert {name: p.grad is None for name, p in model.named_parameters()} == {
        name: not name.startswith("dense") for name, _ in model.named_parameters()
    }


def test_a_slice_shares_its_layers():
    model = make_model()
    model[:6].freeze()
    assert [p.requires_grad for p in model["conv2d_1"].parameters()] == [False, False]
    assert all(p.requires_grad for p in model[6:].parameters())
    model[4:5].unfreeze()
    assert {n for n, p in model[:6].named_parameters() if p.requires_grad} == {
        "conv2d_1.weight",
        "conv2d_1.bias",
    }


def test_freezing_one_layer_of_a_nested_model():
    model = Sequential(Sequential(Dense(3), Dense(3)), Dense(2), input_shape=(2,))
    model["sequential"]["dense_1"].freeze()
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "sequential.dense_1.weight", "sequential.dense_1.bias",
    ]  # fmt: skip


def test_freezing_a_shared_layer_freezes_it_everywhere():
    dense = Dense(2)
    first, second = (
        Sequential(dense, Dense(3), input_shape=(2,)),
        Sequential(dense, Dense(4), input_shape=(2,)),
    )
    first.freeze()
    assert [p.requires_grad for p in second.parameters()] == [False, False, True, True]


@pytest.mark.parametrize("scope", ["model", "slice", "layer"])
def test_layers_built_after_freezing_are_frozen(scope):
    model = Sequential(Dense(3), Dense(2))
    {"model": model, "slice": model[:], "layer": model[0]}[scope].freeze()
    model(np.ones((1, 4), np.float32))
    assert [p.requires_grad for p in model.parameters()] == [False] * 2 + [scope == "layer"] * 2


def test_layers_added_to_a_frozen_model_are_frozen():
    model = Sequential(Dense(3), input_shape=(4,)).freeze()
    model.append(Dense(2))
    model(np.ones((1, 4), np.float32))
    assert [p.requires_grad for p in model.parameters()] == [False] * 4
    model.unfreeze()
    model.append(Dense(2))
    model(np.ones((1, 4), np.float32))
    assert all(p.requires_grad for p in model.parameters())


def test_a_new_head_on_a_frozen_slice_is_trained(data):
    base = make_model()
    model = Sequential(*base[:8].freeze(), Dense(4, name="head"), input_shape=(8, 8, 1))
    before = model.state_dict()
    train(model, dl.optim.Adam(model, 0.01), *data, steps=3)
    assert same(before, model.state_dict()) == {key: not key.startswith("head") for key in before}


@pytest.mark.scenario("N24")
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_freezing_in_mid_training_keeps_the_optimiser_state(optimizer, data):
    model = make_model()
    optimizer = optimizer(model)
    train(model, optimizer, *data, steps=4)
    before = optimizer.state_dict()
    model[:6].freeze()
    train(model, optimizer, *data, steps=3)
    during = optimizer.state_dict()
    assert sorted(during) == sorted(before)
    for key, value in during.items():
        if key.startswith(("conv", "batch")):
            np.testing.assert_array_equal(value, before[key], err_msg=key)
        elif key.endswith("/step"):
            assert value == before[key] + 3
    model.unfreeze()
    train(model, optimizer, *data)
    after = optimizer.state_dict()
    assert {int(v) for k, v in after.items() if k.startswith("conv") and k.endswith("step")} == {5}
    assert {int(v) for k, v in after.items() if k.startswith("dense") and k.endswith("step")} == {8}


@pytest.mark.scenario("N24")
def test_a_frozen_pause_changes_nothing(data):
    """Freeze and unfreeze without a step in between: bitwise the same as never frozen."""
    runs = []
    for pause in (False, True):
        model = make_model()
        optimizer = dl.optim.Adam(model, 0.01)
        train(model, optimizer, *data, steps=3)
        if pause:
            model[2:7].freeze().unfreeze()
        train(model, optimizer, *data, steps=3)
        runs.append(model.state_dict())
    assert all(same(*runs).values())


def test_counts():
    model = make_model()
    buffers = 2 * 3 + 2 * 4
    total = sum(v.size for v in model.state_dict().values())
    assert model.count_parameters() == (total - buffers, buffers)
    model[:6].freeze()
    head = 5 * 4 * 2 * 2 + 5 + 5 * 3 + 3
    assert model.count_parameters() == (head, total - head)
    text = dl.summary(model)
    assert f"Trainable params: {head:,} " in text and f"Non-trainable params: {total - head:,} " in text
    assert f"Total params: {total:,} " in text


def test_freezing_a_subclass_with_lists():
    class Branches(Layer):
        def __init__(self):
            self.parts = [Dense(2), Dense(2)]
            self.named = {"a": Dense(2)}

        def forward(self, x):
            return self.parts[0](x) + self.parts[1](x) + self.named["a"](x)

    model = Branches().freeze()
    model(np.ones((1, 3), np.float32))
    assert len(model.parameters()) == 6 and not any(p.requires_grad for p in model.parameters())


def test_kernels_under_count_are_the_ones_in_use():
    """The counting fixture patches `kernels.of(np)`; the ops must take theirs from there."""
    assert hasattr(reference, "conv2d_grad_weight")
    op = dl.ops.relu(dl.Tensor(np.ones(2, np.float32), requires_grad=True)).creator
    assert op.kernels is dl.kernels.of(np)
