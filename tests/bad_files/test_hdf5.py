"""HDF5 files that lead elsewhere, in circles, or nowhere."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from minidl.weights import read
from tests.bad_files.bounds import assert_refused

h5py = pytest.importorskip("h5py", reason="Keras's files need h5py: pip install 'minidl[keras]'")
FILES = Path(__file__).parents[1] / "weights" / "files"
PLACE = "layers/dense/vars/0"


def written(write, path):
    """The bytes of a file that `write` fills."""
    with h5py.File(path, "w") as file:
        write(file)
    return path.read_bytes()


def listed(file, layers, variables):
    """The older layout: names in attributes."""
    file.attrs["layer_names"] = [name.encode() for name in layers]
    for name in layers:
        if name not in file:
            file.create_group(name)
        file[name].attrs["weight_names"] = [v.encode() for v in variables]


@pytest.mark.scenario("B45", "B47", "B48")
@pytest.mark.parametrize("kind", ["external link", "link to a group", "external storage", "virtual"])
def test_b45_other_files_are_not_read(kind, tmp_path):
    """The secret is there, and the library alone would give it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    secret = np.full(4, 7.0, "f4")
    with h5py.File(elsewhere / "secret.h5", "w") as file:
        file["layers/dense/vars/0"] = secret
    (elsewhere / "raw").write_bytes(secret.tobytes())

    def write(file):
        if kind == "external link":
            file[PLACE] = h5py.ExternalLink(str(elsewhere / "secret.h5"), PLACE)
        elif kind == "link to a group":
            file["layers"] = h5py.ExternalLink(str(elsewhere / "secret.h5"), "/layers")
        elif kind == "external storage":
            file.create_dataset(PLACE, (4,), "f4", external=[(str(elsewhere / "raw"), 0, 16)])
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(elsewhere / "secret.h5"), PLACE, (4,))
            file.create_virtual_dataset(PLACE, layout)

    data = written(write, tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as file:
        np.testing.assert_array_equal(file[PLACE][()], secret)
    folder = tmp_path / "alone"
    folder.mkdir()
    assert_refused(data, folder / "w.h5", "leads elsewhere|in another file")


def circle(file):
    file["layers/dense/vars/0"] = np.ones(2)
    file["layers/dense/again"] = file["layers"]


def laughs(file):
    """Ten names for one group, in each of twelve groups: 10**12 ways."""
    group = file.create_group("layers")
    for level in range(12):
        below = group.create_group(f"{level}-0")
        for i in range(1, 10):
            group[f"{level}-{i}"] = below
        group = below
    group["vars/0"] = np.ones(2)


def one_array_many_times(file):
    file["one/0"] = np.zeros(1_000_000)
    for i in range(1, 100):
        file[f"one/{i}"] = file["one/0"]
    listed(file, ["one"], [str(i) for i in range(100)])


def one_layer_many_times(file):
    file["0/weight"] = np.zeros(1_000_000)
    for i in range(1, 100):
        file[str(i)] = file["0"]
    listed(file, [str(i) for i in range(100)], ["weight"])


HARM = {
    "circle": (circle, "in two places"),
    "laughs": (laughs, "in two places"),
    "one array many times": (one_array_many_times, "another array once more"),
    "one layer many times": (one_layer_many_times, "another array once more"),
    "soft link in the list": (lambda f: (listed(f, ["one"], ["weight"]), f["one"].__setitem__("weight", h5py.SoftLink("/x"))), "SoftLink"),
    "names without arrays": (lambda f: listed(f, ["one"], ["weight"]), "nothing called"),
    "a group for an array": (lambda f: f.create_group(PLACE), "is a group"),
    "an array for a group": (lambda f: f.create_dataset("layers", data=np.ones(2)), "is no group"),
    "declared and not stored": (lambda f: f.create_dataset(PLACE, (1 << 40,), "f4", chunks=(1 << 10,)), "declares"),
    "compressed zeros": (lambda f: f.create_dataset(PLACE, data=np.zeros(1 << 25, "u1"), chunks=(1 << 25,), compression=9), "unpack|declares"),
    "objects": (lambda f: f.create_dataset(PLACE, data=["a", "b"], dtype=h5py.string_dtype()), "numbers of type"),
    "references": (lambda f: f.create_dataset(PLACE, (2,), h5py.ref_dtype), "numbers of type"),
}  # fmt: skip


@pytest.mark.scenario("B46", "B49")
@pytest.mark.parametrize("name", HARM)
def test_b46_circles_and_b49_bombs(name, tmp_path):
    write, message = HARM[name]
    data = written(write, tmp_path / "w.h5")
    assert_refused(data, tmp_path / "w.h5", message, memory=100 << 20)


@pytest.mark.scenario("B51")
@pytest.mark.parametrize("start", [b"", b"\x89HDF", b"\x89HDF\r\n\x1a\n"])
@pytest.mark.parametrize("rest", [b"", b"\0" * 1000, b"<html>" * 100])
def test_b51_not_hdf5(start, rest, tmp_path):
    assert_refused(start + rest, tmp_path / "w.h5", "cannot read weights")


@pytest.mark.scenario("B50")
@pytest.mark.parametrize("name", ["keras_net.h5", "keras_net.weights.h5", "keras_net.keras"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.95, 0.999])
def test_b50_cut_off(name, share, tmp_path):
    data = (FILES / name).read_bytes()
    assert_refused(data[: int(len(data) * share)], tmp_path / "w", "cannot read weights")


@pytest.mark.scenario("B53")
def test_b53_other_members_are_not_touched(tmp_path):
    target = tmp_path / "w.keras"
    with zipfile.ZipFile(FILES / "keras_net.keras") as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
        archive.writestr("../canary", b"x")
        archive.writestr("/tmp/minidl-canary", b"x")
        archive.writestr("assets/huge", bytes(10_000_000), zipfile.ZIP_DEFLATED)
    assert len(read(target)) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["w.keras"]
    assert not Path("/tmp/minidl-canary").exists()


@pytest.mark.scenario("B52")
@pytest.mark.parametrize("config", [b'{"class_name": "Lambda"', b"\x80\x04cos\nsystem\n", b"[" * 100_000])
def test_b52_the_configuration_is_not_even_parsed(config, tmp_path):
    target = tmp_path / "w.keras"
    with zipfile.ZipFile(FILES / "keras_net.keras") as source, zipfile.ZipFile(target, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", source.read("model.weights.h5"))
    assert len(read(target)) == 8
