"""npz archives that lie about their sizes: refused before anything is allocated."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest

from minidl import weights
from tests.bad_files.bounds import assert_refused


def npy(shape, descr="<f4", data=b"", header_length=None):
    """A member as np.save writes it, with any claims."""
    header = (
        f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117).encode() + b"\n"
    )
    length = len(header) if header_length is None else header_length
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + header + data


def archive(*members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def one(content, **options):
    return archive(("a.npy", content), **options)


LYING = {
    "1 GiB": (one(npy((1 << 28,))), "0 bytes for shape"),
    "4 TB": (one(npy((1 << 40,))), "that is 4398046511104"),
    "overflow": (one(npy((1 << 62, 1 << 62))), "0 bytes for shape"),
    "negative": (one(npy((-1,))), "shape"),
    "two negatives": (one(npy((-1, -1), data=bytes(4))), "shape"),
    "a number too few": (one(npy((2,), data=bytes(4))), "4 bytes for shape"),
    "a number too many": (one(npy((2,), data=bytes(12))), "12 bytes for shape"),
    "no array": (archive(("readme", b"not an array")), "magic"),
    "empty member": (archive(("a.npy", b"")), "EOF"),
    "text": (one(npy((1,), "<U4", bytes(16))), "no numbers"),
    "complex": (one(npy((1,), "<c8", bytes(8))), "no numbers"),
    "records": (one(npy((1,), [("x", "<f4")], bytes(4))), "no numbers"),
    "version 3": (one(npy((1,), data=bytes(4)).replace(b"Y\x01", b"Y\x03")), "version"),
}  # fmt: skip


@pytest.mark.scenario("B25", "B28")
@pytest.mark.parametrize("name", LYING)
def test_b28_headers_that_lie(name, tmp_path):
    data, message = LYING[name]
    assert_refused(data, tmp_path / "w.npz", message)


@pytest.mark.scenario("B29")
@pytest.mark.parametrize("members", [1, 20])
def test_b29_zip_bomb(members, tmp_path):
    """Whether it is one large member or many."""
    content = npy((1 << 26 // members,), data=bytes((1 << 28) // members))
    bomb = archive(*((f"{i}.npy", content) for i in range(members)), compression=zipfile.ZIP_DEFLATED)
    assert_refused(bomb, tmp_path / "w.npz", "would unpack to|bytes for shape")


def claiming(data: bytes, nbytes: int) -> bytes:
    """A zip archive whose directory says that its first member takes so many bytes, packed and unpacked."""
    place = data.find(b"PK\x01\x02")
    return data[: place + 20] + struct.pack("<II", nbytes, nbytes) + data[place + 28 :]


@pytest.mark.scenario("B29")
@pytest.mark.parametrize("name", ["w.npz", "w.pth", "w.keras"])
def test_b29_members_larger_than_the_file(name, tmp_path):
    """Reading a member asks the system for as many bytes as the directory says."""
    member = {"w.npz": "a.npy", "w.pth": "a/data.pkl", "w.keras": "model.weights.h5"}[name]
    data = claiming(archive((member, npy((1,), data=bytes(4)))), 1 << 30)
    assert_refused(data, tmp_path / name, "packed in 1073741824 bytes, in a file of")


@pytest.mark.scenario("B29")
def test_b29_zeros_compress_well_and_are_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(1_000_000, np.float32), b=np.ones(3))
    assert weights.read(tmp_path / "w.npz")["a"].shape == (1_000_000,)


@pytest.mark.scenario("B30")
@pytest.mark.parametrize("padding", [0, 70_000])
def test_b30_header_of_65535_bytes(padding, tmp_path):
    """Whether the file ends before it or not; NumPy would parse it as Python."""
    data = one(npy((1,), header_length=65535, data=b" " * padding))
    assert_refused(data, tmp_path / "w.npz", "EOF|[Hh]eader|shape")


@pytest.mark.scenario("B27")
@pytest.mark.parametrize("inside", ["object array", "pickle as member", "pickle as file"])
def test_b27_pickles_are_not_run(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Canary:
        def __reduce__(self):
            return open, ("canary", "w")

    bomb = pickle.dumps(Canary())
    data = {
        "object array": one(npy((1,), "|O", bomb)),
        "pickle as member": archive(("a", bomb)),
        "pickle as file": bomb,
    }[inside]
    assert_refused(data, tmp_path / "w.npz", "cannot read weights")


@pytest.mark.scenario("B25")
def test_a_name_given_twice(tmp_path):
    member = npy((1,), data=bytes(4))
    assert_refused(archive(("a.npy", member), ("a", member)), tmp_path / "w.npz", "'a' given twice")


@pytest.mark.scenario("B24")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_b24_what_numpy_writes_is_read(save, tmp_path, rng):
    arrays = {
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))), "big": np.arange(5, dtype=">i4"), "scalar": np.float32(2),
        "empty": np.zeros((0, 3)), "half": np.ones(3, np.float16), "bool": np.array([True, False]),
    }  # fmt: skip
    save(tmp_path / "w.npz", **arrays)
    found = weights.read(tmp_path / "w.npz")
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype.isnative and found[name].flags.writeable and found[name].flags.c_contiguous
