"""Callbacks, each on numbers that are given, and a few inside a real run."""

from __future__ import annotations

import csv
import io
import math
import re
import time

import numpy as np
import pytest

import minidl as dl
from minidl.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LearningRate,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
    Run,
)
from minidl.layers import Dense, Sequential

NAN, INF = math.nan, math.inf


def make_model():
    return Sequential(Dense(2), input_shape=(3,))


def play(callback, values, key="val_loss", lr=1.0, model=None):
    """Run a callback through epochs with these values; returns its run and the rate during each epoch."""
    model = model or make_model()
    run = Run(model, dl.optim.SGD(model, lr), epochs=len(values), steps=1, verbose=0)
    callback.run = run
    rates = []
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        rates.append(run.optimizer.lr)
        model[0].bias.data = np.full(2, epoch, np.float32)  # the weights of this epoch
        logs = dict(value) if isinstance(value, dict) else {"loss": 0.5, key: value}
        callback.on_batch_end(0, logs)
        callback.on_epoch_end(epoch, logs)
        if run.stop:
            break
    run.ran = len(rates)
    callback.on_train_end()
    return run, rates


# EarlyStopping


@pytest.mark.parametrize(
    ("options", "values", "ran"),
    [
        ({"patience": 0}, [3, 2, 1, 1, 0], 4),
        ({"patience": 1}, [3, 2, 1, 1, 0], 4),
        ({"patience": 3}, [1, 2, 2, 2, 0], 4),
        ({"patience": 3}, [1, 2, 2, 0.5, 2, 2, 2, 0], 7),
        ({"patience": 3}, [5, 4, 3, 2, 1], 5),
        ({"patience": 2}, [1, 1, 1, 0], 3),  # equal is not better
        ({"patience": 2, "min_delta": 0.1}, [1, 0.95, 0.92, 0], 3),
        (
            {"patience": 2, "min_delta": 0.1},
            [1, 0.95, 0.89, 0.85, 0.85, 0],
            5,
        ),  # against the best, not the last
        ({"patience": 2, "min_delta": -0.1}, [1, 0.95, 0.92, 0], 3),  # the sign of min_delta does not matter
        ({"patience": 2, "mode": "max"}, [1, 2, 3, 3, 2, 9], 5),
        ({"patience": 2, "mode": "max", "min_delta": 0.5}, [1, 1.4, 1.5, 9], 3),
        ({"patience": 2, "monitor": "val_accuracy"}, [0.5, 0.6, 0.6, 0.5, 0.9], 4),
        ({"patience": 2, "monitor": "accuracy"}, [0.5, 0.6, 0.7, 0.8], 4),
        ({"patience": 2, "monitor": "loss"}, [0.5, 0.6, 0.7, 0.1], 3),
        ({"patience": 2, "monitor": "val_accuracy", "mode": "min"}, [0.5, 0.6, 0.7, 0.1], 3),
        ({"patience": 2, "baseline": 0.5}, [0.9, 0.8, 0.1], 2),
        ({"patience": 2, "baseline": 0.5}, [0.9, 0.4, 0.45, 0.45, 0.1], 4),
        ({"patience": 2, "start_from_epoch": 3}, [1, 2, 3, 4, 5, 6, 0], 6),
        ({"patience": 3}, [1, NAN, NAN, NAN, 0], 4),
        ({"patience": 3}, [NAN, NAN, NAN, 0], 3),
        ({"patience": 3}, [INF, INF, INF, 0], 3),  # infinity does not beat infinity
        ({"patience": 2}, [INF, 1, 2, 2, 0], 4),
        ({"patience": 2, "mode": "max"}, [-INF, -INF, 5], 2),
    ],
)
def test_early_stopping(options, values, ran):
    stopper = EarlyStopping(**options)
    run, _ = play(stopper, values, key=options.get("monitor", "val_loss"))
    assert run.ran == ran
    stopped = ran < len(values) or run.stop
    assert stopper.stopped_epoch == (ran - 1 if stopped else None)


@pytest.mark.parametrize(
    ("values", "restored"), [([3, 1, 2, 2, 0], 1), ([3, 2, 1], 2), ([NAN, 2, NAN, NAN], 1), ([1, 5], 0)]
)
@pytest.mark.parametrize("restore", [True, False])
def test_restoring_the_best_weights(values, restored, restore):
    run, _ = play(EarlyStopping(patience=2, restore_best_weights=restore), values)
    assert set(run.model[0].bias.data) == {restored if restore else run.ran - 1}


def test_early_stopping_may_be_used_again():
    stopper = EarlyStopping(patience=1, restore_best_weights=True)
    assert play(stopper, [1, 2, 3])[0].ran == 2
    run, _ = play(stopper, [9, 8, 7])
    assert run.ran == 3 and stopper.stopped_epoch is None and stopper.best == 7
    assert set(run.model[0].bias.data) == {2}


def test_early_stopping_says_so(capsys):
    play(EarlyStopping(patience=1, verbose=1), [0.25, 0.5, 0.5])
    assert capsys.readouterr().out == "Epoch 2: early stopping, best val_loss 0.2500\n"
    play(EarlyStopping(patience=1), [1, 2, 3])
    assert capsys.readouterr().out == ""


def test_early_stopping_stops_fit():
    model = make_model()
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    frozen = dl.optim.SGD(model, 0.0)  # a rate of 0 improves nothing
    history = dl.fit(
        model,
        x,
        y,
        epochs=50,
        batch_size=4,
        optimizer=frozen,
        verbose=0,
        callbacks=[EarlyStopping("loss", patience=3)],
    )
    assert history.epoch == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind", [EarlyStopping, ReduceLROnPlateau, lambda **kw: ModelCheckpoint("w.npz", **kw)]
)
def test_bad_mode(kind):
    with pytest.raises(ValueError, match="mode must be 'auto', 'min' or 'max', got 'best'"):
        kind(mode="best")


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau])
def test_a_monitor_that_is_not_there(make):
    with pytest.raises(ValueError, match=r"monitor 'val_loss' is not among loss; val_ needs validation_data"):
        play(make(), [{"loss": 1.0}])


# ModelCheckpoint


def saved(path):
    return float(dl.weights.read(path)["dense.bias"][0])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("values", "options", "epoch"),
    [
        ([3, 1, 2], {}, 1),
        ([3, 2, 1], {}, 2),
        ([1, 2, NAN], {}, 0),
        ([1, NAN, 0.5], {}, 2),
        ([NAN, NAN], {}, None),
        ([INF, INF], {}, None),
        ([NAN, 4, 5], {}, 1),
        ([1, 3, 2], {"mode": "max"}, 1),
        ([0.1, 0.9, 0.8], {"monitor": "val_accuracy"}, 1),
        ([1, 2, 3], {"save_best_only": False}, 2),
    ],
)
def test_checkpoint(values, options, epoch, suffix, tmp_path):
    path = tmp_path / "made" / f"best.{suffix}"
    play(ModelCheckpoint(path, **options), values, key=options.get("monitor", "val_loss"))
    if epoch is None:
        assert not path.exists()
    else:
        assert saved(path) == epoch and [p.name for p in path.parent.iterdir()] == [path.name]


def test_checkpoint_never_overwrites_good_weights_with_nan(tmp_path):
    """Whatever the loss says: not a number in the weights themselves."""
    path = tmp_path / "w.npz"
    model = make_model()

    class Spoil(ModelCheckpoint):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                model[0].weight.data = np.full((3, 2), NAN)
            super().on_epoch_end(epoch, {**logs, "val_loss": NAN if epoch == 1 else 1.0})

    play(Spoil(path), [1, 1], model=model)
    assert all(np.isfinite(v).all() for v in dl.weights.read(path).values())


def test_checkpoint_names_from_the_numbers(tmp_path):
    play(ModelCheckpoint(str(tmp_path / "{epoch:02d}-{val_loss:.2f}.npz")), [3, 1.256, 2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01-3.00.npz", "02-1.26.npz"]
    assert saved(tmp_path / "02-1.26.npz") == 1


def test_checkpoint_folders_from_the_numbers(tmp_path):
    play(ModelCheckpoint(tmp_path / "{epoch}" / "w.npz", save_best_only=False), [3, 1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def test_checkpoint_best_goes_on_in_the_next_fit(tmp_path):
    """A worse second run does not overwrite the best of the first."""
    path = tmp_path / "w.npz"
    checkpoint = ModelCheckpoint(path)
    play(checkpoint, [3, 1])
    play(checkpoint, [2, 2, 2])
    assert saved(path) == 1 and checkpoint.best == 1


def test_checkpoint_says_so(tmp_path, capsys):
    play(ModelCheckpoint(tmp_path / "w.npz", verbose=1), [1, 2])
    assert capsys.readouterr().out == f"Epoch 1: saved {tmp_path / 'w.npz'}\n"


@pytest.mark.parametrize("name", ["w.h5", "w"])
def test_checkpoint_refuses_an_unknown_suffix_before_training(name, tmp_path):
    model = make_model()
    before = model.state_dict()
    with pytest.raises(ValueError, match="suffix must be"):
        dl.fit(
            model, np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), epochs=1, batch_size=4, verbose=0,
            optimizer=dl.optim.SGD(model, 1.0), callbacks=[ModelCheckpoint(tmp_path / name, "loss")],
        )  # fmt: skip
    np.testing.assert_array_equal(before["dense.weight"], model.state_dict()["dense.weight"])


# CSVLogger


def read(path, delimiter=","):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


ROWS = [{"loss": 1.5, "val_loss": 2.0}, {"loss": 0.1 + 0.2, "val_loss": NAN}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(separator, tmp_path):
    path = tmp_path / "log.csv"
    play(CSVLogger(path, separator=separator), ROWS)
    rows = read(path, separator)
    assert rows[0] == ["epoch", "loss", "val_loss"] and [row[0] for row in rows[1:]] == ["0", "1"]
    assert float(rows[2][1]) == 0.1 + 0.2 and math.isnan(float(rows[2][2]))  # every digit


@pytest.mark.parametrize("append", [True, False])
def test_csv_append(append, tmp_path):
    path = tmp_path / "log.csv"
    logger = CSVLogger(path, append=append)
    play(logger, ROWS)
    play(logger, ROWS)
    rows = read(path)
    assert [row[0] for row in rows] == ["epoch", "0", "1"] + ["0", "1"] * append


def test_csv_append_to_an_empty_file_writes_the_header(tmp_path):
    path = tmp_path / "log.csv"
    path.touch()
    play(CSVLogger(path, append=True), ROWS)
    assert read(path)[0][0] == "epoch"


def test_csv_is_flushed_after_each_epoch(tmp_path):
    path = tmp_path / "log.csv"
    seen = []

    class Watch(CSVLogger):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            seen.append(len(read(path)))

    play(Watch(path), ROWS)
    assert seen == [2, 3]


def test_csv_is_whole_after_ctrl_c(tmp_path):
    path = tmp_path / "log.csv"
    model, logger = make_model(), CSVLogger(path)

    class Stop(Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dl.fit(
            model, np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), epochs=5, batch_size=4, verbose=0,
            optimizer=dl.optim.SGD(model, 0.1), callbacks=[logger, Stop()],
        )  # fmt: skip
    assert [row[0] for row in read(path)] == ["epoch", "0", "1"] and logger._file.closed


def test_csv_in_a_missing_folder(tmp_path):
    """The reason is the folder; not something that went wrong while closing."""
    model = make_model()
    with pytest.raises(FileNotFoundError, match="missing"):
        dl.fit(
            model, np.ones((2, 3), np.float32), np.array([0, 1]), epochs=1, batch_size=2, verbose=0,
            optimizer=dl.optim.SGD(model, 0.1), callbacks=[CSVLogger(tmp_path / "missing" / "log.csv")],
        )  # fmt: skip


# Learning rates


def test_learning_rate():
    seen = []

    def schedule(epoch, lr):
        seen.append((epoch, lr))
        return lr / 2 if epoch else lr

    run, rates = play(LearningRate(schedule), [1, 1, 1])
    assert rates == [1.0, 0.5, 0.25] and seen == [(0, 1.0), (1, 1.0), (2, 0.5)]
    assert run.optimizer.lr == 0.25


def test_learning_rate_in_a_run():
    rates = []

    class Watch(Callback):
        def on_batch_end(self, step, logs):
            rates.append(self.run.optimizer.lr)

    model = make_model()
    dl.fit(
        model, np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]), epochs=3, batch_size=2, verbose=0,
        optimizer=dl.optim.SGD(model, 9.0), callbacks=[LearningRate(lambda epoch, lr: 1 / (epoch + 1)), Watch()],
    )  # fmt: skip
    assert rates == pytest.approx([1, 1, 1 / 2, 1 / 2, 1 / 3, 1 / 3])


@pytest.mark.parametrize("value", [-1, NAN])
def test_a_bad_learning_rate(value):
    with pytest.raises(ValueError, match="lr must be a finite number"):
        play(LearningRate(lambda epoch, lr: value), [1])


def test_learning_rate_says_so(capsys):
    play(LearningRate(lambda epoch, lr: 0.125, verbose=1), [1])
    assert capsys.readouterr().out == "Epoch 1: learning rate 0.125\n"


@pytest.mark.parametrize(
    ("options", "values", "after"),
    [
        ({"patience": 2}, [1, 1, 1, 1, 1], [1, 1, 0.1, 0.1, 0.01]),
        ({"patience": 1, "factor": 0.5}, [1, 2, 2, 0.5, 3], [1, 0.5, 0.25, 0.25, 0.125]),
        ({"patience": 2, "factor": 0.5}, [1, 2, 0.9, 2, 2], [1, 1, 1, 1, 0.5]),
        ({"patience": 1, "factor": 0.5, "min_delta": 0.2}, [1, 0.9, 0.79, 0.7], [1, 0.5, 0.5, 0.25]),
        ({"patience": 1, "factor": 0.5, "min_lr": 0.3}, [1, 1, 1, 1], [1, 0.5, 0.3, 0.3]),
        ({"patience": 1, "factor": 0.5, "cooldown": 1}, [1, 1, 1, 1, 1], [1, 0.5, 0.25, 0.125, 0.0625]),
        ({"patience": 1, "factor": 0.5, "cooldown": 2}, [1, 1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ({"patience": 1, "factor": 0.5, "mode": "max"}, [1, 2, 2, 3], [1, 1, 0.5, 0.5]),
        ({"patience": 1, "factor": 0.5, "monitor": "val_accuracy"}, [0.1, 0.2, 0.1], [1, 1, 0.5]),
        ({"patience": 2, "factor": 0.5}, [NAN, NAN, NAN], [1, 0.5, 0.5]),
    ],
)
def test_reduce_on_plateau(options, values, after):
    """As Keras's: a cooldown of k leaves out k - 1 epochs, for it is counted down before it is looked at."""
    rates = []

    class Watch(ReduceLROnPlateau):
        def on_epoch_end(self, epoch, logs):
            super().on_epoch_end(epoch, logs)
            rates.append(self.run.optimizer.lr)

    play(Watch(**options), values, key=options.get("monitor", "val_loss"))
    assert rates == pytest.approx(after)


def test_reduce_on_plateau_may_be_used_again():
    """As in Keras, each training begins with a clean slate."""
    callback = ReduceLROnPlateau(patience=2, factor=0.5)
    play(callback, [1, 2])
    run, _ = play(callback, [9, 8, 7])
    assert run.optimizer.lr == 1.0


@pytest.mark.parametrize("factor", [0, 1, 1.5, -0.1, NAN])
def test_bad_factor(factor):
    with pytest.raises(ValueError, match=f"factor must be between 0 and 1, got {factor}"):
        ReduceLROnPlateau(factor=factor)


def test_reduce_on_plateau_says_so(capsys):
    play(ReduceLROnPlateau(patience=1, verbose=1), [1, 1])
    assert capsys.readouterr().out == "Epoch 2: learning rate reduced to 0.1\n"


# A loss that is not a number


@pytest.mark.scenario("N12", "N13")
def test_fit_stops_at_a_loss_that_is_not_finite():
    model = make_model()
    x = np.ones((40, 3), np.float32)
    x[5] = NAN
    before = model.state_dict()
    weights = []

    class Watch(Callback):
        def on_batch_end(self, step, logs):
            weights.append(model.state_dict()["dense.weight"])

    with pytest.warns(RuntimeWarning, match=r"epoch 1, step \d+: the loss is nan, training stops"):
        history = dl.fit(
            model, x, np.zeros(40, int), epochs=9, batch_size=1, verbose=0, seed=1,
            optimizer=dl.optim.SGD(model, 0.1), callbacks=[Watch()],
        )  # fmt: skip
    assert history.epoch == [0] and 1 < len(weights) < 40 and math.isnan(history.history["loss"][0])
    assert not np.array_equal(before["dense.weight"], weights[0])
    np.testing.assert_array_equal(weights[-1], weights[-2])  # the step that went wrong changed nothing
    assert np.isfinite(weights[-1]).all()


# History


def test_history_of_columns_and_seconds():
    history = History()
    play(history, ROWS)
    assert history.history["loss"] == [1.5, 0.1 + 0.2] and history.epoch == [0, 1]
    assert len(history.seconds) == 2 and all(0 <= s < 1 for s in history.seconds)


# The progress bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(callbacks=(), verbose=1, epochs=2, n=40):
    model = make_model()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, 3)).astype(np.float32), rng.integers(0, 2, n)
    return dl.fit(
        model, x, y, epochs=epochs, batch_size=4, optimizer=dl.optim.SGD(model, 0.1), callbacks=callbacks,
        verbose=verbose, validation_data=(x[:5], y[:5]),
    )  # fmt: skip


LINE = r"Epoch (\d)/2 - \d+s - \d+ms/step - loss: \d\.\d{4} - accuracy: \d\.\d{4} - val_loss: \d\.\d{4} - val_accuracy: \d\.\d{4}"


def test_one_line_an_epoch_where_there_is_no_terminal(capsys):
    history = fit()
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and [re.fullmatch(LINE, line)[1] for line in lines] == ["1", "2"]
    assert f"loss: {history.history['loss'][1]:.4f}" in lines[1]
    assert f"val_accuracy: {history.history['val_accuracy'][0]:.4f}" in lines[0]
    assert not re.search(r"[^\x20-\x7e\n]", out)  # no control codes, plain ASCII


def test_silence(capsys):
    fit(verbose=0)
    assert capsys.readouterr() == ("", "")


def test_a_file_gets_no_control_codes():
    file = io.StringIO()
    fit([ProgressBar(file)], verbose=0)
    assert file.getvalue().count("\n") == 2 and not re.search(r"[^\x20-\x7e\n]", file.getvalue())


def test_a_bar_on_a_terminal():
    terminal = Terminal()
    history = fit([ProgressBar(terminal)], verbose=0)
    out = terminal.getvalue()
    frames = [frame.strip() for frame in re.split(r"[\r\n]", out) if frame.strip()]
    assert frames[0].startswith("Epoch 1/2") and "0/10" in frames[0]
    assert re.search(r"\[\d\d:\d\d<(\d\d:\d\d|\?)", frames[0])  # elapsed < remaining
    for epoch in (1, 2):
        last = [f for f in frames if f.startswith(f"Epoch {epoch}/2")][-1]
        assert re.fullmatch(LINE, last)
        for key, values in history.history.items():
            assert f"{key}: {values[epoch - 1]:.4f}" in last
    assert out.count("\n") == 2  # each epoch keeps its line, not its bar
    assert not re.search(r"nan|inf|-\d\d:", out)


def test_the_bar_is_chosen_by_the_terminal_of_stderr(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    fit()
    assert "0/10" in terminal.getvalue()
    assert capsys.readouterr().out.count("\n") == 2  # the lines go to the output


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_bar_is_closed_after_an_error(error):
    class Stop(Callback):
        def on_batch_end(self, step, logs):
            if step == 3:
                raise error

    terminal = Terminal()
    bar = ProgressBar(terminal)
    with pytest.raises(error):
        fit([bar, Stop()], verbose=0)
    assert bar._bar is None and terminal.getvalue().endswith("\r")  # the line is wiped


def test_a_slow_epoch_shows_its_metrics_meanwhile():
    class Slow(Callback):
        def on_batch_end(self, step, logs):
            time.sleep(0.06)

    terminal = Terminal()
    fit([ProgressBar(terminal), Slow()], verbose=0)
    assert re.search(
        r"\d/10 \[00:00<00:0\d, \d+ms/step - loss: \d\.\d{4} - accuracy: \d\.\d{4}\]", terminal.getvalue()
    )


def test_pace_counts_training_only(monkeypatch):
    """Validation and callbacks after the last step do not count as time of the steps."""
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr("minidl.callbacks.progress.time.perf_counter", lambda: next(clock) / 10)
    file = io.StringIO()
    bar = ProgressBar(file)
    bar.run = Run(None, None, epochs=1, steps=2)
    bar.on_epoch_begin(0)  # 0.0 s
    bar.on_batch_end(0, {"loss": 1.0})  # 0.1 s
    bar.on_batch_end(1, {"loss": 1.0})  # 0.2 s
    for _ in range(50):
        next(clock)
    bar.on_epoch_end(0, {"loss": 1.0})
    assert "- 100ms/step -" in file.getvalue() and "- 5s -" in file.getvalue()


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_training_goes_on_when_nobody_can_listen(error):
    class Closed(io.StringIO):
        def write(self, text):
            raise error

    assert len(fit([ProgressBar(Closed())], verbose=0).epoch) == 2
