"""Cross-entropy of logits as a diverging model gives them, and labels of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import Tensor, ops

EXTREME = [1e4, -1e4, 1e30, -1e30, 0.0, 1.0, -1.0, 88.0, -104.0, 1e-30, -np.inf]


def exact(logits, labels):
    """Row by row with Python's floats: the loss, and the gradient."""
    losses, grads = [], []
    for row, label in zip(logits.astype(float), labels, strict=True):
        weights = np.exp(row - row.max())
        p = weights / weights.sum()
        losses.append(np.log(weights.sum()) - (row[label] - row.max()))
        grads.append((p - np.eye(len(row))[label]) / len(logits))
    return float(np.mean(losses)), np.array(grads)


@pytest.mark.scenario("N10")
@pytest.mark.parametrize("one_hot", [False, True])
@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_n10_extreme_logits(one_hot, rows, classes, data):
    """Finite whenever the label's own logit is, and what float64 gives."""
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)))
    numbers = data.draw(st.lists(st.sampled_from(EXTREME), min_size=rows * classes, max_size=rows * classes))
    logits = np.array(numbers, np.float32).reshape(rows, classes)
    at = np.arange(rows), labels
    logits[at] = np.where(np.isfinite(logits[at]), logits[at], 0)
    x = Tensor(logits, requires_grad=True)
    loss = ops.cross_entropy(x, np.eye(classes, dtype=np.float32)[labels] if one_hot else labels)
    loss.backward()
    expected, grad = exact(logits, labels)
    assert np.isfinite(loss.item()) and np.isfinite(x.grad).all()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad, grad, rtol=1e-4, atol=1e-7)


@pytest.mark.scenario("N10")
@pytest.mark.parametrize("value", [0.0, 1e4, -1e4, 1e30])
def test_n10_equal_logits(value):
    x = Tensor(np.full((3, 4), value, np.float32), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([0, 1, 3]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(4))
    assert x.grad.sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.scenario("N10")
def test_n10_a_certain_mistake_is_infinite_and_its_gradient_is_not():
    x = Tensor(np.array([[0.0, -np.inf]], np.float32), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([1]))
    loss.backward()
    assert loss.item() == np.inf
    np.testing.assert_array_equal(x.grad, [[1, -1]])


@pytest.mark.scenario("N28")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64])
def test_n28_small_label_types(dtype, rng):
    """Up to the largest label of the type, with more classes than it can count."""
    classes = 300
    labels = np.array([0, 1, min(np.iinfo(dtype).max, classes - 1)], dtype)
    logits = rng.normal(size=(3, classes))
    expected = exact(logits, labels.astype(int))[0]
    assert ops.cross_entropy(logits, labels).item() == pytest.approx(expected)
    assert ops.cross_entropy(logits, labels, label_smoothing=1e-12).item() == pytest.approx(expected)


@pytest.mark.scenario("N12")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, -1]), "in 0..2"), (np.array([0, 3]), "got 3 at position 1"), (np.array([0, 255], np.uint8), "got 255"),
        (np.array([0.0, 1.0]), "must be integers, got float64"), (np.array([True, False]), "must be integers, got bool"),
        (np.array([[0], [1]]), r"labels of shape \(2,\)"), (np.eye(4)[:2], r"labels of shape \(2,\)"),
        (np.array(["a", "b"]), "must be integers"), (np.array([np.nan, 1]), "must be integers"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loss", [ops.cross_entropy, ops.nll])
def test_n12_labels_of_another_kind(loss, labels, message):
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    with pytest.raises((ValueError, TypeError), match=message):
        loss(x, labels)
