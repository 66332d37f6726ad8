"""Files that torch.save wrote, and files that mean harm."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl.weights import WeightsError, read
from minidl.weights.errors import RefusedError
from minidl.weights.torch_pickle import load

FILES = Path(__file__).parent / "files"
P2 = b"\x80\x02"


@pytest.mark.scenario("B41", "B44")
@pytest.mark.parametrize("name", ["torch_net.pth", "torch_net_legacy.pth", "torch_checkpoint.pt"])
def test_state_dict(name):
    weights = read(FILES / name)
    assert weights.origin == "torch"
    shapes = {key: value.shape for key, value in weights.items()}
    assert shapes == {
        "0.weight": (4, 2, 3, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "1.running_mean": (4,),
        "1.running_var": (4,), "1.num_batches_tracked": (), "5.weight": (3, 36), "5.bias": (3,),
    }  # fmt: skip
    assert all(
        np.array_equal(a, b)
        for a, b in zip(weights.values(), read(FILES / "torch_net.pth").values(), strict=True)
    )


@pytest.mark.scenario("B41", "B44")
@pytest.mark.parametrize("name", ["torch_kinds.pth", "torch_kinds_legacy.pth"])
def test_every_kind_of_number_and_view(name):
    weights = read(FILES / name)
    for kind in ("float64", "float16", "int64", "int32", "int16", "int8", "uint8"):
        assert weights[kind].dtype == kind
        np.testing.assert_array_equal(weights[kind], [[0, 1], [2, 3]])
    assert weights["bfloat16"].dtype == np.float32
    np.testing.assert_array_equal(weights["bfloat16"], [[0, 1], [2, 3]])
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    for key, expected in {
        "bool": [True, False], "scalar": 2.5, "empty": np.zeros((0, 3)), "base": base, "tied": base,
        "column": base[:, 1], "transposed": base.T, "parameter": base[1:] + 0.5,
    }.items():  # fmt: skip
        np.testing.assert_array_equal(weights[key], expected)
    assert all(value.flags.c_contiguous for value in weights.values())


@pytest.mark.scenario("B44", "B58", "B59")
def test_import_gives_the_same_outputs():
    """Convolution, batch norm, pooling, and a dense layer after flattening, whose inputs change their order."""
    layers = dl.layers
    model = dl.Sequential(
        layers.Conv2D(4, 3, padding=1), layers.BatchNorm(), layers.ReLU(), layers.MaxPool2D(2),
        layers.Flatten(), layers.Dense(3), input_shape=(6, 6, 2),
    )  # fmt: skip
    report = dl.weights.load(model, FILES / "torch_net.pth")
    assert report == ([], [], [])
    io = np.load(FILES / "torch_net_io.npz")
    np.testing.assert_allclose(dl.predict(model, io["x"]), io["y"], rtol=1e-5, atol=1e-6)


# Harm -----------------------------------------------------------------------------------------------


def archive(data, members=None, **options):
    """A file as torch.save writes it, with `data` for its pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in ({"data/0": b"\0" * 16} | (members or {})).items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def tensor(size=4, offset=0, shape=(4,), strides=(1,), key="0"):
    """Opcodes of one tensor."""
    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(size) + b"tQ"
    )
    sides = [b"(" + b"".join(map(number, side)) + b"t" for side in (shape, strides)]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + b"".join(sides) + b"\x89}tR"


def one(opcodes):
    return P2 + b"}" + text("w") + opcodes + b"s."


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value] * 10
    return value


HARMFUL = {
    "os.system": (archive(P2 + b"cos\nsystem\n(" + text("touch canary") + b"tR."), "os.system, that is code"),
    "posix.system": (archive(P2 + b"cposix\nsystem\n(" + text("touch canary") + b"tR."), "posix.system"),
    "eval": (archive(P2 + b"c__builtin__\neval\n(" + text("open('canary', 'w')") + b"tR."), "__builtin__.eval"),
    "getattr": (archive(P2 + b"c__builtin__\ngetattr\n(ctorch\nSize\n" + text("x") + b"tR."), "getattr"),
    "a class": (archive(P2 + b"ctorch.nn\nLinear\n)\x81."), "torch.nn.Linear"),
    "call of a dtype": (archive(P2 + b"ctorch\nfloat32\n)R."), "a call of float32"),
    "call of a dict": (archive(P2 + b"})R."), "a call of dict"),
    "item of a list": (archive(P2 + b"]" + number(0) + number(1) + b"s."), "items for a list"),
    "items of a tensor": (archive(one(tensor() + b"(" + number(0) + number(1) + b"u")), "items for a View"),
    "append to a dict": (archive(P2 + b"}" + number(1) + b"a."), "items for a dict"),
    "attributes of a tensor": (archive(one(tensor() + b"}b")), "attributes of a View"),
    "short storage": (archive(one(tensor(size=8, shape=(8,)))), "16 bytes for 8 numbers"),
    "offset beyond": (archive(one(tensor(offset=1))), "beyond its 4 numbers"),
    "stride beyond": (archive(one(tensor(shape=(2,), strides=(4,)))), "beyond its 4 numbers"),
    "negative stride": (archive(one(tensor(shape=(2,), strides=(-1,)))), r"strides \(-1,\)"),
    "negative size": (archive(one(tensor(shape=(-2,)))), r"shape \(-2,\)"),
    "negative offset": (archive(one(tensor(offset=-1))), "offset -1"),
    "giant of one number": (archive(one(tensor(shape=(2**31 - 1,) * 3, strides=(0, 0, 0)))), "beyond its 4"),
    "missing storage": (archive(one(tensor(key="7"))), "no member for a storage"),
    "path as storage": (archive(one(tensor(key="../../etc/passwd"))), "no member for a storage"),
    "unknown opcode": (archive(P2 + b"\x95" + b"\0" * 8 + b"."), "the pickle opcode"),
    "protocol 4": (archive(pickle.dumps({}, 4)), "not of protocol 2"),
    "memo miss": (archive(P2 + b"h\x07."), "damaged pickle"),
    "stack underflow": (archive(P2 + b"s."), "damaged pickle"),
    "mark missing": (archive(P2 + b"}t."), "without a beginning"),
    "truncated pickle": (archive(P2 + b"}"), "ends too early"),
    "nothing": (archive(P2 + b"."), "damaged pickle"),
    "two values": (archive(P2 + b"}}."), "damaged pickle"),
    "long text": (archive(P2 + b"X\xff\xff\xff\x7f."), "ends too early"),
    "a list in itself": (archive(P2 + b"]q\x00h\x00a."), "nested in themselves"),
    "a billion laughs": (archive(pickle.dumps(nested(9), 2)), "more than 1000000 values"),
    "many views of one": (
        archive(P2 + b"}" + b"".join(text(str(i)) + tensor(offset=i % 2, shape=(3 - i % 3,)) + b"s" for i in range(6)) + b"."),
        None,
    ),
    "a number": (archive(P2 + number(3) + b"."), "a int where a state dict was expected"),
    "byte order": (archive(one(tensor()), {"byteorder": b"middle"}), "byte order"),
    "compressed": (archive(one(tensor()), compression=zipfile.ZIP_DEFLATED), "encrypted or compressed"),
    "tar": (b"x" * 257 + b"ustar" + b"\0" * 300, "tar archive"),
    "legacy of something else": (pickle.dumps(2**70, 2), "did not write|damaged|too early|safetensors"),
    "empty": (b"", "safetensors"),
}  # fmt: skip


@pytest.mark.scenario("B31", "B32", "B33", "B34", "B35", "B36", "B37", "B38", "B39", "B40", "B41", "B42")
@pytest.mark.parametrize(("data", "message"), HARMFUL.values(), ids=HARMFUL)
def test_harm_is_refused(data, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pth"
    file.write_bytes(data)
    if message is None:
        assert read(file)
    else:
        with pytest.raises(WeightsError, match=message):
            read(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.pth"]  # no canary


@pytest.mark.scenario("B42")
def test_duplicate_members(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        data = archive(one(tensor()), {"data.pkl": P2 + b"}."})
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match="two members of one name"):
        read(tmp_path / "w.pth")


@pytest.mark.scenario("B43")
def test_a_pickled_module(tmp_path):
    with pytest.raises(
        WeightsError, match=r"torch.nn.modules.linear.Linear, that is code; save model.state_dict"
    ):
        read(FILES / "torch_module.pth")


@pytest.mark.scenario("B40")
def test_big_endian(tmp_path):
    file = tmp_path / "w.pth"
    numbers = np.array([1, 2, 3, 4], ">f4")
    file.write_bytes(archive(one(tensor()), {"byteorder": b"big", "data/0": numbers.tobytes()}))
    np.testing.assert_array_equal(read(file)["w"], [1, 2, 3, 4])
    assert read(file)["w"].dtype == np.float32


@pytest.mark.scenario("B38", "B39")
@given(st.binary(max_size=200))
def test_any_bytes_as_a_pickle(data):
    with contextlib.suppress(RefusedError):
        load(P2 + data)
