"""Convolution on tensor cores: every kernel, executed, in every tile, against products of factors as tensor cores read them.

They read 10 bits of mantissa and cut the others off. Factors are made larger by a part of the last bit before, so that
they are off by 0.7 of it at most, 0.7 * 2^-10 of themselves, upwards or downwards. Products of such factors are exact in
float32, so what remains is the rounding of sums: at most 2^-24 of what is added up for each of the numbers, or 2^-23 where
the last bits are cut off, as tensor cores do. In "fp32" a factor is two such numbers, off by 2^-22, and the product of the
two lower ones, 2^-21 at most, is left out.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from minidl import backend
from minidl.kernels import reference
from minidl.shapes import window_output
from tests.drawn import numbers
from tests.gpu.conftest import on_device, on_host

TILES = {
    "tf32": [(128, 128), (128, 64), (64, 128), (64, 64), (128, 32)],
    "fp32": [(128, 64), (64, 64), (128, 32)],
}
drawn = settings(suppress_health_check=[*HealthCheck])
sizes = st.integers(1, 9)


@pytest.fixture(params=["tf32", "fp32"])
def implicit(cupy, request):
    """The module under test, in each precision."""
    backend.precision(request.param)
    from minidl.kernels.cuda import implicit

    yield implicit
    backend.precision("fp32")


def rounded(x):
    """float32 as tensor cores read it once it has grown; as float64."""
    grown = x * (np.float32(1) + np.float32(0.7) / np.float32(2048))
    bits = np.ascontiguousarray(grown).view(np.uint32)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def agree(cupy, name, one, other, *arguments, bias=None, slope=None):
    """The kernel gives the product of the rounded factors, and is as close to the exact one as the rounding allows."""
    from minidl.kernels import cuda

    forward = name == "conv2d"
    extra = (bias, slope) if forward else ()
    host = on_host(getattr(cuda, name)(*on_device(cupy, (one, other, *extra, *arguments))))
    b = np.zeros(()) if bias is None else bias.astype(np.float64)

    def product(one, other, b):
        nothing = (None, None) if forward else ()
        return getattr(reference, name)(one, other, *nothing, *arguments[:4]) + b

    factors = [a.astype(np.float64) for a in (one, other)]
    near, exact = product(*map(rounded, (one, other)), b), product(*factors, b)
    added = product(*map(abs, factors), abs(b))
    if slope is not None:
        near, exact = (reference.leaky_relu(y, slope) for y in (near, exact))
    depth = {"conv2d": other.shape[:3], "conv2d_grad_weight": one.shape[:3]}.get(name) or other[:, :, 0].shape
    sums = added * ((math.prod(depth) + 8) * 2.0**-23)
    off = 1.41 * 2.0**-10
    if backend.precision() == "fp32":
        near, off = exact, 2.0**-20
        sums = sums + added * off
    assert host.dtype == np.float32
    assert host.shape == near.shape
    assert (abs(host - near) <= sums).all(), f"{name}: {abs(host - near).max()}"
    assert (abs(host - exact) <= sums + added * off).all()
    return host


@st.composite
def convolutions(draw):
    """(x, kernel, filters, out, strides, pads, dilation) of a window that fits and is no single pixel."""
    channels = st.sampled_from([1, 2, 3, 4, 5, 8, 12, 17])
    shape = draw(st.tuples(st.integers(1, 3), sizes, sizes, channels))
    kernel = draw(st.tuples(*[st.integers(1, 4)] * 2).filter(lambda pair: pair != (1, 1)))
    strides, dilation = draw(st.tuples(*[st.integers(1, 4)] * 2)), draw(st.tuples(*[st.integers(1, 3)] * 2))
    pads = draw(st.tuples(*[st.tuples(*[st.integers(0, 3)] * 2)] * 2))
    assume(
        all(n + sum(p) > (k - 1) * d for n, p, k, d in zip(shape[1:3], pads, kernel, dilation, strict=True))
    )
    out = window_output(shape[1:3], kernel, strides, pads, dilation, "test")
    filters = draw(st.sampled_from([1, 3, 4, 8, 31, 32, 36, 65, 128, 132]))
    return numbers(shape, np.float32, draw(st.integers(0, 99))), kernel, filters, out, strides, pads, dilation


@pytest.mark.parametrize(
    ("implicit", "tile"),
    [
        pytest.param(precision, tile, id=f"{precision}-{tile[0]}x{tile[1]}")
        for precision in TILES
        for tile in TILES[precision]
    ],
    indirect=["implicit"],
)
@drawn
@given(
    case=convolutions(),
    bias=st.booleans(),
    slope=st.sampled_from([None, 0.0, 0.3]),
    splits=st.integers(1, 20),
)
def test_convolution(cupy, implicit, tile, case, bias, slope, splits):
    x, kernel, filters, out, *geometry = case
    w = numbers((*kernel, x.shape[3], filters), np.float32, 1)
    dy, b = numbers((len(x), *out, filters), np.float32, 2), numbers(filters, np.float32, 3) if bias else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(implicit, "plan", lambda *_: (tile, splits))
        agree(cupy, "conv2d", x, w, out, *geometry, bias=b, slope=slope)
        agree(cupy, "conv2d_grad_input", dy, w, x.shape, *geometry)
        agree(cupy, "conv2d_grad_weight", dy, x, w.shape, *geometry)
        into = cupy.empty(w.shape, np.float32)
        agree(cupy, "conv2d_grad_weight", dy, x, w.shape, *geometry, "auto", into)


LARGER = [
    ((8, 13, 13, 32), (3, 3), 64, (1, 1), (1, 1)), ((2, 33, 31, 3), (11, 11), 64, (4, 4), (2, 2)),
    ((1, 2, 3, 256), (3, 3), 130, (1, 1), (1, 1)), ((4, 20, 20, 20), (5, 4), 36, (2, 3), (0, 3)),
    ((64, 4, 4, 1), (3, 3), 2, (1, 1), (0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kernel", "filters", "strides", "pad"), LARGER)
def test_choices_of_the_host(cupy, implicit, shape, kernel, filters, strides, pad):
    """Tiles and splits as they are chosen; the same bits each time."""
    from minidl.kernels.cuda import launching

    x, w = numbers(shape, np.float32), numbers((*kernel, shape[3], filters), np.float32, 1)
    geometry = strides, tuple((p, p) for p in pad), (1, 1)
    out = window_output(shape[1:3], kernel, *geometry, "test")
    dy = numbers((len(x), *out, filters), np.float32, 2)
    for name, *arguments in (
        ("conv2d", x, w, out, *geometry), ("conv2d_grad_input", dy, w, shape, *geometry),
        ("conv2d_grad_weight", dy, x, w.shape, *geometry),
    ):  # fmt: skip
        first, second = (agree(cupy, name, *arguments) for _ in range(2))
        np.testing.assert_array_equal(first, second)
    assert not on_host(launching.tickets()).any()


def test_what_tensor_cores_know_stays_as_it_is_and_others_are_not_too_small(cupy):
    """Rounding: exact for 10 bits of mantissa, and without bias for more."""
    from minidl.kernels import cuda

    backend.precision("tf32")
    exact = np.ldexp(np.arange(1024, 2048, dtype=np.float32), -10)
    between = np.random.default_rng(0).uniform(1, 2, 1024).astype(np.float32)
    x, w = np.stack([exact, between])[:, :, None, None], np.zeros((2, 1, 1, 1), np.float32)
    w[0] = 1
    y = on_host(
        cuda.conv2d(*on_device(cupy, (x, w)), None, None, (1023, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
    )
    np.testing.assert_array_equal(y[0, :, 0, 0], exact[:-1])
    error = y[1, :, 0, 0] / between[:-1] - 1
    assert abs(error).max() <= 0.71 * 2.0**-10
    assert abs(error.mean()) < 2.0**-14


def test_numbers_at_their_limits(cupy, implicit):
    """Infinities and nan go through; ReLU makes no nan of -inf. The second number of a split infinity is nan."""
    from minidl.kernels import cuda

    x, geometry = np.ones((1, 4, 4, 1), np.float32), ((2, 2), ((0, 0), (0, 0)), (1, 1))
    x[0, 0, 0], x[0, 0, 2], x[0, 2, 0] = np.inf, -np.inf, np.nan
    w = np.ones((2, 2, 1, 4), np.float32)
    for slope, expected in ((None, -np.inf), (0.0, 0), (0.5, -np.inf)):
        y = on_host(cuda.conv2d(*on_device(cupy, (x, w)), None, slope, (2, 2), *geometry))
        split = backend.precision() == "fp32"
        first = [np.nan, np.nan] if split else [np.inf, expected]
        np.testing.assert_array_equal(y[0, :, :, 0], [first, [np.nan, 4]])


def test_an_empty_batch_has_no_gradient(cupy, implicit):
    from minidl.kernels import cuda

    x, w, dy = (np.empty(shape, np.float32) for shape in ((0, 4, 4, 2), (2, 2, 2, 4), (0, 3, 3, 4)))
    geometry = (1, 1), ((0, 0), (0, 0)), (1, 1)
    assert cuda.conv2d(*on_device(cupy, (x, w)), None, None, (3, 3), *geometry).shape == dy.shape
    assert cuda.conv2d_grad_input(*on_device(cupy, (dy, w)), x.shape, *geometry).shape == x.shape
    assert not on_host(cuda.conv2d_grad_weight(*on_device(cupy, (dy, x)), w.shape, *geometry)).any()


@pytest.mark.parametrize(
    ("precision", "dtype", "kernel", "algorithm", "generation", "ours"),
    [
        ("tf32", np.float32, 3, "auto", "80", True), ("fp32", np.float32, 3, "auto", "90", True),
        ("tf32", np.float64, 3, "auto", "90", False), ("tf32", np.float32, 1, "auto", "90", False),
        ("tf32", np.float32, 3, "im2col", "90", False), ("tf32", np.float32, 3, "auto", "75", False),
        ("tf32", np.float32, 3, "auto", "100", True),
    ],
)  # fmt: skip
def test_who_convolves(cupy, device, monkeypatch, precision, dtype, kernel, algorithm, generation, ours):
    from minidl.kernels import cuda

    backend.precision(precision)
    monkeypatch.setattr(type(cupy.cuda.Device()), "compute_capability", generation)
    x, w = numbers((2, 5, 5, 4), dtype), numbers((kernel, kernel, 4, 8), dtype, 1)
    out, geometry = (6 - kernel, 6 - kernel), ((1, 1), ((0, 0), (0, 0)), (1, 1), algorithm)
    x, w, b, dy = on_device(cupy, (x, w, np.zeros(8, dtype), numbers((2, *out, 8), dtype)))
    for call, kernel_name in (
        (lambda: cuda.conv2d(x, w, b, 0.0, out, *geometry), "conv2d"),
        (lambda: cuda.conv2d_grad_input(dy, w, x.shape, *geometry), "conv2d_grad_input"),
        (lambda: cuda.conv2d_grad_weight(dy, x, w.shape, *geometry), "conv2d_grad_weight"),
    ):
        device.forget()
        call()
        launches = [name for name in device.launches if name not in ("copy", "zeros")]  # made once, or askew
        assert (launches == [kernel_name]) == ours


def test_columns_for_all(cupy, monkeypatch):
    from minidl.kernels.cuda.implicit import suited

    x = cupy.asarray(numbers((2, 5, 5, 4), np.float32))
    assert suited((3, 3), "auto", (2, 3, 3, 8), x)
    monkeypatch.setenv("MINIDL_CONV", "im2col")
    assert not suited((3, 3), "auto", (2, 3, 3, 8), x)


def test_what_lies_askew_is_read_number_by_number(cupy, implicit):
    """Weights are views of one buffer: they may begin anywhere."""
    from minidl.kernels import cuda

    buffer, x = cupy.asarray(numbers(4 * 4 * 4 * 4 + 1, np.float32)[:]), numbers((1, 5, 5, 4), np.float32)
    for start in (0, 1):
        w = buffer[start : start + 256].reshape(4, 4, 4, 4)
        assert implicit.wide(w) == (start == 0)
        y = on_host(cuda.conv2d(cupy.asarray(x), w, None, None, (2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1)))
        expected = reference.conv2d(x, on_host(w), None, None, (2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1))
        np.testing.assert_allclose(y, expected, atol=0.05 if backend.precision() == "tf32" else 1e-5)
    assert not implicit.wide(cupy.asarray(x[..., :3].copy()))


@pytest.fixture
def plan(cupy, monkeypatch):
    """For a large device."""
    from minidl.kernels.cuda import implicit, launching

    monkeypatch.setattr(implicit, "PROCESSORS", launching.PROCESSORS)
    return implicit.plan


def test_tiles(plan):
    """As wide as the columns need, and as large as still gives all processors work."""
    assert plan(10**6, 32, 800, "tf32") == ((128, 32), 1)
    assert plan(10**6, 64, 800, "tf32") == ((128, 64), 1)
    assert plan(10**6, 512, 800, "tf32") == ((128, 128), 1)
    assert plan(10**6, 512, 800, "fp32") == ((128, 64), 1)  # two numbers for each factor take registers
    assert plan(10**6, 150, 800, "tf32")[0][1] == 64  # 192 columns rather than 256
    assert plan(64, 64, 10**4, "tf32")[0] == (64, 64)


def test_shares_of_the_depth(plan):
    """More blocks where there are few tiles, each with some steps; never one with nothing to do."""
    from minidl.kernels.cuda.implicit import STEP, TILES

    assert plan(128, 128, 9, "tf32")[1] == 1
    assert plan(0, 9, 9, "tf32")[1] == 1
    assert 20 < plan(128, 128, 10**5, "tf32")[1] <= 512
    for rows, columns, depth, precision in itertools.product(
        (1, 300, 5000), (3, 64, 200), (1, 70, 333, 4000), ("tf32", "fp32")
    ):
        tile, shares = plan(rows, columns, depth, precision)
        steps = -(-depth // STEP)
        assert tile in TILES
        assert shares == 1 or steps >= 2 * shares
