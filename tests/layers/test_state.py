"""State: names, strict loading, initial values, copies, modes and devices."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import init
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Parameter, ReLU, Sequential

SHAPE = (5, 5, 2)


def make_model(seed=0):
    return Sequential(
        Sequential(Conv2D(3, 3), BatchNorm(), ReLU(), name="body"), Flatten(), Dropout(0.2), Dense(4, name="head"),
        input_shape=SHAPE, seed=seed,
    )  # fmt: skip


class Branched(Layer):
    """Layers in attributes, lists and dicts, a parameter and a buffer of its own, and hidden things."""

    def __init__(self):
        super().__init__()
        self.first = Dense(3)
        self.blocks = [Dense(3), Sequential(Dense(3), ReLU())]
        self.by_name = {"left": Dense(2), "right": Dense(2)}
        self.pair = (Dense(2), ReLU())
        self.scale = Parameter(np.ones(2, np.float32))
        self.seen = np.zeros(1, np.float32)
        self._hidden = np.zeros(7)
        self._unseen = Dense(9)
        self.label = "text"

    def forward(self, x):
        x = self.blocks[1](self.blocks[0](self.first(x)))
        return self.scale * self.pair[0](self.by_name["left"](x) + self.by_name["right"](x))


BRANCHED = [
    "scale", "seen", "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.dense.weight",
    "blocks.1.dense.bias", "by_name.left.weight", "by_name.left.bias", "by_name.right.weight",
    "by_name.right.bias", "pair.0.weight", "pair.0.bias",
]  # fmt: skip


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, *SHAPE)).astype(np.float32)


def test_names_and_order():
    assert list(make_model().state_dict()) == [
        "body.conv2d.weight", "body.conv2d.bias", "body.batch_norm.gamma", "body.batch_norm.beta",
        "body.batch_norm.running_mean", "body.batch_norm.running_var", "head.weight", "head.bias",
    ]  # fmt: skip
    model = Branched()
    model(np.ones((1, 4), np.float32))
    assert list(model.state_dict()) == BRANCHED
    assert [name for name, _ in model.named_parameters()] == [n for n in BRANCHED if n != "seen"]
    assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]


def test_state_is_a_copy(x):
    model = make_model()
    state = model.state_dict()
    kept = copy.deepcopy(state)
    for value in state.values():
        assert type(value) is np.ndarray and value.flags.owndata and value.flags.writeable
        value += 1
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])
    model(x)  # training: running averages move
    assert not np.array_equal(
        model.state_dict()["body.batch_norm.running_mean"], kept["body.batch_norm.running_mean"]
    )


def test_round_trip(x):
    a, b = make_model(seed=1), make_model(seed=2)
    a.train()(x)
    assert not np.array_equal(a.eval()(x).data, b.eval()(x).data)
    state = a.state_dict()
    assert b.load_state_dict(state) is None
    np.testing.assert_array_equal(a(x).data, b(x).data)
    for value in state.values():
        value[...] = 7  # loading copied
    np.testing.assert_array_equal(a(x).data, b(x).data)


def test_loading_takes_effect_in_a_packed_model(x):
    model = make_model()
    optimizer = dl.optim.SGD(model, 0.1)
    model(x).sum().backward()
    optimizer.step()
    data = model["head"].weight.data
    model.load_state_dict(make_model(seed=5).state_dict())
    assert model["head"].weight.data is data  # still the optimiser's memory
    np.testing.assert_array_equal(data, make_model(seed=5)["head"].weight.data)


def damage(state, *, drop=(), add=(), reshape=()):
    state = {k: v for k, v in state.items() if k not in drop}
    state.update({name: np.zeros(2) for name in add})
    for name in reshape:
        state[name] = np.zeros((*state[name].shape, 1))
    return state


@pytest.mark.parametrize(
    "damages",
    [
        {"drop": ["head.bias"]},
        {"drop": ["body.batch_norm.running_var"]},
        {"add": ["extra"]},
        {"reshape": ["head.weight"]},
        {"drop": ["head.bias", "body.conv2d.weight"], "add": ["tail.weight", "x"], "reshape": ["head.weight", "body.batch_norm.gamma"]},
    ],
    ids=["missing", "missing-buffer", "unknown", "shape", "all"],
)  # fmt: skip
def test_loading_is_all_or_nothing(damages):
    model, other = make_model(seed=1), make_model(seed=2)
    before = model.state_dict()
    with pytest.raises(dl.StateError) as caught:
        model.load_state_dict(damage(other.state_dict(), **damages))
    message = str(caught.value)
    names = [name for group in damages.values() for name in group]
    assert all(name in message for name in names) and f"{len(names)} problem" in message
    assert message.count("\n") == len(names)
    for kind, word in {"drop": "missing", "add": "unknown", "reshape": "wrong shape"}.items():
        assert message.count(f"{word}: ") == len(damages.get(kind, ()))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "value", [[1.0, 2.0, 3.0, 4.0], None, np.array(list("abcd")), np.array([object()] * 4)]
)
def test_loading_what_is_no_array_of_numbers(value):
    model = make_model()
    before = model.state_dict()
    with pytest.raises(dl.StateError, match=r"head\.bias"):
        model.load_state_dict({**make_model(seed=3).state_dict(), "head.bias": value})
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_casts_to_the_models_dtype():
    model = make_model()
    state = {k: v.astype(np.float64) for k, v in make_model(seed=3).state_dict().items()}
    model.load_state_dict(state)
    assert {v.dtype for v in model.state_dict().values()} == {np.dtype(np.float32)}


def test_loading_into_an_unbuilt_model_says_how_to_build_it():
    with pytest.raises(dl.StateError, match="input_shape"):
        Sequential(Dense(3)).load_state_dict({"dense.weight": np.zeros((2, 3))})


def test_a_shared_layer_is_saved_once(rng):
    dense = Dense(3)
    model = Sequential(Sequential(dense, ReLU()), Sequential(dense), input_shape=(3,))
    assert list(model.state_dict()) == ["sequential.dense.weight", "sequential.dense.bias"]
    assert len(model.parameters()) == 2


def test_a_shared_parameter_is_trained_once_and_saved_under_both_names():
    class Tied(Layer):
        def __init__(self):
            self.a = Parameter(np.ones(2, np.float32))
            self.b = self.a

        def forward(self, x):
            return x * self.a + self.b

    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["a"]
    assert set(model.state_dict()) == {"a", "b"} and model.count_parameters() == (2, 0)
    model.load_state_dict(model.state_dict())


ORDER = """
import numpy as np, minidl as dl
from minidl.layers import *
class Model(dl.Layer):
    def __init__(self):
        self.z, self.a = Dense(3), Dense(3)
        self.parts = {"y": Dense(2), "b": Dense(2), "k": BatchNorm()}
    def forward(self, x):
        x = self.a(self.z(x))
        return self.parts["k"](self.parts["b"](x) + self.parts["y"](x))
model = Model()
model(np.ones((4, 2), np.float32))
for name, value in model.state_dict().items():
    print(name, value.tobytes().hex())
"""


def test_order_and_initial_values_do_not_depend_on_the_hash_seed():
    root = Path(dl.__file__).parents[1]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", ORDER],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "31337")
    ]  # fmt: skip
    assert outputs[0].splitlines()[0].startswith("z.weight ") and outputs[0].count("\n") == 12
    assert outputs[0] == outputs[1] == outputs[2]


# Initial values


@pytest.mark.scenario("N26")
def test_initial_values_depend_on_seed_and_path_only():
    first = make_model(seed=3).state_dict()
    for _ in range(3):
        Dense(2)(np.ones((1, 2)))  # other layers made and built meanwhile
    second = make_model(seed=3)
    for name, value in second.state_dict().items():
        np.testing.assert_array_equal(value, first[name])
    other = make_model(seed=4).state_dict()
    assert not np.array_equal(other["head.weight"], first["head.weight"])


@pytest.mark.scenario("N26")
def test_initial_values_do_not_depend_on_the_order_of_making():
    values = []
    for swap in (False, True):
        makers = [lambda: Dense(4, name="a"), lambda: Dense(4, name="b")]
        layers = [make() for make in (makers[::-1] if swap else makers)]
        layers = layers[::-1] if swap else layers
        values.append(Sequential(*layers, input_shape=(4,)).state_dict())
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name])
    assert not np.array_equal(values[0]["a.weight"], values[0]["b.weight"])


def test_initial_values_do_not_depend_on_who_is_built_first():
    def make():
        return Sequential(Dense(4, name="a"), Dense(4, name="b"), seed=7)

    whole, parts = make(), make()
    x = np.ones((1, 4), np.float32)
    whole(x)
    parts[1:](x)
    parts(x)
    for name, value in parts.state_dict().items():
        np.testing.assert_array_equal(value, whole.state_dict()[name], err_msg=name)


def test_an_unseeded_layer_of_its_own_still_differs_from_the_next():
    a, b = Dense(3), Dense(3)
    x = np.ones((1, 3), np.float32)
    assert not np.array_equal(a(x).data, b(x).data)


# The whole table of initialisers: bounds and spread


@pytest.mark.parametrize(
    ("name", "std", "limit"),
    [
        ("glorot_uniform", np.sqrt(2 / 500), np.sqrt(6 / 500)),
        ("glorot_normal", np.sqrt(2 / 500), 2 / 0.87962566 * np.sqrt(2 / 500)),
        ("he_uniform", np.sqrt(2 / 300), np.sqrt(6 / 300)),
        ("he_normal", np.sqrt(2 / 300), 2 / 0.87962566 * np.sqrt(2 / 300)),
        ("torch_uniform", np.sqrt(1 / 900), np.sqrt(1 / 300)),
    ],
)
def test_initializers(name, std, limit):
    weight = Sequential(Dense(200, kernel_initializer=name), input_shape=(300,))[0].weight.data
    assert (
        weight.dtype == np.float32
        and abs(weight).max() <= limit * 1.0001
        and abs(weight).max() > 0.95 * limit
    )
    assert weight.std() == pytest.approx(std, rel=0.02) and abs(weight.mean()) < 0.02 * std * 3


def test_uniform_numbers_do_not_depend_on_the_pieces_they_are_drawn_in(monkeypatch):
    drawn = []
    for piece in (5, init.PIECE, 10**6):
        monkeypatch.setattr(init, "PIECE", piece)
        drawn.append(init.glorot_uniform((80, 90), np.random.default_rng(3), np.float32))
    limit = (6 / 170) ** 0.5
    expected = np.random.default_rng(3).uniform(-limit, limit, (80, 90)).astype(np.float32)
    for values in drawn:
        np.testing.assert_array_equal(values, expected)


def test_fan_in_of_convolutions_and_biases():
    layer = Sequential(
        Conv2D(64, (3, 5), groups=2, kernel_initializer="torch_uniform", bias_initializer="torch_uniform"),
        input_shape=(8, 8, 16),
    )[0]
    bound = 1 / np.sqrt(3 * 5 * 8)
    for parameter in (layer.weight, layer.bias):
        assert 0.9 * bound < abs(parameter.data).max() <= bound


def test_an_initializer_may_be_a_function():
    def sevens(shape, rng, dtype, fan_in=None):
        return np.full(shape, 7, dtype)

    assert set(Sequential(Dense(2, kernel_initializer=sevens), input_shape=(3,))[0].weight.data.flat) == {7.0}


# Copies


def arrays_of(model):
    return [value._data if isinstance(value, Parameter) else value for _, value in model._named_values()]


@pytest.mark.scenario("F35")
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_copies_share_nothing(duplicate, packed, x):
    model = make_model()
    optimizer = dl.optim.Adam(model)
    if packed:
        model(x).sum().backward()
        optimizer.step()
    model["body"].freeze()
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.eval()(x).data, model.eval()(x).data)
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    assert all(not np.shares_memory(a, b) for a in arrays_of(model) for b in arrays_of(twin))
    before = model.state_dict()
    twin_optimizer = dl.optim.Adam(twin.unfreeze())
    twin.train()(x).sum().backward()
    twin_optimizer.step()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
        changed = not np.array_equal(value, twin.state_dict()[name])
        assert changed or name == "body.conv2d.bias", name  # batch norm takes the bias's gradient away


def test_a_copy_of_a_subclass():
    model = Branched()
    y = model(np.ones((2, 4), np.float32)).data
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin(np.ones((2, 4), np.float32)).data, y)
    assert list(twin.state_dict()) == BRANCHED


# Modes


def modes(model):
    return [layer.training for _, layer in model.named_layers()]


def test_train_and_eval_reach_every_layer():
    for model in (make_model(), Branched()):
        assert modes(model) == [True] * len(modes(model))
        assert model.eval() is model and modes(model) == [False] * len(modes(model))
        assert model.train() is model and modes(model) == [True] * len(modes(model))
        model.train(False)
        assert not any(modes(model))


@pytest.mark.scenario("F34")
@pytest.mark.parametrize("fails", [False, True])
def test_inference_restores_every_mode(fails, x):
    model = make_model()
    model["body"].eval()
    model["body"][1].train()
    before = modes(model)
    assert len(set(before)) == 2
    try:
        with dl.layers.inference(model):
            assert not any(modes(model))
            assert not model(x).requires_grad
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert modes(model) == before and model(x).requires_grad


def test_inference_may_be_nested(x):
    model = make_model()
    with dl.layers.inference(model):
        with dl.layers.inference(model):
            pass
        assert not any(modes(model)) and not model(x).requires_grad
    assert all(modes(model))


# Devices


@pytest.mark.scenario("F28")
def test_auto_without_a_gpu_is_the_cpu(monkeypatch, x):
    monkeypatch.setitem(sys.modules, "cupy", None)
    model = make_model()
    assert model.to("auto") is model and {p.device for p in model.parameters()} == {"cpu"}
    model(x)


@pytest.mark.scenario("F28")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_without_cupy_is_an_error_with_advice(monkeypatch, device, x):
    monkeypatch.setitem(sys.modules, "cupy", None)
    model = make_model()
    before = model.state_dict()
    with pytest.raises(dl.DeviceError, match=re.escape("minidl[cuda12]") + ".*device='cpu'"):
        model.to(device)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_to_moves_buffers_too():
    model = make_model().to(dtype="float64")
    assert model["body"]["batch_norm"].running_mean.dtype == np.float64
    assert {v.dtype for v in model.state_dict().values()} == {np.dtype(np.float64)}


def test_to_keeps_values_and_freezing():
    model = make_model()
    model["body"].freeze()
    before = model.state_dict()
    model.to(dtype="float64").to("cpu", dtype="float32")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2


def test_parameter_data_keeps_its_shape():
    layer = Dense(3)
    layer(np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(3, 2\)"):
        layer.weight.data = np.zeros((3, 2))
    layer.weight.data = np.full((2, 3), 2.0)
    assert layer.weight.dtype == np.float32 and set(layer.weight.data.flat) == {2.0}
