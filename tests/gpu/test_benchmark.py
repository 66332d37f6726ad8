"""The command for a GPU machine, exercised on the fake: every part that needs no other library."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest

import minidl as dl
from benchmarks import gpu, mnist_epoch
from benchmarks.networks import Case, conv

SMALL = Case(
    "small", "small", (conv(3, 3, 1, stride=2), ("relu",), ("batch_norm",), ("max_pool", 2, 1), ("dropout", 0.5), ("flatten",), ("dense", 4)),
    (6, 6, 1), 4, 8,
)  # fmt: skip


def test_smoke(cupy):
    assert gpu.smoke()["largest_error"] < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_contestants_find_the_same_losses(cupy, device, monkeypatch, precision):
    found = {}
    monkeypatch.setenv("GPU_PRECISION", precision)
    for mode in ("eager", "graph"):
        monkeypatch.setenv("GPU_MODE", mode)
        device.forget()
        found[mode] = gpu.contestant("minidl_gpu", SMALL, 0.0)
        assert (device.graph_launches > 10) == (mode == "graph")
        assert device.stream is None
    gpu.compare(found, 1)
    assert not any("error" in row for row in found.values())
    assert found["eager"]["losses"][2] < found["eager"]["losses"][0]
    text = gpu.table("a title", precision, found | {"torch_gpu:eager": {"error": "no such library"}})
    assert text.count(" us") == 2
    assert "no such library" in text
    json.dumps(found)


def test_other_losses_are_marked():
    rows = {
        "a": {"losses": [1.0, 0.9, 0.8]},
        "b": {"losses": [1.0, 0.9, 0.8001]},
        "c": {"losses": [1.0, 0.5, 0.3]},
    }
    gpu.compare(rows, 1)
    assert [name for name, row in rows.items() if "error" in row] == ["c"]


@pytest.fixture
def squares(monkeypatch):
    """Images that a small network learns in 80 batches: a square whose place is the class."""
    for name, value in (("FILTERS", (8, 8)), ("HIDDEN", 32), ("BATCH", 8), ("PEAK", 0.004)):
        monkeypatch.setattr(mnist_epoch, name, value)
    labels = np.arange(644, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 40, (644, 28, 28, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[7 * (label // 4) :, 7 * (label % 4) :][:7, :7] += 200
    return (images, labels), (images[:100], labels[:100])


def test_one_epoch_of_mnist(cupy, squares):
    dl.backend.precision("tf32")
    run = mnist_epoch.with_minidl(squares, 0, "cuda:0")
    assert set(run) == {"wall_ms", "gpu_ms", "accuracy"}
    assert run["accuracy"] > 0.9


@pytest.mark.oracle
def test_one_epoch_of_mnist_in_torch(squares):
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # which do not wait for each other on a busy machine
    try:
        run = mnist_epoch.with_torch(squares, 0, "cpu")
    finally:
        torch.set_num_threads(threads)
    assert set(run) == {"wall_ms", "accuracy"}
    assert run["accuracy"] > 0.9


def test_both_libraries_follow_one_cycle():
    """The rate that `fit` computes is the one that PyTorch's loop sets."""
    rate = dl.optim.WarmUp(dl.optim.CosineDecay(mnist_epoch.PEAK, 1), mnist_epoch.WARM_UP)
    for epoch in (0.0, 0.1, 0.3, 0.7, 1.0):
        assert mnist_epoch.one_cycle(epoch) == pytest.approx(rate(epoch), abs=1e-12)


def test_epochs_of_both_libraries(monkeypatch, capsys):
    """Lines of processes of their own; without PyTorch there is ours alone."""
    line = json.dumps({"seed": 0, "wall_ms": 50.0, "gpu_ms": 40.0, "accuracy": 0.991})

    def run(command, **_):
        torch = "torch" in command
        return types.SimpleNamespace(
            returncode=int(torch), stdout="" if torch else f"{line}\n", stderr="No module named 'torch'\n"
        )

    monkeypatch.setattr(gpu.subprocess, "run", run)
    results = gpu.mnist()
    assert results["minidl"]["runs"][0]["accuracy"] == 0.991
    assert results["torch"] == {"runs": [], "error": "No module named 'torch'"}
    assert "40.0 ms on the GPU, 99.10 %" in capsys.readouterr().out


def test_turns_and_lines(cupy, device, monkeypatch, capsys):
    """All modes and precisions of a library in one process, a line each; failures too."""
    monkeypatch.setattr(
        gpu, "cases", lambda: {"small": SMALL, "wrong": dataclasses.replace(SMALL, classes=-1)}
    )
    monkeypatch.setattr(gpu.os, "environ", dict(gpu.os.environ))
    gpu.contestants("minidl_gpu", ["small", "wrong"], 0.0)
    done = types.SimpleNamespace(stdout=capsys.readouterr().out.encode(), stderr=b"")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *_, **__: done)
    rows = gpu.contest("minidl_gpu", ["small", "wrong"], 0.0, 1)
    assert len(rows) == 8
    for (name, _, _), row in rows.items():
        assert ("error" in row) == (name == "wrong")
    table = gpu.steps(["small"], 0.0)["small fp32"]
    assert not any("error" in row for peer, row in table.items() if peer.startswith("minidl"))


def test_every_case_can_be_built():
    for case in gpu.cases().values():
        steps = case.walk()
        assert all(n > 0 for _, _, after in steps for n in after), case.name
        assert steps[-1][2] == (case.classes,), case.name
    assert [after[0] for layer, _, after in gpu.ALEXNET.walk() if layer[0] in ("conv", "max_pool")] == [
        55, 27, 27, 13, 13, 13, 13, 6,
    ]  # fmt: skip


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert gpu.main() == 2
    assert "minidl[cuda12]" in capsys.readouterr().err
