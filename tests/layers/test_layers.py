"""Every layer class: gradients, modes, freezing, state, shapes, arguments, names and messages."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import minidl as dl
from minidl import ops
from minidl.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2D,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    Layer,
    LeakyReLU,
    MaxPool2D,
    Normalize,
    ReLU,
    Reshape,
    Resize,
    Sequential,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from minidl.shapes import ShapeError
from minidl.testing import check_layer

IMAGE = (6, 5, 2)  # H, W, C of a sample
VECTOR = (4,)


class Residual(Layer):
    """Two branches that meet, one of them a shared layer applied twice."""

    def __init__(self, filters=2):
        self.conv = Conv2D(filters, 3, padding="same")
        self.norm = BatchNorm()
        self.branches = [Conv2D(filters, 1), Conv2D(filters, (1, 3), padding=((0, 0), (1, 1)))]
        self.gates = {"tanh": Tanh(), "dense": Conv2D(filters, 1, activation="sigmoid")}

    def forward(self, x):
        y = self.norm(self.conv(x))
        y = y + sum(branch(x) for branch in self.branches)
        return self.gates["tanh"](self.conv(y)) * self.gates["dense"](x)


class TwoInputs(Layer):
    """One input seen by two layers."""

    def __init__(self):
        self.left, self.right = Dense(3), Dense(3, use_bias=False)

    def forward(self, x):
        return ops.concatenate([self.left(x), self.right(x)], axis=1)


def shared():
    dense = Dense(4, activation="tanh")
    return Sequential(dense, dense, Dense(2))


def nested():
    return Sequential(
        Sequential(Conv2D(2, 3), ReLU(), Sequential(BatchNorm(), Dropout(0.3))),
        Sequential(Flatten(), Dense(3)),
        Softmax(),
    )


# How to make it, shape of a sample in, shape of a sample out
TABLE = {
    "Dense": (lambda: Dense(3), VECTOR, (3,)),
    "Dense-no-bias": (lambda: Dense(3, use_bias=False), VECTOR, (3,)),
    "Dense-activation": (lambda: Dense(3, "tanh"), VECTOR, (3,)),
    "Dense-function": (lambda: Dense(3, activation=ops.sigmoid), VECTOR, (3,)),
    "Dense-initializers": (
        lambda: Dense(3, kernel_initializer="he_normal", bias_initializer="torch_uniform"), VECTOR, (3,)),
    "Conv2D": (lambda: Conv2D(3, 3), IMAGE, (4, 3, 3)),
    "Conv2D-same": (lambda: Conv2D(3, 3, strides=2, padding="same"), IMAGE, (3, 3, 3)),
    "Conv2D-pads": (lambda: Conv2D(2, (2, 3), (2, 1), ((1, 0), (0, 2)), dilation=(1, 2)), IMAGE, (3, 3, 2)),
    "Conv2D-integer-pads": (lambda: Conv2D(2, 3, padding=(0, 1), use_bias=False), IMAGE, (4, 5, 2)),
    "Conv2D-groups": (lambda: Conv2D(4, 2, groups=2, activation="sigmoid"), IMAGE, (5, 4, 4)),
    "BatchNorm": (BatchNorm, VECTOR, VECTOR),
    "BatchNorm-images": (lambda: BatchNorm(momentum=0.5, eps=1e-3), IMAGE, IMAGE),
    "Dropout": (Dropout, VECTOR, VECTOR),
    "Dropout-images": (lambda: Dropout(0.2), IMAGE, IMAGE),
    "Dropout-none": (lambda: Dropout(0), VECTOR, VECTOR),
    "Dropout-all": (lambda: Dropout(1.0), VECTOR, VECTOR),
    "MaxPool2D": (MaxPool2D, IMAGE, (3, 2, 2)),
    "MaxPool2D-overlap": (lambda: MaxPool2D(3, strides=(1, 2), padding=1), IMAGE, (6, 3, 2)),
    "MaxPool2D-same": (lambda: MaxPool2D((2, 3), padding="same"), IMAGE, (3, 2, 2)),
    "AvgPool2D": (AvgPool2D, IMAGE, (3, 2, 2)),
    "AvgPool2D-same": (lambda: AvgPool2D(3, 2, "same"), IMAGE, (3, 3, 2)),
    "AvgPool2D-count": (lambda: AvgPool2D(3, 2, 1, count_include_pad=True), IMAGE, (3, 3, 2)),
    "GlobalAvgPool2D": (GlobalAvgPool2D, IMAGE, (2,)),
    "AdaptiveAvgPool2D": (lambda: AdaptiveAvgPool2D((2, 3)), IMAGE, (2, 3, 2)),
    "GlobalMaxPool2D": (GlobalMaxPool2D, IMAGE, (2,)),
    "Flatten": (Flatten, IMAGE, (60,)),
    "Reshape": (lambda: Reshape((2, 30)), IMAGE, (2, 30)),
    "Reshape-infer": (lambda: Reshape((-1, 5)), IMAGE, (12, 5)),
    "Resize": (lambda: Resize((3, 7)), IMAGE, (3, 7, 2)),
    "Resize-square": (lambda: Resize(8), IMAGE, (8, 8, 2)),
    "Normalize": (lambda: Normalize(0.5, 2), IMAGE, IMAGE),
    "Normalize-channels": (lambda: Normalize((0.1, 0.2), [0.5, 0.25]), IMAGE, IMAGE),
    "ReLU": (ReLU, VECTOR, VECTOR),
    "LeakyReLU": (lambda: LeakyReLU(0.3), IMAGE, IMAGE),
    "ELU": (lambda: ELU(0.7), VECTOR, VECTOR),
    "GELU": (GELU, VECTOR, VECTOR),
    "Tanh": (Tanh, VECTOR, VECTOR),
    "Sigmoid": (Sigmoid, VECTOR, VECTOR),
    "Softplus": (Softplus, VECTOR, VECTOR),
    "Softmax": (Softmax, VECTOR, VECTOR),
    "Softmax-axis": (lambda: Softmax(axis=1), IMAGE, IMAGE),
    "Sequential": (lambda: Sequential(Dense(3), ReLU(), Dense(2)), VECTOR, (2,)),
    "Sequential-list": (lambda: Sequential([Dense(3), Dense(2)]), VECTOR, (2,)),
    "nested": (nested, IMAGE, (3,)),
    "shared": (shared, VECTOR, (2,)),
    "branched": (Residual, IMAGE, IMAGE),
    "two-branches": (TwoInputs, VECTOR, (6,)),
}  # fmt: skip

CLASSES = {
    name: value
    for name, value in vars(dl.layers).items()
    if name in dl.layers.__all__
    and inspect.isclass(value)
    and issubclass(value, Layer)
    and value is not Layer
}
REQUIRED = {AdaptiveAvgPool2D: (2,),   # arguments without a default
    Dense: (2,), Conv2D: (2, 1), Reshape: ((-1,),), Resize: (2,), Normalize: (0.0, 1.0),
}  # fmt: skip


@pytest.fixture(params=TABLE.values(), ids=TABLE)
def entry(request):
    return request.param


def test_gradients_modes_freezing_and_state(entry):
    make, shape, _ = entry
    check_layer(make(), shape)


def test_output_shape_with_and_without_input_shape(entry, rng):
    make, shape, expected = entry
    x = rng.standard_normal((3, *shape))
    lazy, eager = Sequential(make()), Sequential(make(), input_shape=shape)
    built = {name: value.shape for name, value in eager.state_dict().items()}
    assert not any(part._built for _, part in lazy.named_layers())
    with dl.layers.inference(lazy), dl.layers.inference(eager):
        outputs = lazy(x), eager(x)
    assert outputs[0].shape == outputs[1].shape == (3, *expected)
    assert {name: value.shape for name, value in lazy.state_dict().items()} == built
    np.testing.assert_array_equal(outputs[0].data, outputs[1].data)


@pytest.mark.scenario("N5")
def test_empty_batch(entry):
    make, shape, expected = entry
    model = Sequential(make(), input_shape=shape).eval()
    assert model(np.zeros((0, *shape), np.float32)).shape == (0, *expected)


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: Dense(3), VECTOR, {"weight": (4, 3), "bias": (3,)}),
        (lambda: Dense(3, use_bias=False), VECTOR, {"weight": (4, 3)}),
        (lambda: Conv2D(8, (3, 2)), IMAGE, {"weight": (3, 2, 2, 8), "bias": (8,)}),
        (lambda: Conv2D(8, 3, groups=2, use_bias=False), IMAGE, {"weight": (3, 3, 1, 8)}),
        (BatchNorm, IMAGE, dict.fromkeys(["gamma", "beta", "running_mean", "running_var"], (2,))),
        (Dropout, IMAGE, {}),
    ],
)
def test_parameters_and_buffers(make, shape, expected):
    state = Sequential(("it", make()), input_shape=shape).state_dict()
    assert {name: value.shape for name, value in state.items()} == {f"it.{k}": v for k, v in expected.items()}


def test_every_public_layer_is_in_the_table():
    used = {type(part) for make, _, _ in TABLE.values() for _, part in make().named_layers()}
    assert used >= set(CLASSES.values())
    assert len(CLASSES) >= 21


@pytest.mark.scenario("N32")
@pytest.mark.parametrize("name", CLASSES)
def test_unknown_keyword(name):
    layer = CLASSES[name]
    with pytest.raises(TypeError, match="colour"):
        layer(*REQUIRED.get(layer, ()), colour="red")


@pytest.mark.parametrize("name", CLASSES)
def test_every_layer_takes_a_name(name):
    layer = CLASSES[name]
    assert layer(*REQUIRED.get(layer, ()), name="mine").name == "mine"


# Bad values: the message names the argument, shows the value, and says what is allowed
BAD = {
    "units-0": (lambda: Dense(0), "units", "0", ">= 1"),
    "units-negative": (lambda: Dense(-3), "units", "-3", ">= 1"),
    "units-float": (lambda: Dense(2.0), "units", "2.0", "integer"),
    "units-bool": (lambda: Dense(True), "units", "True", "integer"),
    "units-string": (lambda: Dense("4"), "units", "'4'", "integer"),
    "activation": (lambda: Dense(3, activation="rellu"), "activation", "'rellu'", "relu"),
    "conv-activation": (lambda: Conv2D(3, 3, activation="selu"), "activation", "'selu'", "relu"),
    "filters-0": (lambda: Conv2D(0, 3), "filters", "0", ">= 1"),
    "kernel-0": (lambda: Conv2D(3, 0), "kernel_size", "0", ">= 1"),
    "kernel-three": (lambda: Conv2D(3, (3, 3, 3)), "kernel_size", "(3, 3, 3)", "two"),
    "kernel-float": (lambda: Conv2D(3, 2.5), "kernel_size", "2.5", "integer"),
    "kernel-none": (lambda: Conv2D(3, None), "kernel_size", "None", "integer"),
    "strides-0": (lambda: Conv2D(3, 3, strides=0), "strides", "0", ">= 1"),
    "dilation-0": (lambda: Conv2D(3, 3, dilation=0), "dilation", "0", ">= 1"),
    "groups-0": (lambda: Conv2D(3, 3, groups=0), "groups", "0", ">= 1"),
    "pool-0": (lambda: MaxPool2D(0), "pool_size", "0", ">= 1"),
    "pool-strides": (lambda: AvgPool2D(2, -1), "strides", "-1", ">= 1"),
    "resize-0": (lambda: Resize(0), "size", "0", ">= 1"),
    "dropout-high": (lambda: Dropout(1.5), "rate", "1.5", "between 0 and 1"),
    "dropout-negative": (lambda: Dropout(-0.1), "rate", "-0.1", "between 0 and 1"),
    "dropout-nan": (lambda: Dropout(float("nan")), "rate", "nan", "between 0 and 1"),
    "dropout-string": (lambda: Dropout("half"), "rate", "half", "between 0 and 1"),
    "bn-momentum": (lambda: BatchNorm(momentum=1.5), "momentum", "1.5", "between 0 and 1"),
    "bn-eps": (lambda: BatchNorm(eps=0), "eps", "0", "> 0"),
    "bn-eps-nan": (lambda: BatchNorm(eps=float("nan")), "eps", "nan", "> 0"),
    "normalize-std": (lambda: Normalize(0, (1, 0)), "std", "(1, 0)", "> 0"),
    "reshape-number": (lambda: Reshape(5), "target_shape", "5", "integers"),
    "sequential-class": (lambda: Sequential(Dense), "Sequential", "Dense", "Layer"),
    "sequential-function": (lambda: Sequential(ops.relu), "Sequential", "relu", "Layer"),
    "sequential-shape": (lambda: Sequential(Dense(3), input_shape=4), "input_shape", "4", "(28, 28, 1)"),
    "same-name": (lambda: Sequential(ReLU(name="a"), ReLU(name="a")), "two layers", "'a'", "name"),
    "to-integers": (lambda: Dense(3).to(dtype="int32"), "dtype", "int32", "float"),
    "to-device": (lambda: Dense(3).to("gpu"), "device", "'gpu'", "cuda"),
}  # fmt: skip


@pytest.mark.scenario("B74")
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_arguments(case):
    make, *words = case
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{caught.value!r} does not say {missing}"


@pytest.mark.parametrize("argument", ["kernel_initializer", "bias_initializer"])
@pytest.mark.parametrize(("layer", "numbers", "shape"), [(Dense, (3,), VECTOR), (Conv2D, (3, 1), IMAGE)])
def test_unknown_initializer(layer, numbers, shape, argument):
    with pytest.raises(ValueError, match=r"initializer must be one of .*he_normal.*got 'xavier'"):
        Sequential(layer(*numbers, **{argument: "xavier"}), input_shape=shape)


@pytest.mark.parametrize("value", [np.int64(3), np.int32(3)])
def test_numpy_integers_are_integers(value):
    model = Sequential(
        Conv2D(value, value, strides=value, dilation=value, padding=value),
        MaxPool2D(value, padding=0),
        Flatten(),
        Dense(value),
    )
    assert model(np.zeros((1, 20, 20, 1), np.float32)).shape == (1, 3)


REPRS = {
    "Dense(units=3, use_bias=True)": lambda: Dense(3),
    "Dense(name='head', units=3, activation='relu', use_bias=False)": (
        lambda: Dense(3, "relu", use_bias=False, name="head")),
    "Dropout(rate=0.25)": lambda: Dropout(0.25),
    "ReLU()": ReLU,
    "MaxPool2D(pool_size=(2, 2), strides=(1, 1), padding='same')": lambda: MaxPool2D(2, 1, "same"),
    "BatchNorm(momentum=0.1, eps=1e-05)": BatchNorm,
    "Reshape(target_shape=(2, -1))": lambda: Reshape([2, -1]),
}  # fmt: skip


@pytest.mark.parametrize("text", REPRS)
def test_repr(text):
    assert sorted(re.findall(r"\w+=(?:\([^)]*\)|[^,)]*)|^\w+", repr(REPRS[text]()))) == sorted(
        re.findall(r"\w+=(?:\([^)]*\)|[^,)]*)|^\w+", text)
    )


def test_repr_of_a_built_model_lists_its_layers_without_numbers():
    model = Sequential(Conv2D(2, 3, activation="relu"), Flatten(), Dense(3), input_shape=IMAGE)
    text = repr(model)
    assert text.startswith("Sequential(") and text.count("\n") == 4
    assert all(word in text for word in ("Conv2D(", "Flatten(", "Dense(", "filters=2", "units=3"))
    assert "array" not in text and "training" not in text


# Names, slices, look-up


def test_names_from_the_class():
    model = Sequential(
        Conv2D(2, 3), Conv2D(2, 3), MaxPool2D(), LeakyReLU(), BatchNorm(), GELU(), Conv2D(2, 1)
    )
    assert [layer.name for layer in model] == [
        "conv2d", "conv2d_1", "max_pool2d", "leaky_relu", "batch_norm", "gelu", "conv2d_2",
    ]  # fmt: skip


def test_given_names():
    model = Sequential(("first", Dense(3)), Dense(3, name="dense_1"), Dense(3), Dense(3))
    assert [layer.name for layer in model] == ["first", "dense_1", "dense", "dense_2"]
    model(np.ones((1, 2), np.float32))
    assert list(model.state_dict())[:2] == ["first.weight", "first.bias"]


def test_names_avoid_those_taken():
    assert [x.name for x in Sequential(ReLU(name="relu_1"), ReLU(), ReLU())] == ["relu_1", "relu", "relu_2"]


@pytest.mark.scenario("B73")
def test_looking_up():
    model = Sequential(Dense(3), ReLU(), Dense(2))
    assert model["relu"] is model[1] is model[-2] and len(model) == 3
    assert list(model) == model.layers == [model[0], model[1], model[2]]
    part = model[::2]
    assert isinstance(part, Sequential) and list(part) == [model[0], model[2]]
    assert [layer.name for layer in part] == ["dense", "dense_1"]
    with pytest.raises(KeyError, match=r"no layer 'dens'; there are dense, relu, dense_1"):
        model["dens"]
    with pytest.raises(IndexError):
        model[3]


def test_a_slice_is_the_model_up_to_there(rng):
    model = Sequential(Dense(3), ReLU(), Dense(2))
    x = rng.standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_array_equal(model[2:](model[:2](x)).data, model(x).data)
    assert set(model[:2].state_dict()) == {"dense.weight", "dense.bias"}


def test_append():
    model = Sequential(Dense(3))
    assert model.append(ReLU()).append(("head", Dense(2))) is model
    assert model(np.ones((1, 4), np.float32)).shape == (1, 2) and model[-1].name == "head"


def test_sequential_of_nothing(rng):
    x = rng.standard_normal((2, 3))
    for model in (Sequential(), Sequential([])):
        np.testing.assert_array_equal(model(x).data, x)


# Input types


@pytest.mark.scenario("N1")
def test_uint8_is_divided_by_255(rng):
    pixels = rng.integers(0, 256, (2, 3), dtype=np.uint8)
    model = Sequential(Flatten())
    out = model(pixels)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.data, pixels / 255.0, rtol=1e-6)
    assert Sequential(Flatten())(np.array([[0, 255]], np.uint8)).data.tolist() == [[0.0, 1.0]]


@pytest.mark.scenario("N1")
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint16", "bool"])
def test_other_integers_are_cast_as_they_are(dtype):
    x = np.array([[0, 1, 100]]).astype(dtype)
    out = Flatten()(x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.data, x.astype(np.float32))


def test_pixels_are_divided_once_only():
    """The second layer sees floats, so nothing is divided again."""
    model = Sequential(Flatten(), Sequential(Flatten(), Dense(1, use_bias=False, kernel_initializer="ones")))
    assert model(np.full((1, 2), 255, np.uint8)).item() == 2.0


@pytest.mark.scenario("N2")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_input_is_cast_to_the_parameters(dtype):
    layer = Dense(2)
    assert layer(np.ones((1, 3), dtype)).dtype == np.float32
    assert Sequential(layer).to(dtype="float64")(np.ones((1, 3), dtype)).dtype == np.float64


def test_float64_throughout():
    model = nested().to(dtype=np.float64)
    out = model(np.ones((2, *IMAGE), np.float32))
    assert out.dtype == np.float64
    assert {v.dtype for v in model.state_dict().values()} == {np.dtype(np.float64)}
    out.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert {v.dtype for v in model.to(dtype="float32").state_dict().values()} == {np.dtype(np.float32)}


def test_layers_added_after_to_follow_the_dtype():
    model = Sequential(Dense(3), input_shape=VECTOR).to(dtype="float64")
    model.append(Dense(2))
    assert model(np.ones((1, 4))).dtype == np.float64
    assert model[-1].weight.dtype == np.float64


@pytest.mark.scenario("N4")
def test_input_is_never_written(entry, rng):
    make, shape, _ = entry
    x = rng.standard_normal((3, *shape)).astype(np.float32)
    x.setflags(write=False)
    before = x.copy()
    Sequential(make())(x)
    np.testing.assert_array_equal(x, before)


# Errors say where they come from


@pytest.mark.parametrize(
    ("make", "x", "where", "what"),
    [
        (lambda: Sequential(Dense(3), ("head", Dense(2))), (2, 3, 3), "dense", "Dense: x needs 2 axes"),
        (lambda: Sequential(Flatten(), ("picky", Resize(2))), (2, 3), "picky", "resize"),
        (
            lambda: Sequential(("block", Sequential(("deep", MaxPool2D(9))))),
            (1, 4, 4, 1),
            "deep",
            "does not fit",
        ),
        (lambda: Sequential(("image", Conv2D(3, 3))), (2, 3), "image", "4 axes"),
        (
            lambda: Sequential(("grouped", Conv2D(4, 3, groups=2))),
            (2, 8, 8, 3),
            "grouped",
            "must divide C = 3",
        ),
        (lambda: Sequential(("reshape", Reshape((5, 5)))), (2, 24), "reshape", "(2, 24)"),
    ],
    ids=["dense", "resize", "nested", "conv-build", "groups-build", "reshape"],
)
def test_error_notes_name_the_layer(make, x, where, what):
    with pytest.raises(ValueError, match=re.escape(what)) as caught:
        make()(np.zeros(x, np.float32))
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == 1 and f"'{where}'" in notes[0]


def test_changed_input_size_is_explained():
    model = Sequential(("features", Dense(3)), input_shape=VECTOR)
    with pytest.raises(ShapeError, match=r"I is 5 in x .* but 4 in weight") as caught:
        model(np.zeros((2, 5), np.float32))
    assert "'features'" in caught.value.__notes__[0]


@pytest.mark.scenario("N9")
def test_channels_first_is_recognised():
    model = Sequential(Conv2D(2, 3), input_shape=(8, 8, 3))
    with pytest.raises(ShapeError, match=r"transpose\(0, 2, 3, 1\)"):
        model(np.zeros((2, 3, 8, 8), np.float32))


def test_normalize_refuses_another_number_of_channels():
    layer = Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    for channels in (1, 2):
        with pytest.raises(ValueError, match=r"C|channel"):
            layer(np.zeros((1, 2, 2, channels), np.float32))


@pytest.mark.scenario("N6")
def test_batch_norm_of_one_value_per_channel():
    with pytest.raises(ValueError, match="more than 1 value for each channel"):
        Sequential(BatchNorm())(np.ones((1, 3), np.float32))


def test_keyword_arguments_reach_forward():
    class Scaled(Layer):
        def forward(self, x, factor=1.0):
            return x * factor

    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(Scaled()(x, factor=3.0).data, 3 * x)
    with pytest.raises(TypeError, match="unexpected keyword argument 'by'") as error:
        Scaled(name="mine")(x, by=3.0)
    assert "mine" in error.value.__notes__[0]


def test_forward_must_be_written():
    class Lazy(Layer):
        pass

    with pytest.raises(TypeError, match=r"Lazy must define forward"):
        Lazy()(np.ones(3))


# Values


def test_activation_by_name_is_the_layer(rng):
    x = rng.standard_normal((4, 5)).astype(np.float32)
    for name, layer in {
        "relu": ReLU(), "leaky_relu": LeakyReLU(), "elu": ELU(), "gelu": GELU(), "tanh": Tanh(),
        "sigmoid": Sigmoid(), "softplus": Softplus(), "softmax": Softmax(),
    }.items():  # fmt: skip
        dense = Dense(3, name)
        y = dense(x)
        np.testing.assert_array_equal(
            y.data, layer(ops.dense(x, dense.weight, dense.bias)).data, err_msg=name
        )
        assert not np.allclose(y.data, ops.dense(x, dense.weight, dense.bias).data), name


@pytest.mark.scenario("N15")
@pytest.mark.parametrize("shape", [(8, 3), (4, 2, 5, 3)])
def test_batch_norm_running_averages(rng, shape):
    layer = BatchNorm(momentum=0.25)
    x = rng.standard_normal(shape).astype(np.float32) * 3 + 1
    layer(x)
    rows = x.reshape(-1, 3)
    np.testing.assert_allclose(layer.running_mean, 0.25 * rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * rows.var(0, ddof=1), rtol=1e-5)


@pytest.mark.scenario("N15")
def test_batch_norm_in_inference_uses_and_keeps_them(rng):
    layer = BatchNorm()
    x = rng.standard_normal((8, 3)).astype(np.float32)
    layer(x)
    mean, var = layer.running_mean.copy(), layer.running_var.copy()
    layer.eval()
    y = layer(x)
    np.testing.assert_allclose(y.data, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(layer.running_mean, mean)
    np.testing.assert_array_equal(layer.running_var, var)


@pytest.mark.scenario("N16")
def test_dropout_drops_anew_at_each_call_in_training_only():
    layer, x = Dropout(0.5), np.ones((50, 50), np.float32)
    first, second = layer(x).data, layer(x).data
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {0.0, 2.0} and 0.4 < (first == 0).mean() < 0.6
    np.testing.assert_array_equal(layer.eval()(x).data, x)


def test_two_dropouts_of_a_model_differ():
    a, b = Dropout(0.5), Dropout(0.5)
    Sequential(a, b)(np.ones((20, 20), np.float32))
    x = np.ones((20, 20), np.float32)
    for layer, stream in ((a, "a"), (b, "b")):
        layer.start_step(seed=1, stream=stream, step=7)
    assert not np.array_equal(a(x).data, b(x).data)
    a.start_step(seed=1, stream="a", step=7)
    before = a(x).data
    a.start_step(seed=1, stream="a", step=7)
    np.testing.assert_array_equal(a(x).data, before)


def test_a_refused_first_input_leaves_no_parameters():
    layer = Dense(4)
    with pytest.raises(dl.ShapeError, match=r"put Flatten\(\) before it") as caught:
        layer(np.ones((2, 5, 5, 3), np.float32))
    assert "Dense(units=4" in caught.value.__notes__[0]
    assert layer.parameters() == []
    assert layer(np.ones((2, 75), np.float32)).shape == (2, 4)
