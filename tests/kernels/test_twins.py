"""Every compiled kernel against its reference, over drawn shapes, memory orders and dtypes."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import minidl as dl
from minidl.kernels import reference
from minidl.shapes import window_output

pytest.importorskip("numba", reason="the twins need Numba: pip install 'minidl[fast]'")
from minidl.kernels import cpu

TWINS = sorted(
    name
    for name, twin in vars(cpu).items()
    if inspect.isfunction(twin) and twin.__module__ == cpu.__name__ and not name.startswith("_")
)
dtypes = st.sampled_from([np.float32, np.float64])
small = st.integers(1, 3)


def numbers(shape, dtype, seed=0):
    """Normal numbers in some memory order that is not always C's."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape).astype(dtype)
    order = rng.integers(3)
    if order == 1:
        return np.asfortranarray(x)
    return np.repeat(x, 2, axis=-1)[..., ::2] if order == 2 else x


@st.composite
def images(draw, pooling=False):
    """x with a window that fits: (x, out, kernel, strides, pads, dilation)."""
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(1, 8), st.integers(1, 5)))
    kernel, strides = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    dilation = (1, 1) if pooling else draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    sides = [st.integers(0, k - 1 if pooling else 2) for k in kernel]
    pads = draw(st.tuples(*[st.tuples(side, side) for side in sides]))
    assume(
        all(n + sum(p) > (k - 1) * d for n, p, k, d in zip(shape[1:3], pads, kernel, dilation, strict=True))
    )
    out = window_output(shape[1:3], kernel, strides, pads, dilation, "test")
    return numbers(shape, draw(dtypes), draw(st.integers(0, 99))), out, kernel, strides, pads, dilation


def agree(name, *arguments):
    expected, got = getattr(reference, name)(*arguments), getattr(cpu, name)(*arguments)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (expected, got)), strict=True):
        assert a.dtype == b.dtype
        tolerance = 2e-5 if a.dtype == np.float32 else 1e-11
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("block", [1, 300, cpu.BLOCK_BYTES])
@given(drawn=images(), filters=small, bias=st.booleans())
def test_convolution(block, drawn, filters, bias):
    x, out, kernel, *geometry = drawn
    w = numbers((*kernel, x.shape[3], filters), x.dtype, 1)
    dy = numbers((len(x), *out, filters), x.dtype, 2)
    before, cpu.BLOCK_BYTES = cpu.BLOCK_BYTES, block
    try:
        agree("conv2d", x, w, numbers(filters, x.dtype, 3) if bias else None, out, *geometry)
        agree("conv2d_grad_input", dy, w, x.shape, *geometry)
        agree("conv2d_grad_weight", dy, x, w.shape, *geometry)
    finally:
        cpu.BLOCK_BYTES = before


@given(images(pooling=True))
def test_max_pooling(drawn):
    x, out, kernel, strides, pads, _ = drawn
    x = np.round(x)  # many ties
    agree("max_pool", x, out, kernel, strides, pads)
    y, where = reference.max_pool(x, out, kernel, strides, pads)
    agree("max_pool_grad", numbers(y.shape, x.dtype, 1), where, x.shape, kernel, strides, pads)


def test_max_pooling_lets_nan_through():
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0, 1, 1] = np.nan
    y, _ = cpu.max_pool(x, (1, 2), (2, 2), (2, 2), ((0, 0), (0, 0)))
    assert np.isnan(y[0, 0, 0, 0])
    assert y[0, 0, 1, 0] == 0


@given(st.integers(2, 700), st.integers(1, 9), dtypes, st.sampled_from([0.0, 3.0, -1e3]))
def test_batch_normalisation(rows, channels, dtype, shift):
    x = numbers((rows, channels), np.float64) + shift
    exact = reference.batch_norm(x, np.ones(channels), np.ones(channels), 1e-5)
    x = x.astype(dtype)
    gamma, beta = numbers(channels, dtype, 1), numbers(channels, dtype, 2)
    got = cpu.batch_norm(x, gamma, beta, 1e-5)
    tolerance = (2e-3 if shift else 2e-5) if dtype == np.float32 else 1e-8  # the input itself is rounded
    for index in (1, 2, 3, 4):
        assert got[index].dtype == dtype
        np.testing.assert_allclose(got[index], exact[index], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(got[0], got[1] * gamma + beta, rtol=1e-5, atol=1e-5)
    dy = numbers((rows, channels), dtype, 3)
    agree("batch_norm_grad", dy, np.ascontiguousarray(got[1]), gamma, got[2])


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_other_dtypes_fall_back(dtype):
    x = (np.arange(32).reshape(1, 4, 4, 2) % 5).astype(dtype)
    geometry = (1, 1), ((0, 0), (0, 0)), (1, 1)
    y = cpu.conv2d(x, np.ones((2, 2, 2, 1), dtype), None, (3, 3), *geometry)
    np.testing.assert_array_equal(
        y, reference.conv2d(x, np.ones((2, 2, 2, 1), dtype), None, (3, 3), *geometry)
    )


def test_every_twin_is_tested_here():
    with open(__file__) as file:
        source = file.read()
    for name in TWINS:
        assert f'"{name}"' in source or f".{name}(" in source, name
        assert inspect.signature(getattr(cpu, name)) == inspect.signature(getattr(reference, name))


def train(seed, results):
    model = dl.Sequential(
        dl.layers.Conv2D(4, 3, activation="relu"), dl.layers.BatchNorm(), dl.layers.MaxPool2D(),
        dl.layers.Dropout(0.2), dl.layers.Flatten(), dl.layers.Dense(3), input_shape=(8, 8, 2), seed=seed,
    )  # fmt: skip
    x = np.random.default_rng(seed).normal(size=(64, 8, 8, 2)).astype(np.float32)
    history = dl.fit(
        model, x, np.arange(64) % 3, epochs=3, batch_size=16, optimizer=dl.optim.Adam(model), verbose=0
    )
    results[seed] = history.history["loss"]


def test_two_threads_train_two_models():
    alone, together = {}, {}
    for seed in (1, 2):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_fork_after_use_can_train_too():
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tests.kernels.test_twins import train
parent, child = {}, {}
train(1, parent)
pid = os.fork()
if pid == 0:
    train(1, child)
    os._exit(0 if child == parent else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    root = str(dl.__path__[0]) + "/.."
    assert subprocess.run([sys.executable, "-c", code, root], timeout=120, check=False).returncode == 0
