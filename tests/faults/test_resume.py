"""A run that goes on from a checkpoint equals the uninterrupted one, or says why it cannot."""

from __future__ import annotations

import json
import math
import os
import time

import numpy as np
import pytest

import minidl as dl
from minidl import checkpoint, kernels, weights
from tests.faults import kill_rounds
from tests.faults.training import BATCH, EPOCHS, STEPS, build, data, train


class StopAfter(dl.callbacks.Callback):
    """What a power cut is to the process: nothing is tidied up by minidl after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_batch_end(self, step, logs):
        if self.run.epoch * self.run.steps + self.run.step == self.steps:
            raise KeyboardInterrupt


def interrupted(folder, steps, **arguments):
    folder.mkdir(exist_ok=True)
    with pytest.raises(KeyboardInterrupt):
        train(folder, callbacks=[StopAfter(steps)], **arguments)


def resumed(folder, **arguments):
    return train(folder, callbacks=[StopAfter(-1)], **arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(weights, history, CSV, best weights) of the run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    model, history = resumed(folder)
    return (
        model.state_dict(),
        history,
        (folder / "history.csv").read_text(),
        weights.read(folder / "best.safetensors"),
    )


def assert_equal(folder, model, history, whole):
    expected, told, csv, best = whole
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name], name)
    assert history.history == told.history
    assert history.epoch == told.epoch
    assert (folder / "history.csv").read_text() == csv
    for name, value in weights.read(folder / "best.safetensors").items():
        np.testing.assert_array_equal(value, best[name], name)


@pytest.mark.scenario("F11", "F12", "F13", "F14")
@pytest.mark.parametrize("every", [1, 2, 3, None], ids="every {}".format)
@pytest.mark.parametrize("steps", [1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 2, EPOCHS * STEPS])
def test_resumed_equals_uninterrupted(steps, every, tmp_path, whole):
    """Dropout, augmentation, batch norm, Adam, schedule, early stopping, best weights, CSV: bit for bit."""
    interrupted(tmp_path, steps, every=every)
    model, history = resumed(tmp_path, every=every)
    assert_equal(tmp_path, model, history, whole)


@pytest.mark.scenario("F12")
def test_interrupted_again_and_again(tmp_path, whole):
    for steps in range(2, EPOCHS * STEPS, 3):
        interrupted(tmp_path, steps)
    model, history = resumed(tmp_path)
    assert_equal(tmp_path, model, history, whole)


@pytest.mark.scenario("F1", "F12")
def test_kill_9(tmp_path):
    """A few rounds here; tests/faults/kill_rounds.py does hundreds."""
    result = kill_rounds.rounds(3)
    assert result["kills"] >= 3
    assert result["losses"] == 0


@pytest.mark.parametrize("rule", [
    lambda m: dl.optim.SGD(m, dl.optim.StepDecay(0.05, 1), momentum=0.9),
    lambda m: dl.optim.RMSprop(m, 0.003, momentum=0.5),
    lambda m: dl.optim.AdamW(m, dl.optim.CosineDecay(0.01, 3)),
], ids=["sgd", "rmsprop", "adamw"])  # fmt: skip
@pytest.mark.scenario("F11")
def test_every_optimizer(rule, tmp_path):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    expected, _ = resumed(tmp_path / "whole", optimizer=rule)
    interrupted(tmp_path / "cut", 7, optimizer=rule)
    model, _ = resumed(tmp_path / "cut", optimizer=rule)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected.state_dict()[name])


@pytest.mark.scenario("F11")
def test_frozen_layers_and_cached_features(tmp_path):
    def frozen():
        model = build()
        model[:3].freeze()
        return model

    arguments = {"augment": None, "cache_frozen": True}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    expected, _ = resumed(tmp_path / "whole", model=frozen(), **arguments)
    interrupted(tmp_path / "cut", 7, model=frozen(), **arguments)
    model, _ = resumed(tmp_path / "cut", model=frozen(), **arguments)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected.state_dict()[name])


@pytest.mark.scenario("F14")
def test_a_learning_rate_callback_is_not_applied_twice(tmp_path):
    class Half(dl.callbacks.LearningRate):
        def __init__(self):
            super().__init__(lambda epoch, lr: lr / 2)

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    arguments = {"epochs": 3, "batch_size": BATCH, "verbose": 0, "resume": "auto"}

    def run(name, steps):
        model = build()
        optimizer = dl.optim.SGD(model, 0.1)
        saver = dl.callbacks.Checkpoint(tmp_path / name, every=1)
        dl.fit(model, *data(), optimizer=optimizer, callbacks=[Half(), StopAfter(steps), saver], **arguments)
        return optimizer.lr

    with pytest.raises(KeyboardInterrupt):
        run("cut", STEPS + 2)
    assert run("cut", -1) == run("whole", -1) == 0.1 / 8


def test_a_finished_run_is_not_done_again(tmp_path, whole):
    resumed(tmp_path)
    model, history = resumed(tmp_path)
    assert_equal(tmp_path, model, history, whole)


def test_more_epochs_go_on(tmp_path):
    _, first = resumed(tmp_path, epochs=2)
    _, history = resumed(tmp_path, epochs=3)
    assert history.epoch == [0, 1, 2]
    assert history.history["loss"][:2] == first.history["loss"]


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    class Enough(dl.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            self.run.stop = True

    for _ in range(2):
        _, history = train(tmp_path, callbacks=[Enough()])
        assert history.epoch == [0]


# Damage


def damage(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.scenario("F9")
def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole):
    interrupted(tmp_path, 8)
    newest, before = checkpoint.paths(tmp_path / "checkpoints")
    damage(newest)
    with pytest.warns(
        RuntimeWarning, match=rf"{newest.name}.*CRC-32.*going on from the one before, {before.name}"
    ):
        model, history = resumed(tmp_path)
    assert_equal(tmp_path, model, history, whole)


@pytest.mark.scenario("F9")
def test_all_checkpoints_damaged(tmp_path):
    interrupted(tmp_path, 8)
    for path in checkpoint.paths(tmp_path / "checkpoints"):
        damage(path)
    model = build()
    before = model.state_dict()
    with pytest.raises(dl.CheckpointError, match=r"no checkpoint in .* can be read; move them away"):
        train(tmp_path, model=model, callbacks=[StopAfter(-1)])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.scenario("F10")
def test_what_a_crash_left_is_ignored_and_tidied_up(tmp_path, whole):
    interrupted(tmp_path, 8)
    folder = tmp_path / "checkpoints"
    old, young = (
        folder / ".checkpoint-0000000009.safetensors.tmp-x",
        folder / ".checkpoint-0000000010.safetensors.tmp-y",
    )
    for path, age in ((old, 2 * checkpoint.DAY), (young, 60)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    model, history = resumed(tmp_path)
    assert_equal(tmp_path, model, history, whole)
    assert not old.exists()
    assert young.exists()


def test_only_the_newest_are_kept(tmp_path):
    resumed(tmp_path)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == [checkpoint.NAME.format(n) for n in (EPOCHS * STEPS - 1, EPOCHS * STEPS)]


# Other runs


@pytest.mark.scenario("F16")
@pytest.mark.parametrize(("change", "words"), [
    ({"model": lambda: build(filters=5)}, ["layer 'conv2d'", "weights 'conv2d.weight'", "(3, 3, 1, 4)", "(3, 3, 1, 5)"]),
    ({"optimizer": lambda m: dl.optim.SGD(m, 0.01)}, ["optimizer: Adam", "SGD"]),
    ({"optimizer": lambda m: dl.optim.Adam(m, 0.02)}, ["lr=0.01", "lr=0.02"]),
    ({"batch_size": 8}, ["batch_size: 16 in the checkpoint, 8 now"]),
    ({"seed": 2}, ["seed: 1 in the checkpoint, 2 now"]),
    ({"augment": None}, ["augment: RandomRotation(degrees=9.0", "None now"]),
    ({"loss": lambda outputs, y: dl.ops.cross_entropy(outputs, y)}, ["loss: cross_entropy in the checkpoint"]),
], ids=lambda v: next(iter(v)) if isinstance(v, dict) else "")  # fmt: skip
def test_another_run_is_refused(change, words, tmp_path):
    interrupted(tmp_path, 7)
    model = change.pop("model", build)()
    before = model.state_dict()
    with pytest.raises(dl.CheckpointError, match="written by another run; nothing was loaded") as caught:
        train(tmp_path, model=model, callbacks=[StopAfter(-1)], **change)
    assert [word for word in words if word not in str(caught.value)] == []
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.scenario("F15")
def test_another_environment_is_a_warning(tmp_path, whole, monkeypatch):
    interrupted(tmp_path, 7)
    real = kernels.conditions()
    monkeypatch.setattr(kernels, "conditions", lambda: real | {"threads": 64})
    with pytest.warns(RuntimeWarning, match=r"threads was \d+, now 64"):
        model, history = resumed(tmp_path)
    assert_equal(tmp_path, model, history, whole)


def test_a_folder_in_use_is_not_written_over(tmp_path):
    interrupted(tmp_path, 7)
    with pytest.raises(dl.CheckpointError, match=r"holds 2 checkpoint\(s\) of an earlier run"):
        resumed(tmp_path, resume=None)


@pytest.mark.parametrize("resume", ["nowhere", "nowhere.safetensors", "auto"])
def test_nothing_to_go_on_from(resume, tmp_path):
    (tmp_path / "nowhere").mkdir()
    model, name = build(), resume if resume == "auto" else tmp_path / resume
    with pytest.raises(dl.CheckpointError, match=r"no checkpoint in|cannot read|needs a Checkpoint"):
        dl.fit(model, *data(), epochs=1, batch_size=8, optimizer=dl.optim.Adam(model), resume=name, verbose=0)


def test_resume_from_a_file_without_writing_more(tmp_path, whole):
    interrupted(tmp_path, 7)
    older = checkpoint.paths(tmp_path / "checkpoints")[-1]
    model = build()
    names = ("EarlyStopping", "ReduceLROnPlateau", "CSVLogger", "ModelCheckpoint", "StopAfter")
    assert ", ".join(("History", *names)) == checkpoint.load(older).facts["settings"]["callbacks"]
    with pytest.raises(dl.CheckpointError, match="callbacks: History, EarlyStopping"):
        dl.fit(
            model, *data(), epochs=3, batch_size=BATCH, optimizer=dl.optim.Adam(model, 0.01), seed=1, resume=older,
            augment=dl.data.RandomRotation(9), verbose=0,
        )  # fmt: skip


# What is not finite


@pytest.mark.scenario("N13")
def test_nothing_that_is_not_finite_is_written(tmp_path):
    class Explode(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if self.run.epoch == 1:
                self.run.model[0].weight.data = np.full((3, 3, 1, 4), math.nan, np.float32)

    with pytest.warns(RuntimeWarning, match=r"weights are not finite, not written|the loss is nan"):
        train(tmp_path, callbacks=[Explode()], every=1)
    newest = checkpoint.newest(tmp_path / "checkpoints")
    assert newest.facts["progress"]["epoch"] == 1 or newest.facts["progress"]["step"] == STEPS
    assert all(np.isfinite(v).all() for v in newest.part("model/").values())


# The file


@pytest.mark.scenario("B23")
def test_a_changed_number_in_the_settings_is_noticed(tmp_path):
    interrupted(tmp_path, 4)
    path = checkpoint.paths(tmp_path / "checkpoints")[0]
    content = path.read_bytes()
    assert content.count(b'\\"seed\\": 1') == 1
    path.write_bytes(content.replace(b'\\"seed\\": 1', b'\\"seed\\": 7'))
    with pytest.raises(dl.CheckpointError, match="CRC-32"):
        checkpoint.load(path)


def test_a_weights_file_is_no_checkpoint(tmp_path):
    weights.save(build(), tmp_path / "w.safetensors")
    with pytest.raises(dl.CheckpointError, match="is no checkpoint"):
        checkpoint.load(tmp_path / "w.safetensors")


def test_a_checkpoint_is_also_a_weights_file(tmp_path):
    interrupted(tmp_path, STEPS + 2)
    path = checkpoint.paths(tmp_path / "checkpoints")[0]
    arrays = weights.read(path)
    assert {name.partition("/")[0] for name in arrays} == {"model", "optimizer", "callbacks"}
    facts = json.loads(json.dumps(checkpoint.load(path).facts))
    assert (facts["progress"]["epoch"], facts["progress"]["step"]) == (1, 1)
    assert facts["environment"]["numpy"] == np.__version__
