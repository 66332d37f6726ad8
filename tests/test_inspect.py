"""The summary table."""

from __future__ import annotations

import re

import numpy as np
import pytest

import minidl as dl
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, ReLU, Sequential


def make_model(**options):
    return Sequential(
        Conv2D(8, 3, activation="relu"),
        BatchNorm(),
        MaxPool2D(),
        Dropout(0.5),
        Flatten(),
        Dense(10),
        **options,
    )


TEXT = """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━┓
┃ Layer (type)                  ┃ Output Shape      ┃ Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━┩
│ conv2d (Conv2D)               │ (None, 26, 26, 8) │      80 │
├───────────────────────────────┼───────────────────┼─────────┤
│ batch_norm (BatchNorm)        │ (None, 26, 26, 8) │      32 │
├───────────────────────────────┼───────────────────┼─────────┤
│ max_pool2d (MaxPool2D)        │ (None, 13, 13, 8) │       0 │
├───────────────────────────────┼───────────────────┼─────────┤
│ dropout (Dropout)             │ (None, 13, 13, 8) │       0 │
├───────────────────────────────┼───────────────────┼─────────┤
│ flatten (Flatten)             │ (None, 1352)      │       0 │
├───────────────────────────────┼───────────────────┼─────────┤
│ dense (Dense)                 │ (None, 10)        │  13,530 │
└───────────────────────────────┴───────────────────┴─────────┘
 Total params: 13,642 (53.29 KB)
 Trainable params: 13,626 (53.23 KB)
 Non-trainable params: 16 (64.00 B)"""


def test_text():
    assert dl.summary(make_model(input_shape=(28, 28, 1)), width=63) == TEXT


def totals(text):
    return [int(n.replace(",", "")) for n in re.findall(r"params: ([\d,]+) ", text)]


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize("width", [40, 63, 80, 120])
def test_width(width):
    model = make_model(input_shape=(28, 28, 1))
    model[0].freeze()
    text = dl.summary(model, width=width)
    table = [line for line in text.splitlines() if line[0] in "┏┃┡│├└"]
    assert len({len(line) for line in table}) == 1
    assert len(table[0]) == max(width, len(table[0]) if width == 40 else 0)
    assert totals(text) == [13_642, 13_546, 96]


def test_long_names_take_several_lines():
    name = "a_very_long_name_" * 4
    model = Sequential(Dense(2, name=name), input_shape=(3,))
    text = dl.summary(model, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "".join(row[0] for row in rows(text)).replace(" ", "") == f"{name}(Dense)"
    assert [row[2] for row in rows(text) if row[2]] == ["8"]


def test_frozen():
    model = make_model(input_shape=(28, 28, 1))
    model[:3].freeze()
    text = dl.summary(model)
    assert [row[2] for row in rows(text)] == ["80 frozen", "32 frozen", "0", "0", "0", "13,530"]
    assert totals(text) == [13_642, 13_530, 112]
    assert totals(dl.summary(model.unfreeze())) == [13_642, 13_626, 16]


def test_nested():
    model = Sequential(
        ("body", Sequential(Dense(3), ("inner", Sequential(ReLU(), Dense(4))))), Dense(2), input_shape=(5,)
    )
    assert [row[:2] for row in rows(dl.summary(model))] == [
        ["body.dense (Dense)", "(None, 3)"],
        ["body.inner.relu (ReLU)", "(None, 3)"],
        ["body.inner.dense (Dense)", "(None, 4)"],
        ["dense (Dense)", "(None, 2)"],
    ]


class Branched(Layer):
    def __init__(self):
        super().__init__(name="twins")
        self.left, self.right, self.unused = Dense(3), [Dense(3), ReLU()], Dense(7)
        self.scale = dl.Parameter(np.ones(3, np.float32))

    def forward(self, a, b):
        return self.scale * self.left(a) + self.right[1](self.right[0](b))


def test_branched_with_two_inputs():
    model = Branched()
    model(np.ones((2, 4), np.float32), np.ones((2, 5), np.float32))
    text = dl.summary(model)
    assert text.startswith('Model: "twins"')
    assert rows(text) == [
        ["twins (Branched)", "(None, 3)", "3"],
        ["left (Dense)", "(None, 3)", "15"],
        ["right.0 (Dense)", "(None, 3)", "18"],
        ["right.1 (ReLU)", "(None, 3)", "0"],
        ["unused (Dense)", "?", "0"],
    ]
    assert totals(text) == [36, 36, 0]


def test_a_shared_layer_counts_once():
    dense = Dense(3)
    model = Sequential(dense, Sequential(dense, ReLU()), input_shape=(3,))
    text = dl.summary(model)
    assert [row[0] for row in rows(text)].count("dense (Dense)") == 1 and totals(text) == [12, 12, 0]


def test_unbuilt():
    model = make_model()
    with pytest.raises(ValueError, match=r"not been built; give input_shape=\(H, W, C\)"):
        dl.summary(model)
    assert dl.summary(model, input_shape=(28, 28, 1), width=63) == TEXT
    assert dl.summary(model, width=63) == TEXT  # now it is built


def test_a_single_layer():
    layer = Dense(4)
    layer(np.ones((1, 2), np.float32))
    assert rows(dl.summary(layer)) == [["dense (Dense)", "(None, 4)", "12"]]


def test_looking_changes_nothing(rng):
    model = make_model(input_shape=(28, 28, 1)).train()
    model["dropout"].eval()
    before, modes = model.state_dict(), [layer.training for layer in model]
    x = rng.standard_normal((2, 28, 28, 1)).astype(np.float32)
    model["dropout"].start_step(0, "dropout", 0)
    model["dropout"].train()
    expected = model(x).data
    model.load_state_dict(before)
    model["dropout"].eval()
    dl.summary(model)
    assert [layer.training for layer in model] == modes
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    model["dropout"].train().start_step(0, "dropout", 0)
    np.testing.assert_array_equal(model(x).data, expected)


def test_an_error_inside_leaves_the_model_usable():
    model = make_model(input_shape=(28, 28, 1))
    with pytest.raises(dl.ShapeError):
        dl.summary(model, input_shape=(28, 28, 3))
    assert model.training and all(layer._watch is None for layer in model)


@pytest.mark.parametrize(
    ("units", "size"), [(1, "8.00 B"), (1000, "7.81 KB"), (1_000_000, "7.63 MB"), (150_000_000, "1.12 GB")]
)
def test_units_of_memory(units, size, monkeypatch):
    def small(shape, rng, dtype, fan_in=None):
        return np.broadcast_to(np.zeros(1, dtype), shape)

    layer = Dense(units, kernel_initializer=small, bias_initializer=small)
    layer._name_descendants()
    layer.build((1, 1))
    layer._built = True
    monkeypatch.setattr(layer, "forward", lambda x: x)
    assert f"Total params: {2 * units:,} ({size})" in dl.summary(layer, input_shape=(1,))
