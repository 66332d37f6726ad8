"""Training that is told to stop, cannot write, or has nobody to talk to."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import checkpoint, weights
from minidl.callbacks import ProgressBar, Run
from tests.faults.training import EPOCHS, STEPS, build, data, train

ROOT = Path(__file__).parents[2]
CHILD = """
import signal, sys, time
from pathlib import Path
import minidl as dl
from tests.faults.training import train

class Tell(dl.callbacks.Callback):
    def on_batch_end(self, step, logs):
        if self.run.epoch * self.run.steps + self.run.step == 3:
            print("three", flush=True)
        time.sleep(0.02)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
train(Path(sys.argv[1]), callbacks=[Tell()], every=1000, epochs=500)
"""


def start(folder):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout.readline() == "three\n"
    return child


# Signals


@pytest.mark.scenario("F18")
def test_sigterm_finishes_the_step_and_writes_a_checkpoint(tmp_path):
    with start(tmp_path) as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143, child.stderr.read()
        said = child.stderr.read().splitlines()
        assert [line for line in said if not line.startswith("minidl: compiling kernels")] == []
    progress = checkpoint.newest(tmp_path / "checkpoints").facts["progress"]
    assert progress["epoch"] * STEPS + progress["step"] >= 3  # though one was due every 1000 steps


@pytest.mark.scenario("F17")
def test_ctrl_c(tmp_path):
    with start(tmp_path) as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(60) in (130, -signal.SIGINT)
        assert "KeyboardInterrupt" in child.stderr.read()
    assert (tmp_path / "history.csv").exists()


@pytest.mark.scenario("F18")
def test_a_handler_of_the_program_is_left_alone(tmp_path):
    def handler(number, frame):
        seen.append(number)

    class Send(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if self.run.epoch == self.run.step == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    seen, before = [], signal.signal(signal.SIGTERM, handler)
    try:
        _, history = train(tmp_path, callbacks=[Send()])
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert len(history.epoch) == EPOCHS


@pytest.mark.scenario("F18")
def test_sigterm_during_the_last_validation(tmp_path):
    class Send(dl.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == EPOCHS - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        train(tmp_path, callbacks=[Send()])
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert checkpoint.newest(tmp_path / "checkpoints").facts["progress"]["epoch"] == EPOCHS


@pytest.mark.scenario("F18", "N13")
def test_sigterm_when_the_loss_is_not_finite(tmp_path):
    """The newest checkpoint is still the one before."""

    class Send(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if not np.isfinite(logs["loss"]):
                os.kill(os.getpid(), signal.SIGTERM)

    calls = itertools.count(1)

    def broken(outputs, y):
        return dl.ops.cross_entropy(outputs, y) * (np.nan if next(calls) > 4 else 1.0)

    x, y = data()
    model = build()
    callbacks = [Send(), dl.callbacks.Checkpoint(tmp_path, every=1)]
    arguments = {"epochs": 2, "batch_size": 16, "optimizer": dl.optim.Adam(model), "verbose": 0}
    with pytest.warns(RuntimeWarning, match="the loss is nan"), pytest.raises(SystemExit):
        dl.fit(model, x, y, loss=broken, callbacks=callbacks, **arguments)
    progress = checkpoint.newest(tmp_path).facts["progress"]
    assert (progress["epoch"], progress["step"], progress["stop"]) == (0, 4, False)


def test_training_outside_the_main_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path)))
    thread.start()
    thread.join()
    assert results[0][1].epoch == list(range(EPOCHS))


# Writing


def counted_failure(monkeypatch, owner, name, at, error):
    """Make the `at`-th call of a function of the system fail."""
    real, calls = getattr(owner, name), itertools.count(1)

    def maybe(*args, **kwargs):
        if next(calls) == at:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, maybe)


@pytest.mark.scenario("F2", "F4")
@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (os, "replace"), (os, "chmod"), (os, "open"), (builtins, "open"), (Path, "unlink")], ids=["fsync", "replace", "chmod", "os.open", "open", "unlink"])  # fmt: skip
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "input/output error"), KeyboardInterrupt()], ids=["eio", "crash"]
)
@pytest.mark.parametrize("at", range(1, 9))
def test_a_crash_at_each_call_leaves_a_whole_checkpoint(owner, name, at, error, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    arrays = {"model/a": np.arange(6.0), "optimizer/a": np.ones(2)}
    for steps in (1, 2):
        checkpoint.write(folder, steps, arrays, {"number": steps}, keep=2)
    with monkeypatch.context() as patch:
        counted_failure(patch, owner, name, at, error)
        try:
            for steps in (3, 4):
                checkpoint.write(folder, steps, arrays, {"number": steps}, keep=2)
        except type(error):
            pass
    found = checkpoint.newest(folder)
    assert found.facts["number"] in (2, 3, 4)
    np.testing.assert_array_equal(found.arrays["model/a"], arrays["model/a"])
    assert all(checkpoint.load(path) for path in checkpoint.paths(folder))


@pytest.mark.scenario("F6")
def test_two_writers(tmp_path):
    """Each of many files that two processes write at once is wholly one's or the other's."""
    program = (
        "import sys, numpy as np\nfrom minidl import weights\n"
        "for i in range(60): weights.save({'a': np.full(5000, float(sys.argv[2]))}, sys.argv[1])"
    )
    path = tmp_path / "w.safetensors"
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)], cwd=ROOT) for n in (1, 2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            values = weights.read(path)["a"]
            assert (values == values[0]).all()
            seen.add(float(values[0]))
        time.sleep(0.001)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen <= {1.0, 2.0}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.scenario("F3")
def test_disk_full(tmp_path):
    """The last whole checkpoint stays, no part of another is left, and the error says what and where."""
    program = (
        "import resource, signal, sys, numpy as np\nfrom pathlib import Path\nfrom minidl import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "checkpoint.write(Path(sys.argv[1]), 1, {'a': np.zeros(3)}, {}, 2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "checkpoint.write(Path(sys.argv[1]), 2, {'a': np.zeros(9000)}, {}, 2)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(
        r"OSError: cannot write 72,000 bytes to .*checkpoint-0000000002", done.stderr.strip().splitlines()[-1]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0000000001.safetensors"]
    assert checkpoint.newest(tmp_path)


@pytest.mark.scenario("F5")
@pytest.mark.parametrize("make", [
    lambda folder: dl.callbacks.Checkpoint(folder / "sub"),
    lambda folder: dl.callbacks.ModelCheckpoint(folder / "w.npz"),
    lambda folder: dl.callbacks.ModelCheckpoint(folder / "{epoch}" / "w.npz"),
    lambda folder: dl.callbacks.CSVLogger(folder / "h.csv"),
], ids=["checkpoint", "model", "pattern", "csv"])  # fmt: skip
def test_where_nothing_can_be_written_is_known_before_the_first_epoch(make, tmp_path):
    (tmp_path / "file").write_text("no folder")
    model, ran = build(), []

    class Ran(dl.callbacks.Callback):
        def on_epoch_begin(self, epoch):
            ran.append(epoch)

    with pytest.raises(OSError, match="file"):
        dl.fit(
            model, *data(), epochs=1, batch_size=8, verbose=0,
            optimizer=dl.optim.Adam(model), callbacks=[Ran(), make(tmp_path / "file")],
        )  # fmt: skip
    assert ran == []


@pytest.mark.scenario("F5")
def test_a_folder_that_takes_no_files(tmp_path, monkeypatch):
    """There, but read-only or full; root may write anywhere, so the system's answer is put in its place."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(
        OSError, match=r"cannot write to the folder .*: Read-only file system; choose another one"
    ):
        train(tmp_path)


# Nobody listens


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.scenario("F20")
@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("I/O operation on closed file"), OSError(errno.EIO, "gone")]
)
def test_a_terminal_that_goes_away(error, monkeypatch):
    class Gone(Terminal):
        def write(self, text):
            if "1/" in text:
                raise error
            return super().write(text)

    monkeypatch.setattr("minidl.callbacks.progress.INTERVAL", 0)
    model = build()
    arguments = {"epochs": 2, "batch_size": 16, "optimizer": dl.optim.Adam(model), "verbose": 0}
    assert dl.fit(model, *data(), callbacks=[ProgressBar(Gone())], **arguments).epoch == [0, 1]


@pytest.mark.scenario("F20")
@pytest.mark.parametrize("case", ["pipe", "closed", "ascii", "narrow", "no colour"])
def test_output_that_cannot_be_shown(case, tmp_path):
    """Training goes on, and a file holds no control codes."""
    program = (
        "import minidl as dl\nfrom tests.faults.training import build, data\nmodel = build()\n"
        "h = dl.fit(model, *data(), epochs=3, batch_size=16, optimizer=dl.optim.Adam(model))\n"
        "open('done', 'w').write(str(h.epoch))"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    environment |= {"ascii": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, "narrow": {"COLUMNS": "20"}, "no colour": {"NO_COLOR": "1"}}.get(case, {})  # fmt: skip
    command = [sys.executable, "-c", program]
    if case == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
        child = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE
        )
        os.close(writer)
        child.communicate(timeout=60)
    elif case == "closed":
        subprocess.run([*command[:2], "import sys; sys.stdout.close(); sys.stderr.close()\n" + program], cwd=tmp_path, env=environment, check=False)  # fmt: skip
    else:
        with (tmp_path / "log").open("wb") as log:
            subprocess.run(command, cwd=tmp_path, env=environment, stdout=log, stderr=log, check=True)
        text = (tmp_path / "log").read_bytes()
        assert b"\x1b" not in text and b"\r" not in text
        assert len([line for line in text.splitlines() if line.startswith(b"Epoch")]) == 3
    assert (tmp_path / "done").read_text() == "[0, 1, 2]"


@pytest.mark.scenario("F37")
def test_the_time_left_does_not_follow_the_clock_on_the_wall(monkeypatch):
    terminal = Terminal()
    wall = iter([1e9, 0.0] * 1000)  # somebody sets it back and forth
    monkeypatch.setattr(time, "time", lambda: next(wall))
    monkeypatch.setattr("minidl.callbacks.progress.INTERVAL", 0)
    bar = ProgressBar(terminal)
    bar.run = Run(None, None, epochs=1, steps=50)
    bar.on_epoch_begin(0)
    for step in range(50):
        bar.on_batch_end(step, {"loss": 1.0})
    bar.on_epoch_end(0, {"loss": 1.0})
    times = re.findall(r"\[(\S*?)<(\S*?),", terminal.getvalue())
    assert len(times) >= 50
    assert all(re.fullmatch(r"\d\d:\d\d", value) for pair in times for value in pair)


# Callbacks that fail


@pytest.mark.scenario("F19")
def test_a_callback_that_fails_closes_the_others(tmp_path):
    class MineError(RuntimeError):
        pass

    class Fail(dl.callbacks.Callback):
        def on_batch_end(self, step, logs):
            if self.run.epoch == 1:
                raise MineError("mine")

    closed = []

    class Close(dl.callbacks.Callback):
        def on_train_end(self):
            closed.append(True)

    with pytest.raises(MineError, match="mine"):
        train(tmp_path, callbacks=[Fail(), Close()], every=1)
    assert closed == [True]
    assert checkpoint.newest(tmp_path / "checkpoints").facts["progress"]["step"] == STEPS
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 2


@pytest.mark.scenario("N6")
def test_a_last_batch_of_one(tmp_path):
    """Batch norm over dense layers cannot learn from one sample: the error says how to go on, and that works."""
    x, y = np.random.default_rng(0).random((33, 5), np.float32), np.arange(33) % 2
    layers = dl.layers

    def fit(**arguments):
        model = dl.Sequential(layers.Dense(4), layers.BatchNorm(), layers.Dense(2), input_shape=(5,))
        optimizer = dl.optim.Adam(model)
        return dl.fit(model, x, y, epochs=2, batch_size=16, optimizer=optimizer, verbose=0, **arguments)

    with pytest.raises(ValueError, match=r"drop_last=True"):
        fit()
    assert fit(drop_last=True).epoch == [0, 1]
    with pytest.raises(ValueError, match="drop_last=True leaves nothing of 33 samples in batches of 64"):
        dl.fit(build(), x, y, epochs=1, batch_size=64, optimizer=dl.optim.Adam(build()), drop_last=True)
