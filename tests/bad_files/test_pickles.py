"""Pickles that take no call to do harm: they grow when they are printed, hashed, walked or named."""

from __future__ import annotations

import zipfile

import pytest

from minidl.weights import read
from tests.bad_files.bounds import assert_refused
from tests.weights.test_torch_file import P2, archive, one, tensor, text


def laughs(depth, width=10):
    """Opcodes that leave a tuple on the stack, in the memo too, of width**depth numbers."""
    opcodes = b"K\x01q\x00"
    for level in range(1, depth + 1):
        opcodes += b"(" + (b"h" + bytes([level - 1])) * width + b"tq" + bytes([level])
    return opcodes


def get(level):
    return b"h" + bytes([level])


DEEP = 12
START = laughs(DEEP)
ALONE = b"(" + START + b"t"  # in one tuple, which is all that is left on the stack
FLOAT = b"ctorch\nFloatStorage\n"
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."

GROWING = {
    "printed as a storage": (archive(P2 + START + b"(" + get(DEEP) + FLOAT + text("0") + text("cpu") + b"K\x04tQ."), "none of \\(kind, type"),
    "printed as a key of a storage": (archive(P2 + START + b"(" + text("storage") + FLOAT + get(DEEP) + text("cpu") + b"K\x04tQ."), "none of \\(kind, type"),
    "printed as an offset": (archive(P2 + START + b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor() + get(DEEP) + b"))tR."), "a tensor that is none of"),
    "printed as a shape": (archive(P2 + START + b"ctorch._utils\n_rebuild_tensor_v2\n(" + tensor() + b"K\x00" + get(DEEP) + b")tR."), "a tensor that is none of"),
    "hashed as a key": (archive(P2 + b"}" + ALONE + b"K\x01s."), "a key that is a tuple"),
    "hashed as the key of a stream": (MAGIC + P2 + b"}" + text("w") + tensor() + b"s." + P2 + b"]" + ALONE + b"a.", "which no tensor expects"),
    "walked": (archive(P2 + b"]" + ALONE + b"a."), "more than 1000000 values"),
    "doubled names": (archive(P2 + b"}" + text("k" * 100_000) + b"](" + tensor() + b"q\x01" + b"h\x01" * 20_000 + b"es."), "more than 1000000 values, or names"),
    "a million containers": (archive(P2 + b"}" * 2_500_000), "more than 2000000 opcodes"),
}  # fmt: skip


@pytest.mark.scenario("B39")
@pytest.mark.parametrize("name", GROWING)
def test_b39_pickles_that_grow(name, tmp_path):
    """Whoever walks such a tuple does not come back."""
    data, message = GROWING[name]
    memory = 192 << 20 if name == "a million containers" else 16 << 20
    assert_refused(data, tmp_path / "w.pth", message, memory=memory)


@pytest.mark.scenario("B39")
def test_b39_the_same_tensor_many_times_is_read_once(tmp_path):
    """Tied weights are legitimate."""
    (tmp_path / "w.pth").write_bytes(
        archive(P2 + b"}(" + text("a") + tensor() + b"q\x01" + text("b") + b"h\x01u.")
    )
    assert set(read(tmp_path / "w.pth")) == {"a", "b"}


@pytest.mark.scenario("B42")
def test_b42_encrypted(tmp_path):
    data = bytearray(archive(one(tensor())))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        data[place + flags] |= 1
    assert_refused(bytes(data), tmp_path / "w.pth", "encrypted or compressed")


@pytest.mark.scenario("B42")
def test_b42_deflate_bomb(tmp_path):
    data = archive(one(tensor()), {"data/0": bytes(100_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert_refused(data, tmp_path / "w.pth", "encrypted or compressed")


@pytest.mark.scenario("B42")
def test_b42_members_outside_stay_there(tmp_path):
    """Read in memory: nothing is extracted, whatever it is called."""
    (tmp_path / "w.pth").write_bytes(
        archive(one(tensor()), {"../../canary": b"x", "/tmp/minidl-canary": b"x"})
    )
    assert set(read(tmp_path / "w.pth")) == {"w"}
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.scenario("B37")
@pytest.mark.parametrize("count", [65, 100_000])
def test_b37_huge_tuple_of_sizes(count, tmp_path):
    """More axes than NumPy has, each of one element."""
    data = archive(one(tensor(shape=(1,) * count, strides=(0,) * count)))
    assert_refused(data, tmp_path / "w.pth", "cannot read weights", memory=32 << 20)


@pytest.mark.scenario("B36")
def test_b36_many_views_that_overlap(tmp_path):
    """Each within its storage of four numbers, all together far beyond it."""
    shapes = [(4,) + (1,) * axes for axes in range(30)]
    views = b"".join(
        text(str(i)) + tensor(shape=shape, strides=(0,) * len(shape)) + b"s" for i, shape in enumerate(shapes)
    )
    assert_refused(archive(P2 + b"}" + views + b"."), tmp_path / "w.pth", "share their numbers more than 4")
