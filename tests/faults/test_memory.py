"""Memory that runs out, and memory that should come back."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

import minidl as dl
from minidl import backend, layers, ops


def net():
    return dl.Sequential(
        layers.Conv2D(4, 3, activation="relu"), layers.BatchNorm(), layers.Flatten(), layers.Dense(3), input_shape=(8, 8, 1)
    )  # fmt: skip


@pytest.mark.scenario("F30")
def test_f30_more_than_there_is():
    """A batch of 2 TB, of which only one number exists."""
    model = net()
    before = model.state_dict()
    with pytest.raises(MemoryError, match=r"Unable to allocate \d.* TiB") as caught:
        model(np.broadcast_to(np.float32(0), (10**10, 8, 8, 1)))
    assert "in layer 'conv2d'" in caught.value.__notes__[0]
    assert "smaller batch_size" in caught.value.__notes__[0]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert model(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 3)


@pytest.mark.scenario("F30")
def test_f30_in_backward(monkeypatch):
    def full(*args):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("minidl.ops.reduce.Sum.backward", full)
    x = dl.Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(MemoryError, match="9 TiB") as caught:
        (x * 2).sum().backward()
    assert caught.value.__notes__ == ["in the backward of Sum: use a smaller batch_size"]


@pytest.mark.scenario("F31")
def test_f31_bytes_stay_flat(rng):
    """Traced bytes after many steps, and nothing for the collector of cycles to find."""
    model, x, y = net(), rng.normal(size=(4, 8, 8, 1)).astype(np.float32), np.arange(4) % 3
    optimizer = dl.optim.Adam(model)

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            ops.cross_entropy(model(x), y).backward()
            optimizer.step()

    steps(30)
    gc.collect()
    gc.disable()
    steps(600)  # Python keeps freed tuples, up to 2,000 of each length; the collector would give them back
    tracemalloc.start()
    try:
        steps(10)
        before = tracemalloc.get_traced_memory()[0]
        steps(100)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [thing for thing in gc.garbage if isinstance(thing, (dl.Tensor, dl.Function, np.ndarray))]
    finally:
        tracemalloc.stop()
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.scenario("F32")
def test_f32_a_list_of_losses_keeps_no_graphs(rng):
    model, x, y = net(), rng.normal(size=(4, 8, 8, 1)).astype(np.float32), np.arange(4) % 3
    alive, losses = [], []
    for _ in range(20):
        hidden = model[:2](x)
        alive.append(weakref.ref(hidden.creator))  # the node, which would hold all before it
        loss = ops.cross_entropy(model[2:](hidden), y)
        del hidden
        loss.backward()
        losses.append(loss)
    assert len(losses) == 20 and all(np.isfinite(loss.item()) for loss in losses)
    assert not any(ref() for ref in alive)


GROWTH = """
import re
from pathlib import Path
import minidl as dl

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

dl.Sequential(dl.layers.Dense(3), input_shape=(3,))
model = dl.Sequential(dl.layers.Dense(4096), dl.layers.Dense(4096), input_shape=(4096,))
before = resident()
dl.optim.SGD(model, lr=0.1).zero_grad()
print(resident() - before)
"""


@pytest.mark.skipif(backend._allocator("malloc_trim") is None, reason="needs glibc")
def test_what_parameters_were_in_returns_to_the_system():
    """An optimiser moves them into one buffer, 134 MB here, beside one for their gradients."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 134
