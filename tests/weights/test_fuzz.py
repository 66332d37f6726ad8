"""Files of every kind with random damage: they are read, or refused by a WeightsError, and nothing else."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl import weights
from minidl.weights import WeightsError

FILES = Path(__file__).parent / "files"
CASES = int(os.environ.get("MINIDL_FUZZ", "200"))
KINDS = (
    "torch_net.pth", "torch_net_legacy.pth", "torch_kinds.pth", "torch_kinds_legacy.pth",
    "keras_net.h5", "keras_net.weights.h5", "keras_net.keras", "own.safetensors", "own.npz",
)  # fmt: skip


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A whole file of each kind."""
    folder = tmp_path_factory.mktemp("valid")
    arrays = {
        "fc.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "fc.bias": np.ones(4),
        "n": np.array(3),
    }
    for suffix in (".safetensors", ".npz"):
        weights.save(arrays, folder / f"own{suffix}")
    return {name: (folder / name if name.startswith("own") else FILES / name).read_bytes() for name in KINDS}


@st.composite
def damage(draw):
    """A function from bytes to bytes."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "cut", "splice", "end"]),
                st.floats(0, 1, exclude_max=True),
                st.binary(min_size=1, max_size=20),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(content):
        content = bytearray(content)
        for kind, where, data in steps:
            place = int(where * len(content))
            if kind == "flip" and content:
                content[place] ^= data[0] or 1
            elif kind == "cut":
                del content[place : place + len(data)]
            elif kind == "splice":
                content[place:place] = data
            elif kind == "end":
                del content[place:]
        return bytes(content)

    return apply


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=CASES, deadline=None)
@given(change=damage())
def test_damage(name, change, valid, tmp_path_factory):
    if name.startswith("keras"):
        pytest.importorskip("h5py")
    content = change(valid[name])
    file = tmp_path_factory.getbasetemp() / f"mutant-{name}"
    file.write_bytes(content)
    tracemalloc.start()
    try:
        weights.read(file)
    except WeightsError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2 * len(content) + (64 << 20)
