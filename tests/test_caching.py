"""Features of frozen layers, and training on them instead of the data."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import caching as module
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU
from minidl.layers.sequential import Sequential


def model(*, dropout=0.0, frozen=4, **freezing):
    parts = [
        Conv2D(4, 3, activation="relu", name="conv"), BatchNorm(name="norm"), *([Dropout(dropout, name="drop")] if dropout else []),
        MaxPool2D(2), Flatten(), Dense(8, "relu", name="fc"), Dropout(0.5), Dense(3, name="head"),
    ]  # fmt: skip
    result = Sequential(parts, input_shape=(8, 8, 1), seed=1)
    if frozen:
        result[:frozen].freeze(**freezing)
    return result


def still(net):
    """Parameters that are not trained, in layers that are not frozen."""
    for parameter in net.parameters():
        parameter.requires_grad = False
    return net


@pytest.fixture
def data(rng):
    x = rng.integers(0, 256, (50, 8, 8, 1), np.uint8)
    return x, rng.integers(0, 3, 50)


def test_prefix():
    assert module.frozen_prefix(model()) == 4
    assert module.frozen_prefix(model(frozen=2)) == 4  # pooling and flattening come along
    assert module.frozen_prefix(model(frozen=5)) == 5  # the dropout that follows does not
    assert module.frozen_prefix(Sequential(model(), Dense(2), input_shape=(8, 8, 1))[:1].freeze()[0][:4]) == 4
    assert module.frozen_prefix(model(dropout=0.1, frozen=5)) == 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: model(frozen=0), "'conv' is trained"),
        (
            lambda: Sequential(Dropout(0.1), Dense(2), input_shape=(3,)).freeze(),
            "'dropout' draws random numbers",
        ),
        (
            lambda: Sequential(BatchNorm(), input_shape=(3,)).freeze(batch_norm="batch"),
            "uses the statistics of each batch",
        ),
        (lambda: still(Sequential(BatchNorm(), input_shape=(3,))), "uses the statistics of each batch"),
        (lambda: Sequential(Flatten(), ReLU(), input_shape=(3,)), "none of them has parameters"),
        (lambda: Dense(3), "in a Sequential, not in a Dense"),
    ],
)
def test_what_stands_in_the_way(make, reason):
    with pytest.raises(ValueError, match=reason):
        module.frozen_prefix(make())


def test_features_are_the_outputs_of_the_first_layers(data):
    net = model()
    expected = dl.predict(net[:4], data[0])
    for upto in (None, 3, -4, "flatten", net[3]):
        got = dl.features(net, data[0], upto, batch_size=7)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert net[6].training


def test_features_beside_the_memory(data, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "IN_MEMORY", 100)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    got = dl.features(model(), data[0])
    assert isinstance(got, np.memmap)
    np.testing.assert_array_equal(got, dl.features(model(), data[0]))
    assert not list((tmp_path / "cache").iterdir())  # the file has no name


@pytest.mark.parametrize("upto", ["none", 8, -9])
def test_no_such_layer(upto, data):
    with pytest.raises(ValueError, match=r"no layer 'none'; there are conv|but there are 7 layers"):
        dl.features(model(), data[0], upto)


def train(data, cache, **options):
    net = model()
    optimizer = dl.optim.Adam(net, 0.01)
    options = {"validation_data": data, "verbose": 0} | options
    history = dl.fit(
        net, *data, epochs=4, batch_size=16, optimizer=optimizer, seed=3, cache_frozen=cache, **options
    )
    return net, history.history


def test_training_on_features_equals_training(data):
    (a, first), (b, second) = (train(data, cache) for cache in (False, True))
    for key, values in first.items():
        np.testing.assert_allclose(second[key], values, rtol=1e-4, err_msg=key)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-5)
    assert not np.array_equal(a["head"].weight.data, model()["head"].weight.data)


def test_one_line_says_what_it_saves(data, capsys):
    train(data, True, verbose=1)
    assert "The first 4 layers are frozen: their features took" in capsys.readouterr().out


def test_no_augmentation(data):
    with pytest.raises(ValueError, match="sees each sample once, so augment must be None"):
        train(data, True, augment=lambda x, rng: x)


def test_frozen_batch_norm_of_older_keras(data):
    x = data[0][:16]
    averages = {}
    for mode in ("inference", "batch", "update"):
        net = model(batch_norm=mode).train()
        before = net["norm"].running_mean.copy()
        outputs = net[:2](x).data
        averages[mode] = np.array_equal(before, net["norm"].running_mean), outputs
        assert not any(p.requires_grad for p in net[:2].parameters())
    assert [same for same, _ in averages.values()] == [True, True, False]
    np.testing.assert_array_equal(averages["batch"][1], averages["update"][1])
    assert not np.allclose(averages["batch"][1], averages["inference"][1])
    with pytest.raises(ValueError, match="'inference', 'batch' or 'update', got 'keras'"):
        model(batch_norm="keras")


def test_freezing_by_pattern():
    net = model(frozen=0).freeze("conv", "f[a-z]")
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
    net.unfreeze("fc")
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["conv.weight", "conv.bias"]
    with pytest.raises(ValueError, match="no layer matches 'block1'; there are conv, norm"):
        net.freeze("block1")


def test_freezing_by_pattern_reaches_below():
    body = Sequential(Dense(2, name="a"), Dense(2, name="b"), name="body")
    net = Sequential(body, Dense(2, name="head"), input_shape=(2,)).freeze("body")
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    net.unfreeze("body.b")
    assert net.count_parameters() == (12, 6)
