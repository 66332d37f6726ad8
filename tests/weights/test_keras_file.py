"""Files that Keras wrote, and HDF5 files that mean harm."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl.weights import WeightsError, read

h5py = pytest.importorskip("h5py", reason="Keras's files need h5py: pip install 'minidl[keras]'")
FILES = Path(__file__).parent / "files"
KINDS = [".h5", ".weights.h5", ".keras"]


def net():
    layers = dl.layers
    return dl.Sequential(
        layers.Conv2D(4, 3, padding="same", name="first"), layers.BatchNorm(momentum=0.01, eps=1e-3, name="norm"),
        layers.ReLU(), layers.MaxPool2D(2), layers.Flatten(), layers.Dense(3, name="dense"), input_shape=(6, 6, 2),
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_import_gives_the_same_outputs(kind):
    model, io = net(), np.load(FILES / "keras_net_io.npz")
    weights = read(FILES / f"keras_net{kind}")
    assert weights.origin == "keras"
    assert len(weights) == 8
    assert dl.weights.load(model, weights) == ([], [], [])
    np.testing.assert_allclose(dl.predict(model, io["x"]), io["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.scenario("B54", "B55")
@pytest.mark.parametrize("kind", KINDS)
def test_more_than_ten_layers_of_a_class_and_names_like_groups(kind):
    names = [*(f"d{i}" for i in range(10)), "dense_1", "dense"]
    model = dl.Sequential(*(dl.layers.Dense(2, name=name) for name in names), input_shape=(2,))
    dl.weights.load(model, FILES / f"keras_deep{kind}")
    io = np.load(FILES / "keras_deep_io.npz")
    np.testing.assert_allclose(dl.predict(model, io["x"]), io["y"], rtol=1e-5)


def old(path, layers, split=False):
    """A file in the layout of Keras 1 and 2."""
    with h5py.File(path, "w") as file:
        names = [name.encode() for name in layers]
        if split:
            file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:1], names[1:]
        else:
            file.attrs["layer_names"] = names
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, value in arrays.items():
                group[key] = value


def test_old_layout(tmp_path):
    layers = {
        "conv_1": {"conv_1_W": np.ones((3, 3, 1, 2)), "conv_1_b": np.zeros(2)},
        "dense": {"dense/kernel:0": np.ones((2, 2))},
    }
    old(tmp_path / "w.h5", layers)
    weights = read(tmp_path / "w.h5")
    assert {key: value.shape for key, value in weights.items()} == {
        "conv_1/conv_1_W": (3, 3, 1, 2), "conv_1/conv_1_b": (2,), "dense/kernel": (2, 2),
    }  # fmt: skip


def external_link(file):
    file["layers/dense/vars/0"] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file):
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense/vars/0")


def soft_group(file):
    file["layers"] = h5py.SoftLink("/")


def external_storage(file):
    file.create_dataset("layers/dense/vars/0", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (4,))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def shape_bomb(file):
    file.create_dataset("layers/dense/vars/0", (1 << 34,), "f4", chunks=(1 << 20,))


def strings(file):
    file["layers/dense/vars/0"] = np.array([b"a", b"b"])


def nothing(file):
    file.create_group("layers")


@pytest.mark.scenario("B45", "B46", "B47", "B48", "B49")
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (external_link, "ExternalLink"), (soft_link, "SoftLink"), (soft_group, "SoftLink"), (external_storage, "in another file"),
        (virtual, "in another file"), (shape_bomb, "declares 68719476736 bytes"), (strings, "numbers of type"), (nothing, "no layers"),
    ],
)  # fmt: skip
def test_harm_is_refused(write, message, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write(file)
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "w.h5")


@pytest.mark.scenario("B50")
def test_damage(tmp_path):
    for name in ("keras_net.h5", "keras_net.keras"):
        data = (FILES / name).read_bytes()
        (tmp_path / "w").write_bytes(data[: len(data) // 2])
        with pytest.raises(WeightsError, match="cannot read weights from"):
            read(tmp_path / "w")


@pytest.mark.scenario("B53")
def test_archive_without_weights_or_with_a_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", bytes(100_000_000))
    with pytest.raises(WeightsError, match="would unpack to"):
        read(tmp_path / "w.keras")


@pytest.mark.scenario("B52")
def test_a_config_is_never_read(tmp_path):
    """Weights come from the arrays alone: what the file says about code does not matter."""
    shutil.copy(FILES / "keras_net.keras", tmp_path / "w.keras")
    with (
        zipfile.ZipFile(FILES / "keras_net.keras") as source,
        zipfile.ZipFile(tmp_path / "w.keras", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(
                name,
                b'{"class_name": "Lambda", "module": "os"}' if name == "config.json" else source.read(name),
            )
    assert len(read(tmp_path / "w.keras")) == 8
