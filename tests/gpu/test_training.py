"""Training on the fake device: what a step launches, that it never waits, and that a captured step is an eager one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import minidl as dl
from minidl import graphs
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential, Tanh
from minidl.optim import SGD, Adam, AdamW, RMSprop
from minidl.optim.schedules import CosineDecay, WarmUp


def mlp(hidden=4096):
    return Sequential(Dense(hidden, "relu"), Dense(10), input_shape=(784,))


def cnn(size=8):
    return Sequential(
        Conv2D(4, 3, activation="relu"), BatchNorm(), MaxPool2D(2), Dropout(0.5), Conv2D(6, 2), ReLU(), BatchNorm(),
        Dropout(0.3), Flatten(), Dense(12, "relu"), Dense(10), input_shape=(size, size, 1),
    )  # fmt: skip


def pixels(n, *shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n)


def train(model, x, y, device="cuda", make=Adam, **named):
    """The history; the device's counters begin after the model is there."""
    model.to(device)
    settings = {"epochs": 2, "batch_size": 16, "verbose": 0} | named
    return dl.fit(model, x, y, optimizer=make(model, settings.pop("lr", 1e-3)), **settings)


class Recorder(dl.callbacks.Callback):
    """What the device did in each step."""

    def __init__(self, device):
        self.device, self.steps, self.pools = device, [], []

    def on_epoch_begin(self, epoch):
        self.device.forget()

    def on_batch_end(self, step, logs):
        device = self.device
        self.steps.append(
            (list(device.launches), list(device.syncs), list(device.uploads), device.graph_launches)
        )
        self.pools.append(set(device.allocated))
        device.forget()


@pytest.mark.parametrize(
    ("make", "precision", "budget"),
    [(mlp, "fp32", 12), (lambda: cnn(28), "fp32", 36), (lambda: cnn(28), "tf32", 36)],
    ids=["mlp", "cnn", "cnn-tf32"],
)
def test_a_step_launches_few_kernels_and_never_waits(cupy, device, make, precision, budget, record_property):
    dl.backend.precision(precision)
    captured = []
    original = graphs.Graphs._capture
    x, y = pixels(16 * 5, *([784] if make is mlp else [28, 28, 1]))
    recorder = Recorder(device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs.Graphs, "_capture", lambda *a: captured.append(original(*a)) or captured[-1])
        train(make(), x, y, epochs=1, callbacks=[recorder])
    launches, syncs, uploads, _ = recorder.steps[2]  # eager, and all is warm
    assert recorder.steps[2][3] == 0
    assert not syncs
    assert not uploads
    bookkeeping = [name for name in launches if name in ("next_batch", "count_hits")]
    assert len(bookkeeping) == 2
    assert len(launches) - len(bookkeeping) == budget
    for launches, syncs, uploads, replayed in recorder.steps[3:-1]:
        assert (launches, syncs, uploads, replayed) == (["next_batch"], [], [], 1)
    assert len(captured[0][0].work) == len(recorder.steps[2][0]) - 1
    record_property("launches", len(recorder.steps[2][0]))


def test_memory_of_steps_is_used_for_nothing_else(cupy, device):
    """Replays write to what a capture freed: that must come from a pool that only captures take from again."""
    x, y = pixels(16 * 7, 784)
    pools = []
    for _ in range(2):
        recorder = Recorder(device)
        train(mlp(8), x, y, epochs=1, callbacks=[recorder])
        first, *eager_or_captured = recorder.pools[:4]
        pools += eager_or_captured[0]
        assert first == {None, pools[-1]}  # and places for batches
        assert eager_or_captured == [{pools[-1]}] * 3
        assert recorder.pools[4:] == [set()] * 3
        assert not device.pools
    assert None not in pools
    assert len(set(pools)) == 2


def eager(monkeypatch):
    monkeypatch.setattr(graphs, "WARM_UP", 10**9)


@pytest.mark.parametrize(
    ("make", "lr"),
    [
        (Adam, WarmUp(CosineDecay(1e-2, 4), 1)), (lambda m, lr: AdamW(m, lr, weight_decay=0.1, clip_norm=0.5), 1e-2),
        (lambda m, lr: SGD(m, lr, momentum=0.9, nesterov=True, clip_value=0.01), CosineDecay(0.1, 4)),
        (lambda m, lr: RMSprop(m, lr, momentum=0.5), 1e-3),
    ],
    ids=["adam", "adamw", "sgd", "rmsprop"],
)  # fmt: skip
def test_captured_equals_eager_bit_for_bit(cupy, make, lr):
    """Over 52 steps, with a short last batch, dropout, batch norm, and rates that change at each step."""
    x, y = pixels(16 * 12 + 5, 8, 8, 1)
    results = []
    for is_eager in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if is_eager:
                eager(patch)
            model = cnn()
            history = train(model, x, y, make=make, lr=lr, epochs=4, validation_data=(x[:20], y[:20]))
            results.append((model.state_dict(), history.history))
    (one, first), (other, second) = results
    assert first == second
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_training_on_the_device_equals_training_on_the_cpu(cupy):
    x, y = pixels(16 * 6 + 3, 8, 8, 1)
    one, other = cnn(), cnn()
    first = train(
        one, x, y, "cpu", epochs=3, make=lambda m, lr: SGD(m, 0.05, momentum=0.9), validation_data=(x, y)
    )
    second = train(
        other, x, y, "cuda", epochs=3, make=lambda m, lr: SGD(m, 0.05, momentum=0.9), validation_data=(x, y)
    )
    for key in first.history:
        np.testing.assert_allclose(first.history[key], second.history[key], rtol=1e-3)
    for name, value in one.state_dict().items():
        np.testing.assert_allclose(value, other.state_dict()[name], rtol=1e-2, atol=1e-3, err_msg=name)


def test_counts_go_on_after_replays(cupy):
    """The optimiser's steps, by name, are those that were made; eager steps go on from there."""
    x, y = pixels(16 * 6, 784)
    model = mlp(8).to("cuda")
    optimizer = Adam(model)
    versions = [parameter.version for parameter in model.parameters()]
    dl.fit(model, x, y, epochs=2, batch_size=16, optimizer=optimizer, verbose=0)
    assert [p.version - before for p, before in zip(model.parameters(), versions, strict=True)] == [12] * 4
    assert {int(v) for k, v in optimizer.state_dict().items() if k.endswith("/step")} == {12}
    assert optimizer.lr == 1e-3
    loss = dl.ops.cross_entropy(model(cupy.asarray(x[:4])), cupy.asarray(y[:4]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert {int(v) for k, v in optimizer.state_dict().items() if k.endswith("/step")} == {13}


def test_a_graph_is_captured_anew_when_something_changes(cupy, device):
    class Change(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if step == 5:
                self.run.model[0].freeze()
            if step == 10:
                self.run.optimizer.beta1 = 0.5

    x, y = pixels(16 * 15, 784)
    states = []
    for is_eager in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if is_eager:
                eager(patch)
            device.forget()
            model = mlp(8)
            train(model, x, y, epochs=1, callbacks=[Change()])
            states.append(model.state_dict())
            assert device.graph_launches == (0 if is_eager else 3 + 2 + 2)
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


class Convolves(dl.Layer):
    """A model whose activation can be exchanged."""

    def __init__(self):
        super().__init__()
        self.first, self.activation, self.last = Conv2D(4, 3), ReLU(), Dense(10)

    def forward(self, x):
        return self.last(dl.ops.reshape(self.activation(self.first(x)), (len(x), -1)))


@pytest.mark.parametrize(
    "change",
    [lambda model: setattr(model, "activation", Tanh()), lambda model: dl.backend.precision("tf32")],
    ids=["layer", "precision"],
)
def test_another_layer_or_precision_is_captured_anew(cupy, device, change):
    class Change(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if step == 5:
                change(self.run.model)

    x, y = pixels(16 * 11, 8, 8, 1)
    states = []
    for is_eager in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if is_eager:
                eager(patch)
            dl.backend.precision("fp32")
            model = Convolves()
            model(x[:1])
            device.forget()
            train(model, x, y, epochs=1, callbacks=[Change()])
            states.append(model.state_dict())
            assert device.graph_launches == (0 if is_eager else 3 + 3)
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


class LooksAtNumbers(dl.Layer):
    """What cannot be captured: its shape depends on its values."""

    def forward(self, x):
        return x * 2 if float(x.data.sum()) > -1e30 else x


def test_what_cannot_be_captured_runs_eagerly_with_one_notice(cupy):
    x, y = pixels(16 * 6, 784)
    states = []
    for is_eager in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if is_eager:
                eager(patch)
            model = Sequential(Dense(6), Dropout(0.5), LooksAtNumbers(), Dense(10), input_shape=(784,))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                history = train(model, x, y, epochs=2)
            messages = [str(w.message) for w in caught]
            assert len(messages) == (0 if is_eager else 1)
            states.append((model.state_dict(), history.history))
    assert "cannot be captured" in messages[0]
    assert "stream is capturing" in messages[0]
    assert states[0][1] == states[1][1]
    for name, value in states[0][0].items():
        np.testing.assert_array_equal(value, states[1][0][name], err_msg=name)


def test_other_losses_and_targets(cupy):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 5)).astype(np.float32), rng.normal(size=(48, 2)).astype(np.float32)
    histories = []
    for device in ("cpu", "cuda"):
        model = Sequential(Dense(2), input_shape=(5,))
        histories.append(train(model, x, y, device, loss="mse", epochs=3).history)
    assert set(histories[1]) == {"loss"}
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)


def test_a_loss_that_is_not_finite_ends_training(cupy):
    x, y = np.full((48, 5), np.inf, np.float32), np.zeros(48, int)
    model = Sequential(Dense(2), input_shape=(5,))
    with pytest.warns(RuntimeWarning, match="training stops"):
        history = train(model, x, y, epochs=3)
    assert len(history.epoch) == 1


def test_data_that_do_not_fit_stay_on_the_host(cupy, device, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (1000, 2000))
    x, y = pixels(48, 784)
    model = mlp(8)
    history = train(model, x, y, epochs=1)
    assert device.graph_launches == 0
    assert "asarray (16, 784)" in device.uploads
    assert np.isfinite(history.history["loss"][0])


def test_augmentation_works_on_the_host(cupy, device):
    x, y = pixels(48, 784)
    history = train(mlp(8), x, y, epochs=1, augment=lambda batch, rng: batch[:, ::-1])
    assert device.graph_launches == 0
    assert np.isfinite(history.history["loss"][0])


def test_averages_wait_only_when_they_are_read(cupy, device):
    class Reader(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if step == 4:
                device.forget()
                self.logs = dict(logs)
                self.waits = len(device.syncs)

    x, y = pixels(16 * 6, 784)
    reader = Reader()
    train(mlp(8), x, y, epochs=1, callbacks=[reader])
    assert set(reader.logs) == {"loss", "accuracy"}
    assert reader.waits > 0


def test_stream_and_device_are_as_before(cupy, device):
    x, y = pixels(48, 784)
    model = mlp(8)
    model.to("cuda:1")
    dl.fit(model, x, y, epochs=1, batch_size=16, optimizer=Adam(model), verbose=0)
    assert device.current == 0
    assert device.stream is None
    assert {p.device for p in model.parameters()} == {"cuda:1"}
