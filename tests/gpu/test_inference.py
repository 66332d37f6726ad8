"""Evaluation and prediction on the fake device: many batches are replays of one captured pass, and nothing else changes."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest

import minidl as dl
from minidl import graphs
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Sequential
from tests.gpu.test_training import LooksAtNumbers, pixels


def network():
    parts = [Conv2D(3, 3, activation="relu"), BatchNorm(), Dropout(0.5), Flatten(), Dense(10)]
    return Sequential(*parts, input_shape=(8, 8, 1))


def results(model, x, y, batch_size=16):
    return dl.evaluate(model, x, y, batch_size), dl.predict(model, x, batch_size)


def test_captured_equals_eager_bit_for_bit(cupy, monkeypatch):
    """With a short last batch; and as on the CPU."""
    x, y = pixels(16 * 7 + 5, 8, 8, 1)
    model = network()
    on_cpu = results(model, x, y)
    model.to("cuda")
    captured = results(model, x, y)
    monkeypatch.setattr(graphs, "WARM_UP", 10**9)
    eager = results(model, x, y)
    assert captured[0] == eager[0]
    np.testing.assert_array_equal(captured[1], eager[1])
    assert captured[0] == pytest.approx(on_cpu[0], rel=1e-5)
    np.testing.assert_allclose(captured[1], on_cpu[1], rtol=1e-4, atol=1e-5)


def test_most_batches_are_one_launch_and_none_waits(cupy, device):
    x, y = pixels(16 * 10, 8, 8, 1)
    model = network().to("cuda")
    dl.evaluate(model, x, y, 16)
    device.forget()
    dl.evaluate(model, x, y, 16)
    assert device.graph_launches == 10 - graphs.WARM_UP
    assert device.syncs == ["device.synchronize", "stream.synchronize", "get"]
    assert device.uploads == [f"asarray {x.shape}", f"asarray {y.shape}"]
    assert device.stream is None
    device.forget()
    dl.predict(model, x, 16)
    assert len(set(device.allocated) - {None}) == 1  # a pool of its own
    assert device.allocated.count(None) == 1  # the place for batches
    assert device.graph_launches == 10 - graphs.WARM_UP
    assert device.syncs.count("get") == 10  # each result goes to the host


def test_validation_within_fit(cupy, device):
    """On a stream of its own; training goes on as if there had been none."""
    x, y = pixels(16 * 8, 8, 8, 1)
    states = []
    for validation in (None, pixels(256 * 6, 8, 8, 1, seed=1)):
        model = network().to("cuda")
        optimizer = dl.optim.Adam(model)
        device.forget()
        history = dl.fit(
            model, x, y, epochs=3, batch_size=16, optimizer=optimizer, validation_data=validation, verbose=0
        )
        states.append(model.state_dict())
        assert device.graph_launches == 3 * 8 - 3 + (3 * 4 if validation else 0)
        assert model.training
    assert len(set(history.history["val_loss"])) == 3
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


@pytest.mark.parametrize(
    ("samples", "free"), [(16 * 2 * graphs.WARM_UP, 2**33), (16 * 10, 1000), (0, 2**33)], ids=["few", "large", "none"]
)  # fmt: skip
def test_who_is_not_captured(cupy, device, monkeypatch, samples, free):
    """Few batches, data that do not fit, and none at all."""
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (free, 2**34))
    x, _ = pixels(samples, 8, 8, 1)
    assert dl.predict(network().to("cuda"), x, 16).shape == (samples, 10)
    assert device.graph_launches == 0


def test_what_cannot_be_captured_runs_eagerly_with_one_notice(cupy):
    x, y = pixels(16 * 7, 784)
    model = Sequential(LooksAtNumbers(), Dense(10), input_shape=(784,))
    expected = results(model, x, y)
    model.to("cuda")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = results(model, x, y)
    words = " a pass of this model cannot be captured as a CUDA graph"
    assert [str(w.message).partition(",")[0] for w in caught] == [f"evaluate:{words}", f"predict:{words}"]
    assert got[0] == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-4, atol=1e-5)


def test_nothing_is_collected_during_a_capture(cupy, device):
    """What a collection frees might wait for the device."""
    seen = set()

    class Watches(dl.Layer):
        def forward(self, x):
            seen.add((device.recording is not None, gc.isenabled()))
            return x

    x, _ = pixels(16 * 7, 784)
    dl.predict(Sequential(Watches(), Dense(10), input_shape=(784,)).to("cuda"), x, 16)
    assert seen == {(False, True), (True, False)}
    assert gc.isenabled()


def test_an_error_leaves_everything_as_it_was(cupy, device):
    class Fails(dl.Layer):
        def forward(self, x):
            if device.recording is not None:
                raise KeyError("in the capture")
            return x

    x, _ = pixels(16 * 7, 784)
    model = Sequential(Fails(), Dense(10), input_shape=(784,)).to("cuda")
    with pytest.raises(KeyError, match="in the capture"):
        dl.predict(model, x, 16)
    assert model.training
    assert device.stream is None
    assert device.recording is None


def test_an_error_between_batches_leaves_everything_as_it_was(cupy, device, monkeypatch):
    def fails(outputs):
        raise MemoryError

    monkeypatch.setattr("minidl.evaluation.to_numpy", fails)
    x, _ = pixels(16 * 7, 8, 8, 1)
    model = network().to("cuda")
    with pytest.raises(MemoryError) as caught:
        dl.predict(model, x, 16)
    assert caught.tb is not None  # which keeps all that was local
    assert model.training
    assert device.stream is None
