"""Thirty-six odd and malformed safetensors files."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from minidl.weights import WeightsError, read

DATA = bytes(16)
PLAIN = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def file(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def one(**changes):
    return {"a": PLAIN | changes}


def text(entry):
    return json.dumps(entry).encode()


REFUSED = {
    "empty": b"", "seven bytes": b"1234567", "header beyond the file": file(one(), DATA, 1000),
    "header of 2**63": file(one(), DATA, 2**63), "header of 0": file(b""), "not utf-8": file(b"\xff"), "not json": file(b"{"),
    "a list": file(b"[]"), "null": file(b"null"), "truncated": file(one(), DATA[:-2]), "trailing": file(one(), DATA + b"x"),
    "overlap": file({"a": PLAIN, "b": PLAIN}, DATA),
    "hole": file({"a": PLAIN, "b": {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}}, bytes(24)),
    "end before begin": file(one(data_offsets=[16, 0]), DATA), "negative": file(one(data_offsets=[-16, 0]), DATA),
    "float offset": file(one(data_offsets=[0, 16.0]), DATA), "three offsets": file(one(data_offsets=[0, 8, 16]), DATA),
    "shape": file(one(shape=[2, 3]), DATA), "negative size": file(one(shape=[-2, -2]), DATA),
    "overflow": file(one(shape=[2, 2**63]), DATA), "shape of text": file(one(shape="22"), DATA),
    "unknown type": file(one(dtype="F31"), DATA), "no type": file({"a": {"shape": [2, 2], "data_offsets": [0, 16]}}, DATA),
    "name twice": file(b'{"a":' + text(PLAIN) + b',"a":' + text(PLAIN) + b"}", DATA),
    "field twice": file(b'{"a":{"dtype":"F32","dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}', DATA),
    "metadata of numbers": file({"__metadata__": {"x": 1}} | one(), DATA), "metadata list": file({"__metadata__": []} | one(), DATA),
    "float8": file(one(dtype="F8_E4M3", shape=[16]), DATA), "deep": file(b'{"a":' * 5000 + b"1" + b"}" * 5000),
}  # fmt: skip
READ = {
    "leading space": (file(b"  {}"), {}),
    "another field": (file(one(foo=1), DATA), {"a": np.zeros((2, 2), np.float32)}),
    "no rows": (file(one(shape=[0, 4], data_offsets=[0, 0])), {"a": np.zeros((0, 4), np.float32)}),
    "scalar": (file(one(shape=[], data_offsets=[0, 4]), bytes(4)), {"a": np.float32(0)}),
    "bfloat16": (file(one(dtype="BF16", shape=[8]), np.full(8, 0x3FC0, "<u2").tobytes()), {"a": np.full(8, 1.5, np.float32)}),
    "not finite": (file(one(), np.array([np.nan, np.inf, -np.inf, -0.0], "<f4").tobytes()), {"a": np.float32([[np.nan, np.inf], [-np.inf, 0]])}),
    "a path as name": (file({"../../x": PLAIN}, DATA), {"../../x": np.zeros((2, 2), np.float32)}),
}  # fmt: skip


@pytest.mark.scenario(
    "B1",
    "B2",
    "B3",
    "B4",
    "B5",
    "B6",
    "B7",
    "B8",
    "B9",
    "B10",
    "B11",
    "B12",
    "B13",
    "B14",
    "B15",
    "B16",
    "B17",
    "B18",
    "B19",
    "B20",
)
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data, tmp_path):
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(WeightsError, match="cannot read weights from"):
        read(tmp_path / "w")


@pytest.mark.scenario("B18", "B21", "B22")
@pytest.mark.parametrize(("data", "expected"), READ.values(), ids=READ)
def test_read(data, expected, tmp_path):
    (tmp_path / "w").write_bytes(data)
    arrays = read(tmp_path / "w")
    assert set(arrays) == set(expected)
    for name, value in expected.items():
        assert arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(arrays[name], value)


def test_there_are_thirty_six():
    assert len(REFUSED) + len(READ) == 36
