"""detect_anomaly names where the first number that is not finite was made."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl.autograd import Function
from minidl.layers import Dense

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Log(dl.Layer):
    def forward(self, x):
        return dl.ops.log(x)


class Root(dl.Layer):
    def forward(self, x):
        return dl.ops.sqrt(x * 0)


@pytest.mark.scenario("N11")
def test_forward():
    model = dl.Sequential(Dense(4, name="first"), Log(name="second"), Dense(2), input_shape=(3,))
    model[0].weight.data = -np.ones((3, 4), np.float32)
    with dl.detect_anomaly(), pytest.raises(dl.AnomalyError) as caught:
        model(np.ones((5, 3), np.float32))
    text = str(caught.value)
    assert text.startswith("Log.forward in layer 'second' at test_anomaly.py:")
    assert text.endswith("made 20 nan of 20 numbers (5, 4), all inputs were finite")


@pytest.mark.scenario("N11")
def test_backward():
    model = dl.Sequential(Dense(4, name="first"), Root(name="second"), input_shape=(3,))
    with dl.detect_anomaly():
        loss = dl.ops.sum(model(np.ones((5, 3), np.float32)))
        with pytest.raises(
            dl.AnomalyError, match=r"Sqrt.backward in layer 'second' at test_anomaly.py:\d+ made 20 inf"
        ):
            loss.backward()
    assert model[0].weight.grad is None  # nothing was passed on


def test_what_came_in_is_not_blamed_on_the_operation():
    model = dl.Sequential(Dense(4), input_shape=(3,))
    x = np.ones((5, 3), np.float32)
    x[2, 1] = np.inf
    with (
        dl.detect_anomaly(),
        pytest.raises(dl.AnomalyError, match=r"input 0 had 1 inf of 15 numbers \(5, 3\) already"),
    ):
        model(x)


@pytest.mark.scenario("N11")
def test_inside_fit():
    """From the step where it happens, in the middle of training, with the model as the last whole step left it."""
    model = dl.Sequential(Dense(4), Log(), Dense(2), input_shape=(3,))
    optimizer, x = dl.optim.SGD(model, 0.1), np.ones((8, 3), np.float32)
    with dl.detect_anomaly(), pytest.raises(dl.AnomalyError, match=r"in layer 'log'"):
        dl.fit(model, x, np.arange(8) % 2, epochs=1, batch_size=8, optimizer=optimizer, verbose=0)
    assert all(np.isfinite(v).all() for v in model.state_dict().values())


def test_finite_numbers_pass_and_nothing_stays_behind():
    model = dl.Sequential(Dense(4, activation="relu"), Dense(2), input_shape=(3,))

    def gradient():
        dl.ops.cross_entropy(model(np.ones((5, 3), np.float32)), np.zeros(5, int)).backward()
        return model[0].weight.grad.copy()

    expected = gradient()
    model[0].weight.grad = None
    with dl.detect_anomaly():
        np.testing.assert_array_equal(gradient(), expected)
    assert Function.watch is None
    assert Function.watch_backward is None


def test_as_a_decorator_and_nested():
    @dl.detect_anomaly()
    def bad():
        with dl.detect_anomaly():
            pass
        return dl.ops.log(dl.Tensor(np.zeros(2, np.float32)))

    with pytest.raises(dl.AnomalyError, match=r"Log.forward at test_anomaly.py:\d+ made 2 inf"):
        bad()
    assert Function.watch is None
    assert np.isneginf(dl.ops.log(np.zeros(2, np.float32)).numpy()).all()
