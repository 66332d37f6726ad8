"""Every experiment runs in small, is recorded, goes on after a kill, and its page agrees with the records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl as dl

ROOT = Path(__file__).parents[1]
RUNS = {  # how many are recorded, and the parameters that some of the networks are published to have
    "mnist_overfit_mlp": (1, ["3,256,330"]),
    "digits_transfer": (24, ["119,405", "120,405"]),  # without batch norm's averages
    "mnist_cnn_grid": (6, ["113,514", "225,226", "93,034", "184,266"]),
    "lenet_mnist_svhn_cifar": (9, ["62,006"]),
    "mnist_under_10k": (7, ["6,379,786", "7,688", "7,852", "10,252"]),
    "emnist_transfer": (7, ["2,527,634", "2,528,994"]),
    "vgg16_transfer": (2, ["14,781,898"]),
    "squeezenet_transfer": (4, ["727,626"]),
    "alexnet_transfer": (6, ["44,428,106"]),
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def script(name, *arguments, out, cache, code=0, **variables):
    """Run an example with nothing but what can be drawn; its output."""
    environment = {k: v for k, v in os.environ.items() if k != "MINIDL_DATA"}
    environment |= {"MINIDL_OFFLINE": "1", "MINIDL_CACHE": str(cache), **variables}
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), "--out", str(out)]
    command += [str(argument) for argument in arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def record(out, name):
    return json.loads((out / f"results/{name}-seed0.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_runs_in_small(name, cache, tmp_path):
    count, parameters = RUNS[name]
    text = script(name, "--quick", out=tmp_path, cache=cache)
    assert [number for number in parameters if f": {number} parameters" not in text] == []
    recorded = record(tmp_path, name)
    assert len(recorded["runs"]) == count
    for run, facts in recorded["runs"].items():
        assert facts["environment"]["numpy"]
        if "history" in facts:
            assert np.isfinite(facts["history"]["loss"]).all()
            assert facts["seconds"] >= 0
            assert (tmp_path / name / f"seed0/{run}.safetensors").exists()


def test_resume_keeps_what_is_recorded(cache, tmp_path):
    name, options = "mnist_cnn_grid", ("--quick", "--resume")
    script(name, *options, "--runs", "3x3-*", out=tmp_path, cache=cache)
    before = record(tmp_path, name)["runs"]
    text = script(name, *options, out=tmp_path, cache=cache)
    after = record(tmp_path, name)["runs"]
    assert list(before) == ["3x3-32", "3x3-64"]
    assert len(after) == RUNS[name][0]
    assert text.count("recorded already") == 2
    assert {run: after[run] for run in before} == before
    assert "--quick" in script(name, "--resume", out=tmp_path, cache=cache, code=2)


def test_what_cannot_run_says_so_in_one_line(cache, tmp_path):
    for name, arguments, words in (
        ("mnist_overfit_mlp", (), "train-images-idx3-ubyte"),
        ("mnist_cnn_grid", ("--device", "cuda"), "device 'cuda' needs"),
        ("squeezenet_transfer", (), "--weights FILE"),
        ("alexnet_transfer", (), "alexnet-owt-7be5be79.pth"),
        ("vgg16_transfer", (), "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    ):
        line = script(name, *arguments, out=tmp_path, cache=cache, code=2).strip()
        assert line.startswith(f"{name}: ")
        assert words in line
        assert len(line.splitlines()) == 1


def test_vgg16_from_a_file_of_keras(cache, tmp_path):
    """The whole net, from the names and order of axes that Keras's file has."""
    h5py = pytest.importorskip("h5py")
    vgg = dl.models.vgg16(include_top=False, input_shape=(32, 32, 3), seed=5)
    path = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(path, "w") as file:
        names = [layer.name for layer in vgg]
        file.attrs["layer_names"] = np.array(names, "S")
        for layer in vgg:
            group = file.create_group(layer.name)
            values = [(p, k) for p, k in ((layer.name + "_W_1:0", "weight"), (layer.name + "_b_1:0", "bias"))]
            values = values if layer.parameters() else []
            group.attrs["weight_names"] = np.array([n for n, _ in values], "S")
            for n, key in values:
                group.create_dataset(n, data=getattr(layer, key).numpy())
    script("vgg16_transfer", "--quick", "--weights", path, out=tmp_path, cache=cache)
    assert list(record(tmp_path, "vgg16_transfer")["runs"]) == ["vgg16, frozen", "vgg16, block5 unfrozen"]
    saved = dl.weights.read(tmp_path / "vgg16_transfer/seed0/vgg16, frozen.safetensors")
    np.testing.assert_array_equal(saved["block1_conv1.weight"], vgg["block1_conv1"].weight.numpy())
    tuned = dl.weights.read(tmp_path / "vgg16_transfer/seed0/vgg16, block5 unfrozen.safetensors")
    moved = [n for n in saved if n.startswith("block") and not np.array_equal(saved[n], tuned[n])]
    assert {n.partition("_")[0] for n in moved} == {"block5"}


def test_reproduce_runs_what_it_is_told(cache, tmp_path):
    environment = os.environ | {"MINIDL_OFFLINE": "1", "MINIDL_CACHE": str(cache)}
    command = [
        sys.executable,
        "-m",
        "examples.reproduce",
        "--quick",
        "--out",
        tmp_path,
        "--only",
        "mnist_overfit_mlp",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mnist_overfit_mlp, seed 0: done" in done.stdout
    assert "overfit" in record(tmp_path / "quick", "mnist_overfit_mlp")["runs"]
    assert "3,256,330" in (tmp_path / "quick/logs/mnist_overfit_mlp-seed0.log").read_text()
