"""Each data set from small files in its published format, in every layout that is accepted."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from minidl import data
from minidl.data import DataError, registry
from minidl.data.registry import Blob


def check_idx(splits, tiny, transpose=False):
    for (x, y), which in zip(splits, ("train", "test"), strict=True):
        images = getattr(tiny, f"x_{which}")
        expected = images.transpose(0, 2, 1) if transpose else images
        np.testing.assert_array_equal(x[..., 0], expected)
        np.testing.assert_array_equal(y, getattr(tiny, f"y_{which}"))
        assert x.shape[1:] == (28, 28, 1) and x.dtype == np.uint8 and y.dtype == np.int64
        assert x.flags.c_contiguous and x.flags.writeable and y.flags.writeable


@pytest.mark.parametrize("folder", ["mnist", "MNIST", "MNIST/raw"])
def test_mnist_gz(folder, places, tiny_mnist):
    tiny = tiny_mnist()
    tiny.write(places.own / folder)
    check_idx(data.mnist(), tiny)


def test_mnist_unpacked(places, tiny_mnist):
    tiny = tiny_mnist()
    folder = places.own / "mnist"
    folder.mkdir()
    for name, raw in tiny.raw.items():
        (folder / name).write_bytes(raw)
    check_idx(data.mnist(), tiny)
    name = "t10k-labels-idx1-ubyte"
    (folder / name).write_bytes(tiny.raw[name][:-1] + b"\x09")
    with pytest.raises(DataError, match=f"{name} is altered"):
        data.mnist()


@pytest.mark.scenario("B71")
def test_emnist_in_zip_as_stored_and_upright(places, tiny_emnist):
    (places.own / "gzip.zip").write_bytes(tiny_emnist.zip)
    check_idx(data.emnist(), tiny_emnist)
    check_idx(data.emnist("letters", transpose=True), tiny_emnist, transpose=True)
    assert data.emnist()[0][1].min() == 1


@pytest.mark.parametrize("folder", ["emnist", "emnist/gzip", "EMNIST/raw"])
def test_emnist_loose(folder, places, tiny_emnist):
    tiny_emnist.write(places.own / folder)
    check_idx(data.emnist(), tiny_emnist)


def test_emnist_altered_zip_is_refused(places, tiny_emnist):
    middle = len(tiny_emnist.zip) // 2
    bad = bytearray(tiny_emnist.zip)
    bad[middle] ^= 1
    (places.own / "gzip.zip").write_bytes(bytes(bad))
    with pytest.raises(DataError, match=r"gzip.zip is altered: expected md5 "):
        data.emnist()


def test_file_of_unknown_checksum_must_have_the_right_size(places, tiny_emnist, monkeypatch):
    parts = []
    for part in tiny_emnist.parts:
        name, raw = part.forms[1].name, part.forms[1].content
        parts.append(registry.idx_part(name, Blob(), Blob(raw.nbytes)))
    dataset = replace(data.DATASETS["emnist/letters"], parts=tuple(parts))
    monkeypatch.setitem(data.DATASETS, "emnist/letters", dataset)
    folder = tiny_emnist.write(places.own / "emnist")
    check_idx(data.emnist(), tiny_emnist)
    name = "emnist-letters-test-labels-idx1-ubyte"
    fewer = bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])
    (folder / f"{name}.gz").write_bytes(gzip.compress(fewer))
    with pytest.raises(DataError, match="unpacked is truncated: expected 12 bytes, found 11"):
        data.emnist()
    (folder / f"{name}.gz").write_bytes(bytes(70_000))
    with pytest.raises(DataError, match="too long: expected at most 65548, found 70000"):
        data.emnist()


def test_emnist_unknown_split():
    with pytest.raises(ValueError, match=r"split must be one of letters, .* got 'lettres'"):
        data.emnist("lettres")


@pytest.mark.scenario("B65", "B66")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y_train": np.arange(5)}, "6 images but 5 labels"),
        ({"y_test": np.array([0, 1, 2, 10])}, "labels must lie in 0..9, found 0..10"),
        (
            {"x_test": np.zeros((4, 28, 27))},
            r"expected uint8 \(N, 28, 28\), found uint8 \(4, 28, 27\)",
        ),
        ({"y_test": np.zeros((4, 1))}, "one row of integers"),
    ],
)
def test_sound_files_with_wrong_content(changes, reason, places, tiny_mnist):
    tiny_mnist(**changes).write(places.own / "mnist")
    with pytest.raises(DataError, match=reason):
        data.mnist()


def write_cifar(tiny, folder, kind):
    folder.mkdir(parents=True, exist_ok=True)
    if kind in tiny.tars:
        (folder / f"cifar-10-{kind}.tar.gz").write_bytes(tiny.tars[kind])
        return
    files, suffix = {
        "bin": (tiny.binary, ".bin"),
        "pickle": (tiny.pickled, ""),
        "xz": (tiny.xz, ".xz"),
    }[kind]
    for name, content in files.items():
        (folder / (name + suffix)).write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("binary", "cifar-10"),
        ("python", "cifar10"),
        ("python", ""),
        ("bin", "cifar-10/cifar-10-batches-bin"),
        ("bin", "cifar-10"),
        ("pickle", "cifar-10-batches-py"),
        ("xz", "cifar-10/cifar-10-batches-py"),
    ],
)
def test_cifar10(kind, folder, places, tiny_cifar):
    write_cifar(tiny_cifar, places.own / folder, kind)
    (x_train, y_train), (x_test, y_test) = data.cifar10()
    np.testing.assert_array_equal(x_train, tiny_cifar.x[:5].reshape(15, 32, 32, 3))
    np.testing.assert_array_equal(y_train, tiny_cifar.y[:5].reshape(15))
    np.testing.assert_array_equal(x_test, tiny_cifar.x[5])
    np.testing.assert_array_equal(y_test, tiny_cifar.y[5])
    assert x_train.dtype == x_test.dtype == np.uint8 and y_train.dtype == np.int64
    assert x_train.flags.c_contiguous and x_test.flags.c_contiguous


@pytest.mark.parametrize("kind", ["binary", "python", "bin", "pickle", "xz"])
def test_cifar10_altered(kind, places, tiny_cifar):
    folder = places.own / "cifar-10"
    write_cifar(tiny_cifar, folder, kind)
    victim = sorted(folder.iterdir())[-1]
    bad = bytearray(victim.read_bytes())
    bad[len(bad) // 2] ^= 1
    victim.write_bytes(bytes(bad))
    with pytest.raises(DataError) as caught:
        data.cifar10()
    assert str(victim) in str(caught.value)


def test_altered_pickle_never_runs(places, tiny_cifar, monkeypatch, tmp_path):
    import lzma
    import os
    import pickle

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    write_cifar(tiny_cifar, places.own / "cifar-10", "xz")
    (places.own / "cifar-10" / "test_batch.xz").write_bytes(lzma.compress(pickle.dumps(Bomb())))
    with pytest.raises(DataError, match=r"test_batch.xz"):
        data.cifar10()
    assert not (tmp_path / "canary").exists()


@pytest.mark.scenario("B71")
def test_class_names_are_indexed_by_label():
    assert data.class_names("cifar10")[3] == "cat"
    assert data.class_names("emnist")[1] == "A" and data.class_names("emnist")[26] == "Z"
    assert len(data.class_names("emnist/byclass")) == 62
    assert len(data.class_names("emnist/balanced")) == 47
    assert data.class_names("fashion-mnist")[9] == "Ankle boot"
    with pytest.raises(ValueError, match="did you mean 'fashion_mnist'"):
        data.class_names("fashion_mnits")


def test_registry_is_complete():
    for name, dataset in data.DATASETS.items():
        for part in dataset.parts:
            mirrors = part.mirrors or next(f.archive for f in part.forms if f.archive).mirrors
            assert all(m.startswith(("https://", "http://")) and m.endswith("/") for m in mirrors)
            for form in part.forms:
                blobs = [form.disk, form.content, form.archive.blob if form.archive else form.disk]
                for b in blobs:
                    algorithm, _, digits = b.checksum.partition(":")
                    assert len(digits) == {"": 0, "md5": 32, "sha256": 64}[algorithm], name


def test_gz_of_other_bytes_with_same_content_is_altered(places, tiny_mnist):
    tiny = tiny_mnist()
    folder = tiny.write(places.own / "mnist")
    name = "train-labels-idx1-ubyte"
    (folder / f"{name}.gz").write_bytes(gzip.compress(tiny.raw[name], mtime=1))
    with pytest.raises(DataError, match="is altered"):
        data.mnist()
