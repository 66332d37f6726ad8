"""Whole published networks with the weights of the framework that they come from: equal logits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import models
from minidl.weights import load

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.oracle, pytest.mark.slow]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def torch_alexnet(nn, classes=1000):
    """torchvision's layers under torchvision's names."""
    features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(9216, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, classes),
    )
    parts = {
        "features": features,
        "avgpool": nn.AdaptiveAvgPool2d(6),
        "flatten": nn.Flatten(),
        "classifier": classifier,
    }
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    return model.eval()


@pytest.mark.parametrize("size", [224, 130])
def test_alexnet_of_torch(size, tmp_path, rng):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_alexnet(torch.nn)
    torch.save(theirs.state_dict(), tmp_path / "alexnet.pth")
    mine = models.alexnet(input_shape=(size, size, 3), weights=tmp_path / "alexnet.pth")
    assert sum(p.size for p in mine.parameters()) == 61_100_840
    x = rng.standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.inference_mode():
        close(dl.predict(mine, x), theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy())


def test_alexnet_with_another_head(tmp_path):
    """As published: the last two layers become 4096 to 1024 and 1024 to 10."""
    torch = pytest.importorskip("torch")
    torch.save(torch_alexnet(torch.nn).state_dict(), tmp_path / "alexnet.pth")
    body = models.alexnet()
    load(body, tmp_path / "alexnet.pth")
    head = dl.Sequential(
        *body["classifier"][:-2], dl.layers.Dense(1024, "relu"), dl.layers.Dense(10), name="classifier"
    )
    model = dl.Sequential(*body[:-1], head, input_shape=(224, 224, 3))
    assert sum(p.size for p in model.parameters()) == 44_428_106


def test_the_example_of_alexnet(tmp_path):
    """Feature extraction with a file as torchvision publishes it."""
    torch = pytest.importorskip("torch")
    theirs = torch_alexnet(torch.nn)
    torch.save(theirs.state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    environment = {k: v for k, v in os.environ.items() if k != "MINIDL_DATA"} | {"MINIDL_OFFLINE": "1"}
    run, script = "cifar10, feature extraction", ROOT / "examples/alexnet_transfer.py"
    command = [sys.executable, script, "--quick", "--weights", tmp_path / "alexnet-owt-7be5be79.pth"]
    command += ["--runs", run, "--out", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "results/alexnet_transfer-seed0.json").read_text())
    assert record["runs"][run]["trainable"] == 4_205_578
    saved = dl.weights.read(tmp_path / f"alexnet_transfer/seed0/{run}.safetensors")
    for place in (0, 3, 6, 8, 10):
        filters = theirs.state_dict()[f"features.{place}.weight"].numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(saved[f"features.{place}.weight"], filters)
    assert saved["new1.weight"].shape == (4096, 1024)


def test_vgg16_of_torch(tmp_path, rng):
    """torchvision's names are numbers: layers are found by their order."""
    torch = pytest.importorskip("torch")
    nn, layers, channels = torch.nn, [], 3
    torch.manual_seed(0)
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    theirs = nn.Sequential()
    theirs.add_module("features", nn.Sequential(*layers))
    theirs.add_module("flatten", nn.Flatten())
    theirs.add_module(
        "classifier",
        nn.Sequential(
            nn.Linear(2048, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 7),
        ),
    )
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    mine = models.vgg16(classes=7, input_shape=(64, 64, 3), weights=tmp_path / "vgg16.pth")
    x = rng.standard_normal((2, 64, 64, 3)).astype(np.float32)
    with torch.inference_mode():
        close(dl.predict(mine, x), theirs.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_vgg16_of_keras(suffix, tmp_path, rng, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    state = np.random.get_state()  # noqa: NPY002 - Keras draws from it
    keras = pytest.importorskip("keras")
    theirs = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    path = tmp_path / f"vgg16{suffix}"
    theirs.save_weights(path) if suffix == ".weights.h5" else theirs.save(path)
    mine = models.vgg16(include_top=False, input_shape=(32, 32, 3), weights=path)
    assert sum(p.size for p in mine.parameters()) == 14_714_688
    x = rng.standard_normal((2, 32, 32, 3)).astype(np.float32)
    close(dl.predict(mine, x), theirs(x).numpy())
    np.random.set_state(state)  # noqa: NPY002
