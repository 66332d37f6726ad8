"""fit, evaluate and predict: what they compute, what they leave behind, and what they refuse."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import minidl as dl
from minidl.callbacks import Callback, History
from minidl.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Reshape, Sequential


def make_data(n=90, seed=0):
    """Three classes in the plane, easy to tell apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.array([[2, 0], [-1, 2], [-1, -2]])[y] + 0.4 * rng.standard_normal((n, 2))
    return x.astype(np.float32), y


def make_model(dropout=0.0, norm=True, seed=0):
    parts = [Dense(16), *([BatchNorm()] if norm else []), ReLU(), *([Dropout(dropout)] if dropout else [])]
    return Sequential(*parts, Dense(3), input_shape=(2,), seed=seed)


def fit(model, x, y, **options):
    options = {"epochs": 2, "batch_size": 16, "verbose": 0, **options}
    optimizer = options.pop("optimizer", None) or dl.optim.Adam(model, 0.01)
    return dl.fit(model, x, y, optimizer=optimizer, **options)


def assert_same(a, b):
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def same(a, b):
    return all(np.array_equal(value, b[name]) for name, value in a.items())


# Learning and the record of it


def test_learns_a_toy_problem():
    model = make_model()
    history = fit(model, *make_data(), epochs=20)
    assert history.history["accuracy"][-1] > 0.97
    assert history.history["loss"][-1] < 0.2 * history.history["loss"][0]
    assert dl.evaluate(model, *make_data(seed=1))["accuracy"] > 0.97


def test_learns_images():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 64)
    x = rng.integers(0, 60, (64, 8, 8, 1)).astype(np.uint8)
    x[y == 1, :4] += 190
    model = Sequential(Conv2D(4, 3), ReLU(), MaxPool2D(), Flatten(), Dense(2))
    history = fit(model, x, y, epochs=8)
    assert history.history["accuracy"][-1] == 1.0
    assert dl.predict(model, x).argmax(1).tolist() == y.tolist()


@pytest.mark.parametrize("validation", [False, True])
def test_history(validation):
    options = {"validation_data": make_data(20, seed=1)} if validation else {}
    history = fit(make_model(), *make_data(), epochs=3, **options)
    keys = ["loss", "accuracy", "val_loss", "val_accuracy"][: 4 if validation else 2]
    assert isinstance(history, History) and list(history.history) == keys
    assert all(
        len(values) == 3 and all(type(v) is float for v in values) for values in history.history.values()
    )
    assert history.epoch == [0, 1, 2] and len(history.seconds) == 3 and min(history.seconds) > 0


class Spy(Callback):
    """Writes down what happens."""

    def __init__(self):
        self.events, self.batches, self.epochs = [], [], []

    def on_train_begin(self):
        self.events.append("begin")

    def on_epoch_begin(self, epoch):
        self.events.append(f"epoch {epoch}")

    def on_batch_end(self, step, logs):
        self.events.append(f"step {step}")
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs):
        self.events.append(f"end {epoch}")
        self.epochs.append(dict(logs))

    def on_train_end(self):
        self.events.append("end")


def test_order_of_events():
    spy = Spy()
    fit(make_model(), *make_data(40), epochs=2, callbacks=[spy])
    epoch = ["step 0", "step 1", "step 2"]
    assert spy.events == ["begin", "epoch 0", *epoch, "end 0", "epoch 1", *epoch, "end 1", "end"]
    assert (spy.run.epochs, spy.run.steps) == (2, 3)


@pytest.mark.scenario("N30")
def test_training_metrics_are_running_averages_weighted_by_samples():
    """23 samples in batches of 10, 10 and 3: recomputed step by step with weights of that moment."""
    x, y = make_data(23)
    spy, model, twin = Spy(), make_model(dropout=0.3), make_model(dropout=0.3)
    fit(model, x, y, epochs=2, batch_size=10, callbacks=[spy], seed=4)
    optimizer = dl.optim.Adam(twin, 0.01)
    step, recorded = 0, []
    for epoch in range(2):
        losses, hits, count = 0.0, 0, 0
        for rows in dl.data.batches(23, 10, seed=4, epoch=epoch):
            twin["dropout"].start_step(4, "dropout", step)
            logits = twin(x[rows])
            losses += dl.ops.cross_entropy(logits, y[rows], reduction="sum").item()
            hits += int((logits.data.argmax(1) == y[rows]).sum())
            count += len(rows)
            optimizer.zero_grad()
            dl.ops.cross_entropy(logits, y[rows]).backward()
            optimizer.step()
            step += 1
            recorded.append({"loss": losses / count, "accuracy": hits / count})
    assert_same(model.state_dict(), twin.state_dict())
    assert len(spy.batches) == 6
    for got, expected in zip(spy.batches, recorded, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    assert spy.epochs == [spy.batches[2], spy.batches[5]]


def test_validation_is_evaluate_after_the_epoch():
    held_out = make_data(37, seed=5)
    seen = []

    class Check(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append((logs["val_loss"], logs["val_accuracy"]))
            assert dl.evaluate(self.run.model, *held_out) == {
                "loss": logs["val_loss"],
                "accuracy": logs["val_accuracy"],
            }

    fit(make_model(dropout=0.5), *make_data(), epochs=3, validation_data=held_out, callbacks=[Check()])
    assert len(set(seen)) == 3


def test_validation_does_not_change_the_run():
    models = make_model(0.4), make_model(0.4)
    fit(models[0], *make_data(), epochs=3)
    fit(models[1], *make_data(), epochs=3, validation_data=make_data(30, seed=2))
    assert_same(models[0].state_dict(), models[1].state_dict())


# Evaluate and predict


@pytest.mark.scenario("N30")
@pytest.mark.parametrize("batch_size", [1, 7, 10, 64, 1000])
def test_evaluate_counts_each_sample_once(batch_size):
    x, y = make_data(43)
    model = make_model(dropout=0.5)
    fit(model, x, y)
    logits = dl.predict(model, x)
    expected = {
        "loss": dl.ops.cross_entropy(logits, y, reduction="sum").item() / 43,
        "accuracy": float((logits.argmax(1) == y).mean()),
    }
    assert dl.evaluate(model, x, y, batch_size=batch_size) == pytest.approx(expected, rel=1e-5)


@pytest.mark.scenario("F34")
@pytest.mark.parametrize("fails", [False, True])
def test_evaluate_and_predict_touch_nothing(fails):
    x, y = make_data()
    model = make_model(dropout=0.5)
    fit(model, x, y)
    model.train()
    model["batch_norm"].eval()
    before, modes = model.state_dict(), [layer.training for layer in model]
    grads = [p.grad.copy() for p in model.parameters()]
    if fails:
        for call in (
            lambda: dl.evaluate(model, np.ones((4, 9), np.float32), y[:4]),
            lambda: dl.predict(model, np.ones((4, 9))),
        ):
            with pytest.raises(ValueError, match="is 9 in x"):
                call()
    else:
        first = dl.evaluate(model, x, y), dl.predict(model, x).tolist()
        assert first == (dl.evaluate(model, x, y), dl.predict(model, x).tolist())
    assert_same(before, model.state_dict())
    assert [layer.training for layer in model] == modes
    for p, g in zip(model.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, g)


@pytest.mark.parametrize("n", [0, 1, 5, 64, 100])
@pytest.mark.parametrize("batch_size", [1, 32, 256])
def test_predict_shapes(n, batch_size):
    model = make_model(dropout=0.5)
    x = np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32)
    out = dl.predict(model, x, batch_size=batch_size)
    assert type(out) is np.ndarray and out.shape == (n, 3) and out.dtype == np.float32
    with dl.layers.inference(model):
        np.testing.assert_allclose(out, model(x).data, rtol=1e-5, atol=1e-6)


@pytest.mark.scenario("N5")
@pytest.mark.parametrize("tail", [[], [Reshape((-1, 2))]], ids=["flat", "reshape"])
def test_predict_no_images(tail):
    model = Sequential(
        Conv2D(2, 3),
        BatchNorm(),
        MaxPool2D(),
        Flatten(),
        Dense(4),
        Dropout(0.5),
        *tail,
        input_shape=(8, 8, 1),
    )
    assert dl.predict(model, np.zeros((0, 8, 8, 1), np.uint8)).shape == ((0, 2, 2) if tail else (0, 4))


def test_lists_and_tensors_are_data_too():
    x, y = make_data(20)
    results = []
    for form in (lambda v: v, lambda v: v.tolist(), dl.Tensor):
        model = make_model()
        fit(model, form(x), form(y))
        results.append((dl.evaluate(model, form(x), form(y)), dl.predict(model, form(x)).tolist()))
    assert results[0] == results[1] == results[2]


# Losses and labels


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("cross_entropy", dl.ops.cross_entropy),
        ("mse", dl.ops.mse),
        ("mae", dl.ops.mae),
        ("binary_cross_entropy", dl.ops.binary_cross_entropy),
        ("nll", dl.ops.nll),
    ],
)
def test_losses_by_name_and_as_a_function(name, function):
    x, y = make_data(40)
    targets = y if name in ("cross_entropy", "nll") else np.eye(3, dtype=np.float32)[y]
    runs = []
    for loss in (name, function, lambda outputs, t: function(outputs, t) * 1.0):
        model = make_model()
        if name == "nll":
            model.append(dl.layers.Softmax())
        history = fit(model, x, targets, loss=loss)
        runs.append((history.history, dl.evaluate(model, x, targets, loss=loss)))
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][1]["loss"] != pytest.approx(dl.evaluate(model, x, y)["loss"]) or name == "cross_entropy"


def test_one_hot_labels_give_accuracy():
    x, y = make_data(50)
    by_number, one_hot = make_model(), make_model()
    a = fit(by_number, x, y).history
    b = fit(one_hot, x, np.eye(3, dtype=np.float32)[y]).history
    assert a["accuracy"] == b["accuracy"] and a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert dl.evaluate(one_hot, x, np.eye(3)[y])["accuracy"] == dl.evaluate(one_hot, x, y)["accuracy"]


def test_regression_has_no_accuracy():
    x, _ = make_data(50)
    model = Sequential(Dense(1), input_shape=(2,))
    target = (x @ [[2.0], [-3.0]]) + 1
    history = fit(model, x, target, loss="mse", epochs=60, optimizer=dl.optim.SGD(model, 0.05))
    assert list(history.history) == ["loss"] and history.history["loss"][-1] < 1e-3
    np.testing.assert_allclose(model[0].weight.data, [[2], [-3]], atol=0.05)


@pytest.mark.scenario("N28")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type(dtype):
    x, y = make_data(30)
    model, other = make_model(), make_model()
    assert fit(model, x, y.astype(dtype)).history == fit(other, x, y).history


def test_a_loss_of_zero_still_steps():
    """Weight decay acts even where the loss has no slope."""
    model = make_model(norm=False)
    before = model.state_dict()
    fit(
        model,
        *make_data(20),
        loss=lambda out, t: (out * 0).sum(),
        epochs=1,
        optimizer=dl.optim.SGD(model, 0.1, weight_decay=0.1),
    )
    after = model.state_dict()
    assert abs(after["dense.weight"]).sum() < abs(before["dense.weight"]).sum()


# The same seed, the same run


def noisy(batch, rng):
    return batch + rng.standard_normal(batch.shape).astype(batch.dtype) * 0.1


def run_with(seed, **options):
    model = make_model(dropout=0.3)
    history = fit(model, *make_data(50), epochs=3, seed=seed, augment=noisy, **options)
    return model.state_dict(), history.history


@pytest.mark.scenario("N26")
def test_the_same_seed_is_the_same_run_bitwise():
    first = run_with(3)
    np.random.default_rng(5).random(7)
    Dense(3)(np.ones((1, 2)))  # other work in between
    second = run_with(3)
    assert_same(first[0], second[0])
    assert first[1] == second[1]
    other = run_with(4)
    assert not same(first[0], other[0]) and first[1] != other[1]


@pytest.mark.parametrize("part", ["shuffle", "dropout", "augment", "none"])
def test_the_seed_reaches_every_source_of_chance(part):
    """With the others switched off another seed still gives another run; with all of them off it does not."""
    x, y = make_data(32)
    if part != "shuffle":  # equal samples: their order is all one
        x, y = np.ones_like(x), np.zeros_like(y)
    states = []
    for seed in (1, 2):
        model = make_model(dropout=0.3 if part == "dropout" else 0.0, norm=False)
        fit(model, x, y, seed=seed, epochs=1, batch_size=8, augment=noisy if part == "augment" else None)
        states.append(model.state_dict())
    assert same(*states) == (part == "none")


@pytest.mark.scenario("N31")
def test_each_epoch_is_another_permutation_of_all_samples():
    x = np.arange(20, dtype=np.float32)[:, None].repeat(2, 1)
    seen = []

    def watch(batch, rng):
        seen.append(batch[:, 0].astype(int).tolist())
        return batch

    fit(make_model(), x, np.zeros(20, int), epochs=2, batch_size=8, augment=watch)
    assert [len(b) for b in seen] == [8, 8, 4] * 2
    epochs = [np.concatenate(part).tolist() for part in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20)) and epochs[0] != epochs[1]


def test_augmentation_sees_the_raw_batch_and_not_the_validation_data():
    x, y = np.full((12, 2), 200, np.uint8), np.zeros(12, int)
    seen = []

    def watch(batch, rng):
        seen.append((batch.dtype, len(batch)))
        return batch

    fit(make_model(), x, y, epochs=1, batch_size=6, augment=watch, validation_data=(x[:5], y[:5]))
    assert seen == [(np.uint8, 6)] * 2
    assert (x == 200).all()


def test_the_schedule_follows_the_steps():
    rates = []

    class Watch(Callback):
        def on_batch_end(self, step, logs):
            rates.append(self.run.optimizer.lr)

    model = make_model()
    optimizer = dl.optim.SGD(model, dl.optim.WarmUp(dl.optim.StepDecay(1.0, every=1, gamma=0.5), epochs=1))
    fit(model, *make_data(40), epochs=2, batch_size=10, optimizer=optimizer, callbacks=[Watch()])
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 0.5, 0.5, 0.5, 0.5])
    assert optimizer.epoch == 2.0 and optimizer.lr == 0.25


# Interruptions and failures


class Raise(Spy):
    def __init__(self, error, where, at=0):
        super().__init__()
        self.error, self.where, self.at = error, where, at

    def __getattribute__(self, name):
        if name.startswith("on_") and name == object.__getattribute__(self, "where"):
            return self.fail
        return object.__getattribute__(self, name)

    def fail(self, *args):
        if not args or args[0] >= self.at:
            raise self.error


HOOKS = ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("mine")], ids=["ctrl-c", "error"])
@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_callback(hook, error):
    """The others are closed, the error comes through as it is, the model is usable and in its old modes."""
    first, last, model = Spy(), Spy(), make_model(dropout=0.5)
    model["dropout"].eval()
    modes = [layer.training for layer in model]
    with pytest.raises(type(error)) as caught:
        fit(
            model,
            *make_data(),
            epochs=3,
            callbacks=[first, Raise(error, hook), last],
            validation_data=make_data(9),
        )
    assert caught.value is error
    assert first.events[-1] == "end"
    assert last.events == [] if hook == "on_train_begin" else last.events[-1] == "end"
    assert [layer.training for layer in model] == modes
    assert all(np.isfinite(v).all() for v in model.state_dict().values())
    assert np.isfinite(dl.predict(model, make_data()[0])).all()
    fit(model, *make_data())


def test_an_error_at_the_end_closes_the_others():
    first, last = Spy(), Spy()
    error = RuntimeError("at the end")
    with pytest.raises(RuntimeError, match="at the end") as caught:
        fit(make_model(), *make_data(), callbacks=[first, Raise(error, "on_train_end"), last])
    assert caught.value is error and first.events[-1] == last.events[-1] == "end"


def test_the_first_error_wins():
    """A callback that also fails to close must not hide what went wrong."""
    original, later = KeyboardInterrupt(), RuntimeError("cannot close")
    spy = Spy()
    with pytest.raises(KeyboardInterrupt) as caught:
        fit(
            make_model(),
            *make_data(),
            callbacks=[Raise(original, "on_batch_end"), Raise(later, "on_train_end"), spy],
        )
    assert caught.value is original and spy.events[-1] == "end"


@pytest.mark.parametrize("where", ["forward", "backward", "update", "loss"])
def test_ctrl_c_inside_a_step(where, monkeypatch):
    """Training stops after whole steps: the weights are those of the last one."""
    kernels = dl.kernels.of(np)
    target = {
        "forward": (dl.ops.linear.Dense, "forward"),
        "backward": (dl.ops.linear.Dense, "backward"),
        "update": (kernels, "adam_step"),
        "loss": (dl.ops.loss.CrossEntropy, "forward"),
    }[where]
    calls_per_step = 2 if where in ("forward", "backward") else 1
    real, count = getattr(*target), [0]

    def interrupt(*args, **kwargs):
        count[0] += 1
        if count[0] > 3 * calls_per_step:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    spy, model, twin = Spy(), make_model(norm=False), make_model(norm=False)
    with monkeypatch.context() as patch:
        patch.setattr(*target, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(model, *make_data(), callbacks=[spy], batch_size=30)
    assert spy.events == ["begin", "epoch 0", "step 0", "step 1", "step 2", "end 0", "epoch 1", "end"]
    assert all(layer.training for layer in model)
    fit(twin, *make_data(), epochs=1, batch_size=30)
    assert_same(model.state_dict(), twin.state_dict())
    fit(model, *make_data())


def test_gradients_are_on_after_an_error_in_evaluate():
    model = make_model()
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2"):
        dl.evaluate(model, *[make_data()[0], np.full(90, 7)])
    assert model(make_data()[0]).requires_grad


# What is refused


BAD = {
    "lengths": ({"y": np.zeros(7, int)}, ValueError, r"equally many samples.*\(90, 2\) and \(7,\)"),
    "empty": ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, ValueError, r"x is empty, shape \(0, 2\)"),
    "scalar-x": ({"x": np.float32(1)}, ValueError, "samples"),
    "epochs-0": ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
    "epochs-negative": ({"epochs": -1}, ValueError, "epochs must be an integer >= 1, got -1"),
    "epochs-float": ({"epochs": 2.0}, ValueError, "epochs must be an integer >= 1, got 2.0"),
    "epochs-bool": ({"epochs": True}, ValueError, "epochs must be an integer >= 1, got True"),
    "batch-0": ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
    "batch-string": ({"batch_size": "8"}, ValueError, "batch_size must be an integer >= 1, got '8'"),
    "loss": ({"loss": "crossentropy"}, ValueError, "loss must be one of cross_entropy, .* got 'crossentropy'"),
    "loss-none": ({"loss": None}, ValueError, "loss must be one of .* got None"),
    "optimizer-name": ({"optimizer": "adam"}, TypeError, r"optimizer must be an Optimizer .* got 'adam'"),
    "optimizer-class": ({"optimizer": dl.optim.Adam}, TypeError, "optimizer must be an Optimizer"),
    "labels": ({"y": np.full(90, 3)}, ValueError, r"labels must be in 0\.\.2"),
    "float-labels": ({"y": np.zeros(90)}, TypeError, "class numbers must be integers"),
    "validation-lengths": ({"validation_data": (np.zeros((4, 2)), np.zeros(5, int))}, ValueError, "equally many"),
    "validation-empty": ({"validation_data": (np.zeros((0, 2)), np.zeros(0, int))}, ValueError, "empty"),
    "validation-one": ({"validation_data": (np.zeros((4, 2)),)}, (ValueError, TypeError), "validation_data"),
    "unknown": ({"colour": 1}, TypeError, "colour"),
}  # fmt: skip


@pytest.mark.scenario("B74")
@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_arguments(options, error, message):
    """Refused before anything was trained."""
    x, y = make_data()
    model = make_model()
    options = {
        "x": x,
        "y": y,
        "epochs": 1,
        "batch_size": 8,
        "optimizer": dl.optim.Adam(model),
        "verbose": 0,
        **options,
    }
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    with pytest.raises(error, match=message):
        dl.fit(model, **options)
    assert_same(before, {name: p.data for name, p in model.named_parameters()})
    assert model.training


def test_an_optimizer_of_another_model():
    """It would train nothing, in silence."""
    model, other = make_model(), make_model()
    with pytest.raises((ValueError, TypeError), match="optimizer"):
        fit(model, *make_data(), optimizer=dl.optim.Adam(other))


def test_an_optimizer_of_a_part_is_fine():
    model = make_model()
    before = model.state_dict()
    fit(model, *make_data(), optimizer=dl.optim.Adam(model[-1:]))
    after = model.state_dict()
    assert np.array_equal(after["dense.weight"], before["dense.weight"])
    assert not np.array_equal(after["dense_1.weight"], before["dense_1.weight"])


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
@pytest.mark.parametrize("call", [lambda m, x, y, b: dl.evaluate(m, x, y, batch_size=b), lambda m, x, y, b: dl.predict(m, x, batch_size=b)], ids=["evaluate", "predict"])  # fmt: skip
def test_bad_batch_size(call, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be an integer >= 1, got {batch_size}"):
        call(make_model(), *make_data(), batch_size)


@pytest.mark.parametrize("value", [np.int64(2), np.int32(2)])
def test_integers_of_numpy(value):
    assert len(fit(make_model(), *make_data(), epochs=value, batch_size=value).epoch) == 2


@pytest.mark.scenario("N5", "N30")
@pytest.mark.parametrize("call", [dl.evaluate, lambda *a: fit(*a)])
def test_empty_data(call):
    with pytest.raises(ValueError, match="empty"):
        call(make_model(), np.zeros((0, 2), np.float32), np.zeros(0, int))


@pytest.mark.scenario("N31")
def test_a_batch_larger_than_the_data():
    spy = Spy()
    fit(make_model(), *make_data(5), epochs=1, batch_size=100, callbacks=[spy])
    assert spy.run.steps == 1 and len(spy.batches) == 1


def test_model_is_built_by_the_first_batch():
    model = Sequential(Dense(4, "relu"), Dense(3))
    fit(model, *make_data(), optimizer=dl.optim.SGD(model, 0.1))
    assert model.count_parameters() == (4 * 2 + 4 + 4 * 3 + 3, 0)


def test_frozen_layers_do_not_move():
    model = make_model()
    model[:2].freeze()
    before = model.state_dict()
    fit(model, *make_data(), epochs=3)
    unchanged = {k: np.array_equal(v, before[k]) for k, v in model.state_dict().items()}
    assert unchanged == {k: not k.startswith("dense_1") for k in before}


# Memory


@pytest.mark.scenario("F31")
def test_memory_stays_flat_and_leaves_no_cycles():
    model = Sequential(Conv2D(4, 3), BatchNorm(), ReLU(), MaxPool2D(), Flatten(), Dropout(0.3), Dense(3))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 8, 8, 1)).astype(np.float32), rng.integers(0, 3, 16)
    optimizer = dl.optim.Adam(model)
    losses = []

    def step():
        loss = dl.ops.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)  # kept on purpose: the graph behind it must go anyway

    for _ in range(20):
        step()
    losses.clear()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            step()
        growth = tracemalloc.get_traced_memory()[0] - before
        garbage = gc.collect()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert growth < 200 * 1500, f"{growth} bytes for 200 losses"  # one saved image batch alone has 4 kB
    assert garbage == 0


def test_fit_leaves_no_cycles():
    model = make_model(dropout=0.2)
    fit(model, *make_data())
    gc.collect()
    gc.disable()
    try:
        fit(model, *make_data(), epochs=5, validation_data=make_data(10))
        assert gc.collect() == 0
    finally:
        gc.enable()
