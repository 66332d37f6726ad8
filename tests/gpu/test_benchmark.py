"""The command for a GPU machine, exercised on the fake: every part that needs no other library."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest

import minidl as dl
from benchmarks import gpu
from benchmarks.networks import Case, conv

SMALL = Case(
    "small", "small", (conv(3, 3), ("relu",), ("batch_norm",), ("max_pool", 2), ("dropout", 0.5), ("flatten",), ("dense", 4)),
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


def test_mnist_recipe(cupy, monkeypatch):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (12, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, 12, dtype=np.uint8)
    monkeypatch.setattr(dl.data, "mnist", lambda: (data, data))
    runs = gpu.mnist()["runs"]
    assert len(runs) == 4
    assert all(0 <= run["accuracy"] <= 1 for run in runs)


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


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert gpu.main() == 2
    assert "minidl[cuda12]" in capsys.readouterr().err
