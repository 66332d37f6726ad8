"""The readers of bytes: what they read, and that everything else is one DataError."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import DataError, formats

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
IDX = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + IMAGES.tobytes()


def test_idx_reads_images():
    array = formats.idx(IDX, "here")
    np.testing.assert_array_equal(array, IMAGES)
    assert array.dtype == np.uint8 and array.flags.writeable


@pytest.mark.parametrize(("code", "dtype"), [(9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_reads_every_big_endian_type(code, dtype):
    values = np.array([1, -2, 100], dtype)
    array = formats.idx(bytes([0, 0, code, 1, 0, 0, 0, 3]) + values.tobytes(), "here")
    assert array.tolist() == [1, -2, 100] and array.dtype.isnative


@pytest.mark.scenario("B61", "B62", "B63")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no IDX file"),
        (b"\0\0", "no IDX file"),
        (b"<html>", "no IDX file: expected 00 00 <type> <axes>, found 3c 68 74 6d"),
        (b"\x01" + IDX[1:], "no IDX file"),
        (IDX[:2] + b"\x0a" + IDX[3:], "type code 0x0a"),
        (IDX[:3] + b"\x00" + IDX[4:], "0 axes"),
        (IDX[:3] + b"\xff" + IDX[4:], "255 axes"),
        (IDX[:10], "ends inside it"),
        (IDX[:-1], "40 bytes, found 39"),
        (IDX + b"\0", "40 bytes, found 41"),
        (IDX[:4] + b"\xff\xff\xff\xff" + IDX[8:], "(4294967295, 3, 4)"),
        (IDX[:4] + b"\xff\xff\xff\xff" * 3 + IDX[16:], "found 40"),
    ],
)
def test_idx_refuses(data, reason):
    with pytest.raises(DataError) as caught:
        formats.idx(data, "here")
    assert reason in str(caught.value) and str(caught.value).startswith("here")


def records(n: int = 2) -> tuple[np.ndarray, np.ndarray, bytes]:
    x = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    y = np.arange(n)
    data = b"".join(
        bytes([label]) + b"".join(image[:, :, c].tobytes() for c in range(3))
        for label, image in zip(y, x, strict=True)
    )
    return x, y, data


def test_cifar_binary_reads_planes_as_pixels():
    x, y, data = records()
    got_x, got_y = formats.cifar_binary(data, "here")
    np.testing.assert_array_equal(got_x, x)
    np.testing.assert_array_equal(got_y, y)
    assert got_x.flags.c_contiguous and got_y.dtype == np.int64


@pytest.mark.scenario("B66", "B67")
@pytest.mark.parametrize("data", [b"", bytes(3072), bytes(3074), bytes([10]) + bytes(3072)])
def test_cifar_binary_refuses(data):
    with pytest.raises(DataError, match=r"here: (.*3073-byte records|labels must lie in 0..9)"):
        formats.cifar_binary(data, "here")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def digest(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_pickle_with_wrong_md5_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="was not opened"):
        formats.cifar_pickle(pickle.dumps(Bomb()), "0" * 32, "here")
    assert not (tmp_path / "canary").exists()


def test_pickle_with_right_md5_still_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Bomb())
    with pytest.raises(DataError, match="has no place in a data file"):
        formats.cifar_pickle(data, digest(data), "here")
    assert not (tmp_path / "canary").exists()


@pytest.mark.scenario("B65", "B66")
@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({}, "KeyError"),
        ([1], "TypeError"),
        ({"data": [1], "labels": [1]}, "two-dimensional uint8"),
        ({"data": np.zeros((1, 3072)), "labels": [1]}, "two-dimensional uint8"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, "expected (N, 3072)"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "2 images but 1 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "found 10..10"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [-1]}, "found -1..-1"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [0.5]}, "row of integers"),
    ],
)
def test_pickle_refuses(batch, reason):
    data = pickle.dumps(batch, protocol=3)
    with pytest.raises(DataError) as caught:
        formats.cifar_pickle(data, digest(data), "here")
    assert reason in str(caught.value)


def mat(**arrays) -> bytes:
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


@pytest.mark.scenario("B72")
def test_svhn_reads_and_maps_10_to_0():
    pytest.importorskip("scipy", reason="SVHN's .mat files need SciPy: minidl[svhn]")
    x = np.random.default_rng(1).integers(0, 256, (11, 32, 32, 3), np.uint8)
    stored = np.array([10, *range(1, 11)], np.uint8)[:, None]
    got_x, got_y = formats.svhn_mat(mat(X=np.moveaxis(x, 0, 3), y=stored), "here")
    np.testing.assert_array_equal(got_x, x)
    assert got_y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert got_y.dtype == np.int64 and got_x.flags.c_contiguous


@pytest.mark.scenario("B65", "B66", "B70")
def test_svhn_refuses():
    pytest.importorskip("scipy", reason="SVHN's .mat files need SciPy: minidl[svhn]")
    x, y = np.zeros((32, 32, 3, 2), np.uint8), np.ones((2, 1), np.uint8)
    good = mat(X=x, y=y)
    hdf5_header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400)
    bad = {
        "empty": b"",
        "html": b"<html></html>",
        "cut": good[:-20],
        "no y": mat(X=x),
        "version 7.3": hdf5_header,
        "layout": mat(X=x.transpose(3, 0, 1, 2), y=y),
        "dtype": mat(X=x.astype(float), y=y),
        "object": mat(X=np.array([[1, "a"]], object), y=y),
        "label 0": mat(X=x, y=y * 0),
        "label 11": mat(X=x, y=y * 11),
        "count": mat(X=x, y=y[:1]),
    }
    for data in bad.values():
        with pytest.raises(DataError, match=r"^here"):
            formats.svhn_mat(data, "here")


def test_svhn_without_scipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"minidl\[svhn\]"):
        formats.svhn_mat(b"", "here")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_files_raise_only_data_error(data):
    """Flip, cut or splice bytes of a sound file: either it reads or it is a DataError."""
    read, good = data.draw(
        st.sampled_from(
            [
                (lambda b: formats.idx(b, "here"), IDX),
                (lambda b: formats.cifar_binary(b, "here"), records(1)[2]),
                (
                    lambda b: formats.cifar_pickle(b, digest(b), "here"),
                    pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1]}, 3),
                ),
            ]
        )
    )
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        # most positions in the header, where they matter
        at = data.draw(st.integers(0, min(len(bad), 200)))
        bad[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        read(bytes(bad))
    except DataError as error:
        assert str(error).startswith("here")  # noqa: PT017 - it may also stay sound
