"""Files of every kind with random damage: they are read, or refused by one kind of error, in little memory.

MINIDL_FUZZ is the number of files tried for each reader, 200 if it is not set.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import lzma
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import weights
from minidl.data import DataError, archives, formats
from minidl.weights import WeightsError

FILES = Path(__file__).parents[1] / "weights" / "files"
CASES = int(os.environ.get("MINIDL_FUZZ", "200"))


def own(suffix, folder):
    arrays = {
        "fc.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "fc.bias": np.ones(4),
        "n": np.array(3),
    }
    weights.save(arrays, folder / f"own{suffix}")
    return (folder / f"own{suffix}").read_bytes()


def compressed(folder):
    np.savez_compressed(folder / "own.npz", a=np.zeros((100, 100)), b=np.arange(7))
    return (folder / "own.npz").read_bytes()


def idx(folder):
    return bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))


def batch(folder):
    images = np.arange(3072, dtype=np.uint8).reshape(1, 3072)
    data = pickle.dumps({"data": images, "labels": [1]}, protocol=3)
    return data.replace(b"cnumpy._core.", b"cnumpy.core.")


def mat(folder, compress=False):
    savemat = pytest.importorskip("scipy.io", reason="SVHN's .mat files need SciPy: minidl[svhn]").savemat
    buffer = io.BytesIO()
    arrays = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)}
    savemat(buffer, arrays, do_compression=compress)
    return buffer.getvalue()


def md5(data):
    return hashlib.md5(data).hexdigest()


# A whole file, the reader of its bytes (None: minidl.weights.read of a file)
KINDS = {
    "idx": (idx, lambda data: formats.idx(data, "here")),
    "cifar binary": (lambda folder: bytes([3]) + bytes(3072), lambda data: formats.cifar_binary(data, "here")),
    "cifar pickle": (batch, lambda data: formats.cifar_pickle(data, md5(data), "here")),
    "mat": (mat, lambda data: formats.svhn_mat(data, "here")),
    "mat, compressed": (lambda folder: mat(folder, True), lambda data: formats.svhn_mat(data, "here")),
    "gz": (lambda folder: gzip.compress(bytes(500)), lambda data: archives.gunzip(data, 1000, "here")),
    "xz": (lambda folder: lzma.compress(bytes(500)), lambda data: archives.unxz(data, 1000, "here")),
    "safetensors": (lambda folder: own(".safetensors", folder), None),
    "npz": (lambda folder: own(".npz", folder), None),
    "npz, compressed": (compressed, None),
    **{
        name: (lambda folder, name=name: (FILES / name).read_bytes(), None)
        for name in (
            "keras_net.h5", "keras_net.weights.h5", "keras_net.keras",
            "torch_net.pth", "torch_kinds.pth", "torch_net_legacy.pth", "torch_kinds_legacy.pth",
        )
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function from a kind's name to the bytes of a sound file."""
    folder = tmp_path_factory.mktemp("fuzz")
    return functools.cache(lambda name: KINDS[name][0](folder))


@st.composite
def damage(draw):
    """A function from bytes to bytes: up to four changes, most of them where headers are."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "flip", "cut", "splice", "overwrite", "repeat", "end"]),
                st.one_of(st.floats(0, 1, exclude_max=True), st.integers(0, 400)),
                st.binary(min_size=1, max_size=20),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(content):
        content = bytearray(content)
        for kind, where, data in steps:
            place = int(where * len(content)) if isinstance(where, float) else min(where, len(content) - 1)
            if not content:
                content[:] = data
            elif kind == "flip":
                content[place] ^= data[0] or 1
            elif kind == "cut":
                del content[place : place + len(data)]
            elif kind == "splice":
                content[place:place] = data
            elif kind == "overwrite":
                content[place : place + len(data)] = data
            elif kind == "repeat":
                content[place:place] = content[place : place + 10 * len(data)]
            else:
                del content[place:]
        return bytes(content)

    return apply


def read(name, content, file):
    """What the reader of this kind makes of `content`, and the most memory it took meanwhile."""
    if name.startswith("keras"):
        pytest.importorskip("h5py")
    reader = KINDS[name][1]
    if reader is None:
        file.write_bytes(content)
    tracemalloc.start()
    try:
        return weights.read(file) if reader is None else reader(content), tracemalloc.get_traced_memory()[1]
    except (WeightsError, DataError):
        return None, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.scenario("B77")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=CASES, deadline=None)
@given(change=st.one_of(damage(), damage(), damage(), st.binary(max_size=300)))
def test_b77_damage(name, change, whole, tmp_path_factory):
    content = change if isinstance(change, bytes) else change(whole(name))
    _, peak = read(name, content, tmp_path_factory.getbasetemp() / "mutant")
    assert peak < 2 * len(content) + (64 << 20)


@pytest.mark.parametrize("name", KINDS)
def test_the_whole_files_are_read(name, whole, tmp_path):
    """Without this, readers that refuse everything would pass."""
    arrays, _ = read(name, whole(name), tmp_path / "whole")
    assert len(arrays) > 0
