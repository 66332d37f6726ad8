"""safetensors files: bounded time and memory whatever they say, names that are no paths, numbers that are none."""

from __future__ import annotations

import json
import struct
import time

import numpy as np
import pytest

import minidl as dl
from minidl import weights
from tests.bad_files.bounds import assert_refused, peak_of
from tests.weights.test_safetensors_file import DATA, PLAIN, READ, REFUSED, file


@pytest.mark.scenario("B3", "B4", "B9", "B12", "B17", "B19")
@pytest.mark.parametrize("name", REFUSED)
def test_little_memory(name, tmp_path):
    assert_refused(REFUSED[name], tmp_path / "w.safetensors", "cannot read weights from")


@pytest.mark.scenario("B19")
def test_b19_many_names_and_one_twice(tmp_path):
    """Once this took minutes: each of 100,000 names was counted among all."""
    names = json.dumps({f"a{i}": 1 for i in range(100_000)}).encode()
    data = file(names[:-1] + b',"a7":1}')
    start = time.perf_counter()
    assert_refused(data, tmp_path / "w.safetensors", "'a7' given twice", memory=64 << 20)
    assert time.perf_counter() - start < 10


@pytest.mark.scenario("B3")
def test_b3_header_beyond_the_limit_of_the_library(tmp_path):
    path = tmp_path / "w.safetensors"
    with open(path, "wb") as target:
        target.write(struct.pack("<Q", 100_000_001))
        target.truncate(8 + 100_000_001)  # a sparse file: nothing on the disk

    def refused():
        with pytest.raises(weights.WeightsError, match="header of 100000001 bytes"):
            weights.read(path)

    assert peak_of(refused, 0) < 8 << 20


NAMES = [
    "../../canary",
    "/tmp/canary",
    "a\0b",
    "x" * 10_000,
    "\u0430.weight",
    "a\nb",
    "",
    "con",
    ".npy",
    "a/b.npy",
]


@pytest.mark.scenario("B21")
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_b21_names_are_not_paths(name, suffix, tmp_path):
    """As they are, or refused when saving; never a path, and never another name."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    try:
        weights.save({name: np.ones(2, np.float32), "a.weight": np.zeros(1)}, folder / f"w{suffix}")
    except (weights.WeightsError, ValueError):
        assert list(folder.iterdir()) == []
    else:
        assert set(weights.read(folder / f"w{suffix}")) == {name, "a.weight"}
    assert {p.name for p in tmp_path.rglob("*")} <= {"a", "b", f"w{suffix}"}


@pytest.mark.scenario("B22")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_b22_numbers_that_are_not_finite(value, tmp_path):
    model = dl.Sequential(dl.layers.Dense(3), input_shape=(2,))
    state = model.state_dict()
    state["dense.bias"][1] = value
    weights.save(state, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match=r"not finite: 1 of 3 numbers in dense\.bias"):
        weights.load(model, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(model[0].bias.data, state["dense.bias"])


def test_the_tables_hold_what_this_file_counts_on():
    assert PLAIN["data_offsets"] == [0, len(DATA)] and len(READ) > 5
