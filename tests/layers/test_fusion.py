"""Layers that are computed together, or in another order: nothing but the work may change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl import kernels
from minidl.autograd import Function
from minidl.layers import (
    ELU,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Sequential,
)
from minidl.shapes import ShapeError


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


# Between a convolution and its activation, in training too


class OneByOne(Layer):
    """The same layers in a loop of one's own."""

    def __init__(self, layers):
        self.layers = list(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def applied(monkeypatch):
    """Names of the operations, in the order in which they were applied."""
    seen = []
    call = Function.__call__
    monkeypatch.setattr(
        Function, "__call__", lambda self, *inputs: (seen.append(type(self).__name__), call(self, *inputs))[1]
    )
    return seen


def convolutional(*layers, size=12):
    return Sequential(*layers, input_shape=(size, size, 3)).to(dtype="float64")


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Conv2D(4, 3, activation="relu"), MaxPool2D(2)],
        lambda: [Conv2D(4, 3, activation="leaky_relu"), MaxPool2D(3, strides=2, padding=1)],
        lambda: [Conv2D(4, 3, use_bias=False, padding="same"), MaxPool2D(2, padding="same")],
        lambda: [
            Conv2D(6, 3, strides=2, dilation=2),
            MaxPool2D((2, 1)),
            ReLU(),
            Conv2D(2, 2),
            MaxPool2D((1, 2)),
        ],
        lambda: [Conv2D(4, 3, activation="relu"), MaxPool2D(2), MaxPool2D(2)],
        lambda: [
            Conv2D(2, 5, activation="relu"),
            MaxPool2D(2),
            BatchNorm(),
            Conv2D(2, 3),
            ReLU(),
            MaxPool2D(1),
        ],
    ],
)
def test_results_and_gradients_of_pooling_in_between(layers, applied):
    made = convolutional(*layers())
    x = dl.Tensor(np.random.default_rng(1).normal(size=(3, 12, 12, 3)), requires_grad=True)
    results = []
    for model in (made, OneByOne(made)):
        applied.clear()
        y = model(x)
        x.grad = None
        for parameter in made.parameters():
            parameter.grad = None
        (y * np.random.default_rng(2).normal(size=y.shape)).sum().backward()
        results.append([y.data, x.grad, *[parameter.grad for parameter in made.parameters()]])
        assert ("PooledConv2D" in applied) == (model is made)
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    with dl.no_grad():
        made.eval()
        np.testing.assert_allclose(made(x).data, OneByOne(made)(x).data, rtol=1e-9, atol=1e-9)


def test_what_is_not_finite_arrives_through_both():
    made = convolutional(Conv2D(4, 1, activation="relu"), MaxPool2D(2))
    x = np.random.default_rng(0).normal(size=(1, 12, 12, 3))
    x[0, 0, 0], x[0, 5, 5], x[0, 9, 9] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(made(x).data, OneByOne(made)(x).data)


class Own(Conv2D):
    """May do anything in `forward`."""


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Own(4, 3), MaxPool2D(2)],
        lambda: [Conv2D(4, 3, activation="tanh"), MaxPool2D(2)],
        lambda: [Conv2D(4, 3), AvgPool2D(2)],
        lambda: [Conv2D(6, 3, groups=3), MaxPool2D(2)],
        lambda: [Conv2D(4, 3), ReLU(), MaxPool2D(2)],
    ],
    ids=["subclass", "tanh", "average", "groups", "layer-between"],
)
def test_what_is_left_as_it_is(layers, applied):
    convolutional(*layers())(np.zeros((1, 12, 12, 3)))
    assert "PooledConv2D" not in applied


@pytest.mark.parametrize("watched", [0, 1])
def test_who_watches_sees_each_layer(watched, applied):
    made = convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(2))
    seen = []
    made[watched]._watch = lambda layer, y: seen.append(y.shape)
    made(np.zeros((1, 12, 12, 3)))
    assert seen == [[(1, 10, 10, 4)], [(1, 5, 5, 4)]][watched]
    assert "PooledConv2D" not in applied


def test_who_watches_operations_sees_each(monkeypatch, applied):
    made = convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(2))
    made(np.zeros((1, 12, 12, 3)))
    assert applied.count("PooledConv2D") == 1
    monkeypatch.setattr(Function, "watch", lambda *arguments: None)
    made(np.zeros((1, 12, 12, 3)))
    assert applied.count("PooledConv2D") == 1


def test_a_change_of_the_result_is_noticed():
    made = convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(2))
    y = made(np.zeros((1, 12, 12, 3)))
    y.data[...] = 1
    with pytest.raises(RuntimeError, match="they were changed since"):
        y.sum().backward()


@pytest.mark.parametrize("layers", [[], [MaxPool2D(2)]], ids=["alone", "pooled"])
def test_a_retained_graph_is_gone_through_twice(layers):
    made = convolutional(Conv2D(4, 3, activation="relu"), *layers)
    loss = made(np.random.default_rng(0).normal(size=(2, 12, 12, 3))).sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.copy() for parameter in made.parameters()]
    loss.backward()
    for parameter, grad in zip(made.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * grad, rtol=1e-12)


def test_a_result_is_dropped_on_the_way_back(monkeypatch):
    made, seen = convolutional(Conv2D(4, 3, activation="relu")), []
    y = made(np.ones((2, 12, 12, 3)))
    node, gradients = y.creator, y.creator.gradients
    node.gradients = lambda *arguments: (seen.append(node.y), gradients(*arguments))[1]
    y.sum().backward()
    assert seen == [None]


def test_less_is_kept_for_the_way_back():
    made = convolutional(Conv2D(16, 3, activation="relu"), MaxPool2D(2), size=34)
    y = made(np.zeros((4, 34, 34, 3)))
    kept = [
        v for v in (*vars(y.creator).values(), *vars(y.creator.pool).values()) if isinstance(v, np.ndarray)
    ]
    assert max(v.nbytes for v in kept) == y.data.nbytes


def test_the_first_call_is_layer_by_layer():
    """So that each knows its shape, and an error names the layer."""
    made = convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(2))
    assert made[1]._input_shapes == [(10, 10, 4)]
    with pytest.raises(ShapeError) as error:
        convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(20))
    assert "MaxPool2D" in error.value.__notes__[0]


def test_a_window_larger_than_the_image_is_refused():
    made = convolutional(Conv2D(4, 3, activation="relu"), MaxPool2D(6))
    with pytest.raises(ShapeError, match="max_pool2d"):
        made(np.zeros((1, 7, 7, 3)))


# Batch norm, and ELU, with the dense layer before them, in inference


class OwnDense(Dense):
    """May do anything in `forward`."""


def dense_chain(*layers, dtype="float32"):
    made = Sequential(*layers, input_shape=(20,)).to(dtype=dtype).eval()
    rng = np.random.default_rng(0)
    for layer in made:
        if isinstance(layer, BatchNorm):
            shape = layer.running_mean.shape
            layer.running_mean[:], layer.running_var[:] = rng.normal(size=shape), rng.uniform(0.5, 2, shape)
            layer.gamma.data, layer.beta.data = rng.normal(size=shape), rng.normal(size=shape)
        elif isinstance(layer, Dense) and layer.bias is not None:
            layer.bias.data = rng.normal(size=layer.units)
    return made


NORMALISED = [
    (lambda: [Dense(7), BatchNorm()], 1),
    (lambda: [Dense(7, use_bias=False), BatchNorm(eps=0.1), ELU(0.5)], 1),
    (lambda: [Dense(7), BatchNorm(), BatchNorm(), ELU()], 1),
    (lambda: [Dense(7), BatchNorm(), ELU(), ELU()], 1),
    (lambda: [Dense(7), BatchNorm(), ReLU()], 1),
    (lambda: [Dense(70), BatchNorm(), ELU(), Dense(90), BatchNorm(), ELU(0.0), Dense(3)], 1),
    (lambda: [Dense(70), BatchNorm(), Dense(90), ELU(), Dense(80), BatchNorm(), Dense(1), Dense(2)], 2),
    (lambda: [Dense(70), BatchNorm(), Dropout(0.5), Dense(90, use_bias=False), Dropout(0.5), Dense(3)], 1),
    (lambda: [Dense(70), BatchNorm(), Dense(90, activation="relu"), Dense(80), BatchNorm(), OwnDense(3)], 2),
    (lambda: [Dense(300), BatchNorm(), ELU(), Dense(300), BatchNorm(), Dense(3)], 1),
]


@pytest.mark.parametrize("rows", [1, 50, 2000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layers", "together"), NORMALISED)
def test_batch_norm_with_a_dense_layer(layers, together, dtype, rows, applied):
    made = dense_chain(*layers(), dtype=dtype)
    x = np.random.default_rng(1).normal(size=(rows, 20)).astype(dtype)
    applied.clear()
    with dl.no_grad():
        got = made(x).data
        assert applied.count("DenseLayers") == together
        expected = OneByOne(made)(x).data
    assert got.dtype == expected.dtype
    limit = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(got, expected, rtol=limit, atol=limit * abs(expected).max())


def test_a_whole_network_is_one_operation(applied):
    made = dense_chain(
        Dense(70), BatchNorm(), ELU(), Dropout(0.1), Dense(90), BatchNorm(), Dropout(0.1), Dense(3)
    )
    applied.clear()
    with dl.no_grad():
        made(np.ones((50, 20), np.float32))
    assert applied == ["DenseLayers"]


def test_dropout_that_drops_is_not_left_out(applied):
    made = dense_chain(Dense(70), BatchNorm(), Dropout(0.5), Dense(90))
    made[2].train()
    applied.clear()
    with dl.no_grad():
        made(np.ones((50, 20), np.float32))
    assert applied == ["DenseLayers", "Dropout", "Dense"]


@pytest.mark.parametrize("place", range(5))
def test_who_watches_in_a_chain_sees_every_call(place):
    made, seen = dense_chain(Dense(70), BatchNorm(), Dropout(0.5), Dense(90), Dense(3)), []
    made[place]._watch = lambda layer, y: seen.append(y.data)
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    with dl.no_grad():
        made(x)
        expected = dl.Tensor(x)
        for layer in made.layers[: place + 1]:
            expected = layer.forward(expected)
    np.testing.assert_allclose(seen[0], expected.data, rtol=1e-4, atol=1e-3)


def test_layers_of_another_precision_are_not_joined(applied):
    made = dense_chain(Dense(70), BatchNorm(), Dense(90), BatchNorm())
    made[2:].to(dtype="float64")
    x = np.ones((50, 20), np.float32)
    with dl.no_grad():
        assert made(x).dtype == np.float64
        assert applied.count("DenseLayers") == 2
        made[:3].to(dtype="float32")
        assert made(x).dtype == np.float64
    assert applied.count("DenseLayers") == 3


@pytest.mark.parametrize(("place", "own"), [(1, BatchNorm()), (2, Dense(5)), (3, BatchNorm())])
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_that_does_not_fit_is_named(place, own, training):
    made = dense_chain(Dense(70), BatchNorm(), Dense(90), BatchNorm()).train(training)
    own.train(training)(np.ones((5, 60), np.float32))
    own.name, made.layers[place] = "the new one", own
    with dl.no_grad(), pytest.raises(ShapeError) as error:
        made(np.ones((50, 20), np.float32))
    assert "the new one" in error.value.__notes__[0]


def with_graph(made, x):
    made(x)


def in_training(made, x):
    with dl.no_grad():
        made.train()(x)


def of_the_batch(made, x):
    with dl.no_grad():
        made.freeze(batch_norm="batch").train()(x)


def watched(made, x):
    made[1]._watch = lambda layer, y: None
    with dl.no_grad():
        made(x)


@pytest.mark.parametrize("way", [with_graph, in_training, of_the_batch, watched])
def test_batch_norm_is_left_alone(way, applied):
    way(dense_chain(Dense(7), BatchNorm(), ELU()), np.ones((50, 20), np.float32))
    assert "DenseLayers" not in applied


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [OwnDense(7), BatchNorm()],
        lambda: [Dense(7), Counted()],
        lambda: [Dense(7, activation="relu"), BatchNorm()],
        lambda: [Dense(7, activation="tanh"), BatchNorm()],
        lambda: [Dense(7), ELU(), BatchNorm()],
    ],
    ids=["subclass", "subclass-of-norm", "relu", "tanh", "elu-first"],
)
def test_dense_layers_that_are_left_alone(layers, applied):
    made, x = dense_chain(*layers()), np.ones((50, 20), np.float32)
    with dl.no_grad():
        made(x)
    assert "DenseLayers" not in applied


@pytest.mark.parametrize("place", [0, 1, 2])
def test_who_watches_a_layer_of_three_sees_its_own_output(place):
    made, seen = dense_chain(Dense(7), BatchNorm(), ELU()), []
    made[place]._watch = lambda layer, y: seen.append(y.data)
    x = np.ones((5, 20), np.float32)
    with dl.no_grad():
        made(x)
        expected = x
        for layer in made.layers[: place + 1]:
            expected = layer.forward(dl.Tensor(expected)).data
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5, atol=1e-5)


def test_a_wrong_width_names_the_layer():
    made = dense_chain(Dense(7), BatchNorm())
    with dl.no_grad(), pytest.raises(ShapeError, match="dense: I is") as error:
        made(np.ones((5, 21), np.float32))
    assert "Dense" in error.value.__notes__[0]


# And dropout after them, in training


class OwnDropout(Dropout):
    """May do anything in `forward`."""


IN_TRAINING = [
    (lambda: [Dense(7), BatchNorm(), ELU(), Dropout(0.3)], 1),
    (lambda: [Dense(7, use_bias=False), BatchNorm(eps=0.1, momentum=0.3), Dropout(0.0), ELU(0.5)], 1),
    (lambda: [Dense(70), BatchNorm(), ELU(-0.5), Dropout(0.9), Dense(90), BatchNorm(), Dense(3)], 2),
    (lambda: [Dense(7), BatchNorm(), BatchNorm(), ELU()], 1),
    (lambda: [Dense(7), BatchNorm(), Dropout(0.5), Dropout(0.5)], 1),
    (lambda: [Dense(7), BatchNorm(), ELU(), Dropout(1.0)], 1),
]


@pytest.fixture
def fast():
    pytest.importorskip("numba", reason="these are computed together by twins: pip install 'minidl[fast]'")
    from minidl.kernels.cpu import blas

    if not blas.FUNCTIONS or kernels.of(np) is kernels.reference:
        pytest.skip("the twins are not used")


def trained(model, made, x, weights):
    """(result, gradient of x, then of each parameter, running averages) of a step; the averages stay as they were."""
    for parameter in made.parameters():
        parameter.grad = None
    for layer in made:
        if isinstance(layer, Dropout):
            layer.start_step(3, "here", 5)
    before = made.state_dict()
    x = dl.Tensor(x, requires_grad=True)
    y = model(x)
    (y * weights).sum().backward()
    norms = [layer for layer in made if isinstance(layer, BatchNorm)]
    averages = [a.copy() for layer in norms for a in (layer.running_mean, layer.running_var)]
    made.load_state_dict(before)
    return [y.data, x.grad, *[p.grad for p in made.parameters()], *averages]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("freeze", [None, "*dense*", "*batch_norm*"])
@pytest.mark.parametrize(("layers", "together"), IN_TRAINING)
def test_a_block_in_training(layers, together, freeze, applied):
    made = dense_chain(*layers()).train()
    if freeze is not None:
        made.freeze(freeze, batch_norm="batch")
    x, weights = (np.random.default_rng(i).normal(size=(50, 20)).astype(np.float32) for i in range(2))
    weights = weights[:, : made(x).shape[1]]
    applied.clear()
    got = trained(made, made, x, weights)
    assert applied.count("DenseBlock") == together
    expected = trained(OneByOne(made), made, x, weights)
    assert applied.count("DenseBlock") == together
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("fast")
def test_the_bias_before_batch_norm_has_no_gradient():
    made = dense_chain(Dense(7), BatchNorm()).train()
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    (made(x) * x[:, :7]).sum().backward()
    np.testing.assert_array_equal(made[0].bias.grad, 0)
    optimizer = dl.optim.SGD(made, lr=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        made[0].bias.grad_slot[:] = np.nan
        (made(x) * x[:, :7]).sum().backward()
        np.testing.assert_array_equal(made[0].bias.grad, 0)
        assert made[0].bias.grad is made[0].bias.grad_slot
        optimizer.step()


@pytest.mark.usefixtures("fast")
def test_a_block_is_gone_through_twice():
    made = dense_chain(Dense(7), BatchNorm(), ELU(), Dropout(0.2)).train()
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    loss = (made(x) * x[:, :7]).sum()
    loss.backward(retain_graph=True)
    once = [parameter.grad.copy() for parameter in made.parameters()]
    loss.backward()
    for parameter, grad in zip(made.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * grad)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("name", ["weight", "gamma"])
def test_a_change_of_what_a_block_saved_is_noticed(name):
    made = dense_chain(Dense(7), BatchNorm(), ELU()).train()
    loss = made(np.ones((50, 20), np.float32)).sum()
    getattr(made[0] if name == "weight" else made[1], name).data[...] += 1
    with pytest.raises(RuntimeError, match="they were changed since"):
        loss.backward()


def few_rows(made, x):
    made(x[:31])


def float64(made, x):
    made.to(dtype="float64")(x)


def frozen_norm(made, x):
    made.freeze().train()(dl.Tensor(x, requires_grad=True))


def without_graph(made, x):
    with dl.no_grad():
        made(x)


def plain_kernels(made, x):
    kernels.use("reference")
    try:
        made(x)
    finally:
        kernels.use("auto")


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("way", [few_rows, float64, frozen_norm, without_graph, plain_kernels])
def test_where_a_block_does_not_pay(way, applied):
    made = dense_chain(Dense(7), BatchNorm(), ELU(), Dropout(0.5)).train()
    applied.clear()
    way(made, np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32))
    assert [name for name in applied if name != "Cast"] == [
        "Dense",
        "BatchNormInference" if way is frozen_norm else "BatchNorm",
        "ELU",
        "Dropout",
    ]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (lambda: [Dense(7), BatchNorm(), ELU(), OwnDropout(0.5)], ["DenseBlock", "Dropout"]),
        (lambda: [OwnDense(7), BatchNorm(), ELU()], ["Dense", "BatchNorm", "ELU"]),
        (lambda: [Dense(7), ELU(), BatchNorm()], ["Dense", "ELU", "BatchNorm"]),
        (lambda: [Dense(7), Dropout(0.5), BatchNorm()], ["Dense", "Dropout", "BatchNorm"]),
    ],
)
def test_layers_beside_a_block(layers, names, applied):
    made = dense_chain(*layers()).train()
    applied.clear()
    made(np.ones((50, 20), np.float32))
    assert applied == names


@pytest.mark.usefixtures("fast")
def test_who_watches_the_last_layer_of_a_block_sees_it(applied):
    made = dense_chain(Dense(7), BatchNorm(), ELU(), Dropout(0.5)).train()
    seen = []
    made[3]._watch = lambda layer, y: seen.append(y.data)
    applied.clear()
    y = made(np.ones((50, 20), np.float32))
    assert seen[0] is y.data
    assert applied == ["DenseBlock", "Dropout"]
