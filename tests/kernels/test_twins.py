"""Every compiled kernel against its reference, over drawn shapes, memory orders and dtypes."""

from __future__ import annotations

import copy
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
from tests.drawn import compare, dtypes, images, numbers, small

pytest.importorskip("numba", reason="the twins need Numba: pip install 'minidl[fast]'")
from minidl.kernels import cpu
from minidl.kernels.cpu import (
    algorithms,
    blas,
    columns,
    compiling,
    direct,
    direct_image,
    halves,
    linear,
    norm,
    winograd,
    winograd_grid,
)
from minidl.rng import Key

TWINS = cpu.__all__


def agree(name, *arguments, tolerance=None):
    """The twin returns what the reference does, changes its arguments as the reference does, and only those it may."""
    mine, theirs = ([np.array(a) if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2))
    mine = [b if a is None or not hasattr(a, "strides") else a for a, b in zip(arguments, mine, strict=True)]
    mine = [a.copy(order="K") if isinstance(a, np.ndarray) and name in IN_PLACE else a for a in mine]
    expected, got = getattr(reference, name)(*theirs), getattr(cpu, name)(*mine)
    if name in IN_PLACE:
        expected, got = (tuple(a for a in x if isinstance(a, np.ndarray)) for x in (theirs, mine))
    else:
        for a, b in zip(arguments, mine, strict=True):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(b, a)
    for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (expected, got)), strict=True):
        compare(b, a, tolerance)
    if "overwrite" in inspect.signature(getattr(reference, name)).parameters:
        for kernels in (reference, cpu):
            gradient = np.array(arguments[0], order="C")
            result = getattr(kernels, name)(gradient, *arguments[1:], overwrite=True)
            result = result[0] if isinstance(result, tuple) else result
            compare(result, expected[0] if isinstance(expected, tuple) else expected, tolerance)
            assert kernels is reference or np.shares_memory(result, gradient) or not gradient.size


IN_PLACE = {"bias_activation", "sgd_step", "adam_step"}


@pytest.fixture(params=[False, True], ids=["one-thread", "shared"])
def shared(request, monkeypatch):
    """Work in one piece, or shared among threads however small it is."""
    from minidl.kernels import threads

    if request.param:
        monkeypatch.setattr(threads, "GRAIN", 1e-3)
        monkeypatch.setattr(threads, "ALONE", 0)
        monkeypatch.setattr(threads, "thread_count", lambda: 3)
        monkeypatch.setattr("minidl.kernels.convolution.BLOCK", 1)
        monkeypatch.setattr(norm, "SMALL", 0)
        monkeypatch.setattr(compiling, "SMALL", 0)
        monkeypatch.setattr("minidl.kernels.cpu.linear.ALONE", 0)


@pytest.mark.parametrize("block", [(1, 1), (300, 4), (columns.BLOCK_BYTES, columns.BLOCK_ROWS)])
@pytest.mark.usefixtures("shared")
@given(
    drawn=images(),
    filters=small,
    bias=st.booleans(),
    slope=st.sampled_from([None, 0.0, 0.3]),
    name=st.sampled_from(["auto", "im2col"]),
)
def test_convolution(block, drawn, filters, bias, slope, name):
    x, out, kernel, *geometry = drawn
    geometry.append(name)
    w = numbers((*kernel, x.shape[3], filters), x.dtype, 1)
    dy = numbers((len(x), *out, filters), x.dtype, 2)
    before = columns.BLOCK_BYTES, columns.BLOCK_ROWS
    columns.BLOCK_BYTES, columns.BLOCK_ROWS = block
    try:
        agree("conv2d", x, w, numbers(filters, x.dtype, 3) if bias else None, slope, out, *geometry)
        agree("conv2d_grad_input", dy, w, x.shape, *geometry)
        agree("conv2d_grad_weight", dy, x, w.shape, *geometry)
    finally:
        columns.BLOCK_BYTES, columns.BLOCK_ROWS = before


def test_edges_have_smaller_tiles():
    """Products of a 7x7 image: of four whole tiles 4 x 36; of 4x4, 4x3, 3x4 and 3x3 outputs 36 + 30 + 30 + 25."""

    def products(*out, ragged=True, images=1):
        grid = winograd_grid.Grid(4, 6, ragged, out)
        return sum(np.diff(block.spans)[:, 1].sum() for block in grid.blocks(0, images * grid.bands, 1))

    assert (products(7, 7), products(7, 7, ragged=False), products(8, 8)) == (121, 144, 144)
    assert (products(2, 2), products(1, 1), products(5, 4), products(4, 10)) == (16, 9, 54, 96)
    assert products(7, 7, images=50) == 50 * 121


@st.composite
def filtered(draw, side):
    """x, w, dy and padding for a square filter with stride 1."""
    n, c, f = draw(st.integers(1, 3)), draw(st.integers(1, 17)), draw(st.integers(1, 17))
    pads = draw(st.tuples(*[st.tuples(*[st.integers(0, side - 1)] * 2)] * 2))
    h, w = (draw(st.integers(max(side - sum(pad), 1), 12)) for pad in pads)
    dtype = draw(dtypes)
    out = (h + sum(pads[0]) - side + 1, w + sum(pads[1]) - side + 1)
    x = numbers((n, h, w, c), dtype, draw(st.integers(0, 99)))
    return x, numbers((side, side, c, f), dtype, 1), numbers((n, *out, f), dtype, 2), pads


@pytest.mark.parametrize("name", winograd.TILES)
@pytest.mark.usefixtures("shared")
@given(
    data=st.data(),
    slope=st.sampled_from([None, 0.0, 0.3]),
    tiles=st.sampled_from([1, 5, 128]),
    many=st.sampled_from([0, 1 << 20]),
)
def test_winograd(name, data, slope, tiles, many):
    tile = winograd.TILES[name]
    x, w, dy, pads = data.draw(filtered(tile.g.shape[1]))
    geometry = (1, 1), pads, (1, 1)
    limit = 1e-4 if x.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(
        winograd.plain(x, w, pads, tile),
        reference.conv2d(x, w, None, None, dy.shape[1:3], *geometry),
        rtol=limit,
        atol=limit * 10,
    )
    before = winograd_grid.BLOCK_TILES, winograd_grid.BLOCK_NUMBERS, winograd.MANY_SUMS
    winograd_grid.BLOCK_TILES, winograd_grid.BLOCK_NUMBERS, winograd.MANY_SUMS = tiles, 0, many
    try:
        b = numbers(w.shape[3], x.dtype, 3)
        agree("conv2d", x, w, b, slope, dy.shape[1:3], *geometry, name, tolerance=limit)
        agree("conv2d_grad_input", dy, w, x.shape, *geometry, name, tolerance=limit)
        agree("conv2d_grad_weight", dy, x, w.shape, *geometry, name, tolerance=limit)
    finally:
        winograd_grid.BLOCK_TILES, winograd_grid.BLOCK_NUMBERS, winograd.MANY_SUMS = before


@pytest.mark.usefixtures("shared")
@given(
    images(),
    st.sampled_from([1, 3, 8, 16, 19]),
    st.integers(1, 70),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.3]),
)
def test_direct_convolution(drawn, channels, filters, bias, slope):
    """On images large enough, with channels and filters for each kind of tile and for rests of tiles."""
    x, _, kernel, strides, pads, _ = drawn
    x = numbers((len(x), x.shape[1] + 6, x.shape[2] + 6, channels), x.dtype, 4)
    out = window_output(x.shape[1:3], kernel, strides, pads, (1, 1), "test")
    w, dy = numbers((*kernel, x.shape[3], filters), x.dtype, 1), numbers((len(x), *out, filters), x.dtype, 2)
    geometry = strides, pads, (1, 1), "direct"
    agree("conv2d", x, w, numbers(filters, x.dtype, 3) if bias else None, slope, out, *geometry)
    agree("conv2d_grad_input", dy, w, x.shape, *geometry)
    agree("conv2d_grad_weight", dy, x, w.shape, *geometry)


@pytest.mark.parametrize(
    ("side", "strides", "pad"),
    [(3, (1, 2), 1), (3, (2, 1), 1), (2, (1, 1), 2), (1, (1, 1), 1), (1, (1, 1), 3)],
)
def test_direct_gradient_of_the_image_at_its_limits(side, strides, pad):
    """Strides, for which another algorithm steps in, and more padding than the filter reaches."""
    x, pads = numbers((2, 16, 16, 16), np.float32), ((pad, pad), (pad, pad))
    out = window_output((16, 16), (side, side), strides, pads, (1, 1), "test")
    w, dy = numbers((side, side, 16, 3), np.float32, 1), numbers((2, *out, 3), np.float32, 2)
    agree("conv2d_grad_input", dy, w, x.shape, strides, pads, (1, 1), "direct")


@pytest.mark.parametrize("block", [1, direct.TO_POOL])
@pytest.mark.usefixtures("shared")
@given(
    images(),
    st.integers(1, 20),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.3]),
    st.sampled_from(["direct", "im2col", "auto"]),
    st.tuples(small, small),
    st.tuples(small, small),
    st.sampled_from([((0, 0), (0, 0)), ((1, 0), (0, 1))]),
)
def test_convolution_and_pooling(block, drawn, filters, bias, slope, name, kernel, steps, sides):
    x, _, window, strides, pads, dilation = drawn
    x = numbers((len(x), x.shape[1] + 6, x.shape[2] + 6, x.shape[3]), x.dtype, 4)
    out = window_output(x.shape[1:3], window, strides, pads, dilation, "test")
    assume(min(out) >= 3)
    sides = tuple((min(a, k - 1), min(b, k - 1)) for (a, b), k in zip(sides, kernel, strict=True))
    pool = window_output(out, kernel, steps, sides, (1, 1), "test"), kernel, steps, sides
    w, b = numbers((*window, x.shape[3], filters), x.dtype, 1), numbers(filters, x.dtype, 3) if bias else None
    before, direct.TO_POOL = direct.TO_POOL, block
    try:
        y, where = cpu.conv2d_max_pool(x, w, b, slope, out, strides, pads, dilation, name, pool)
    finally:
        direct.TO_POOL = before
    whole = cpu.conv2d(x, w, b, slope, out, strides, pads, dilation, name)
    for got, expected in zip((y, where), reference.max_pool(whole, *pool), strict=True):
        np.testing.assert_array_equal(got, expected)
    alone, nowhere = cpu.conv2d_max_pool(x, w, b, slope, out, strides, pads, dilation, name, pool, False)
    np.testing.assert_array_equal(alone, y)
    assert nowhere is None
    compare(y, reference.conv2d_max_pool(x, w, b, slope, out, strides, pads, dilation, name, pool)[0])


@pytest.mark.parametrize("way", [direct_image.turned, direct_image.spread])
@pytest.mark.usefixtures("shared")
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(4, 20), st.integers(4, 20)),
    st.tuples(*[st.integers(0, 5)] * 4),
    st.integers(1, 40),
    st.integers(1, 20),
    dtypes,
)
def test_both_ways_to_the_gradient_of_the_image(way, kernel, size, pad, channels, filters, dtype):
    pads = pad[:2], pad[2:]
    out = window_output(size, kernel, (1, 1), pads, (1, 1), "test") if min(size) >= max(kernel) else (0, 0)
    w, dy = (
        numbers((*kernel, channels, filters), dtype, 1),
        np.ascontiguousarray(numbers((3, *out, filters), dtype, 2)),
    )
    dx = np.full((3, *size, channels), np.nan, dtype)
    if min(out):
        way(dy, w, pads, dx)
        compare(dx, reference.conv2d_grad_input(dy, w, dx.shape, (1, 1), pads, (1, 1)), 1e-4)


def test_which_way_to_the_gradient_of_the_image():
    def way(size, c, f, kernel, pad=0, strides=(1, 1)):
        out = size + 2 * pad - kernel + 1
        return direct_image.best_way((size, size, c), (kernel, kernel, c, f), (out, out), strides, 4)

    assert way(28, 8, 16, 3) is way(13, 16, 16, 3) is direct_image.turned
    assert way(28, 16, 16, 3, strides=(2, 2)) is way(28, 16, 100, 3) is None
    if direct.NARROW_ROWS == 14:  # with the registers that these figures are for
        assert way(14, 6, 16, 5) is way(15, 6, 16, 5, 2) is direct_image.spread


@pytest.mark.usefixtures("shared")
@given(
    st.integers(1, 3),
    st.integers(2, 5),
    st.integers(1, 8),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 2),
    dtypes,
)
def test_neighbouring_pixels_share_a_vector(channels, kernel, filters, strides, pad, dtype):
    x, pads = numbers((2, 19, 24, channels), dtype), ((pad, 0), (0, pad))
    out = window_output((19, 24), (kernel, kernel), strides, pads, (1, 1), "test")
    w, dy = numbers((kernel, kernel, channels, filters), dtype, 1), numbers((2, *out, filters), dtype, 2)
    agree("conv2d", x, w, numbers(filters, dtype, 3), 0.1, out, strides, pads, (1, 1), "direct")
    agree("conv2d_grad_weight", dy, x, w.shape, strides, pads, (1, 1), "direct", tolerance=1e-4)


@pytest.mark.parametrize(
    ("kernel", "out", "filters", "pixels"),
    [(3, (28, 28), 8, 2), (3, (28, 28), 6, 2), (3, (28, 28), 5, 2), (3, (9, 9), 3, 3), (1, (28, 28), 8, 1),
     (3, (28, 27), 8, 1), (3, (5, 5), 1, 1), (3, (28, 28), 16, 1), (3, (28, 28), 40, 1)],
)  # fmt: skip
def test_how_many_pixels_share_a_vector(kernel, out, filters, pixels):
    assert direct.side_by_side(kernel, out, filters, 4) == pixels


def test_direct_convolution_of_many_pixels():
    x, dy = numbers((2, 70, 60, 2), np.float32), numbers((2, 68, 58, 5), np.float32, 1)
    agree(
        "conv2d_grad_weight", dy, x, (3, 3, 2, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), "direct", tolerance=1e-4
    )


@pytest.mark.parametrize("slope", [None, 0.0, 0.1])
def test_direct_convolution_of_extreme_numbers(slope):
    x = np.zeros((1, 6, 6, 1), np.float32)
    x[0, 1:4, 2, 0] = np.nan, np.inf, -np.inf
    agree(
        "conv2d",
        x,
        np.ones((1, 1, 1, 3), np.float32),
        None,
        slope,
        (6, 6),
        (1, 1),
        ((0, 0), (0, 0)),
        (1, 1),
        "direct",
    )


def test_the_algorithm_that_was_asked_for_is_taken(monkeypatch):
    """Also where another would be chosen."""
    taken = []
    jobs = "conv2d", "grad_input", "grad_weight"
    for module, functions in ((winograd, jobs), (direct, ("conv2d", "turned", "grad_weight"))):
        for job, function in zip(jobs, functions, strict=True):
            note = f"{module.__name__.rpartition('.')[2]} {job}"
            place = direct_image if function == "turned" else module
            monkeypatch.setattr(place, function, lambda *a, note=note: taken.append(note))
    direct_image.best_way.cache_clear()
    geometry = (1, 1), ((2, 2), (2, 2)), (1, 1)
    for name, channels in (("winograd3", 3), ("direct", 64)):
        x, w = np.ones((1, 8, 8, channels)), np.ones((5, 5, channels, channels))
        cpu.conv2d(x, w, None, None, (8, 8), *geometry, name)
        cpu.conv2d_grad_input(x, w, x.shape, *geometry, name)
        cpu.conv2d_grad_weight(x, x, w.shape, *geometry, name)
    direct_image.best_way.cache_clear()
    assert taken == [f"{module} {job}" for module in ("winograd", "direct") for job in jobs]


def test_gradient_goes_where_it_is_wanted():
    x, w, dy = (numbers(s, np.float32, i) for i, s in enumerate([(2, 9, 9, 8), (3, 3, 8, 8), (2, 7, 7, 8)]))
    for name in ("im2col", "direct", "winograd4"):
        into = np.full((3, 3, 8, 8), np.nan, np.float32)
        args = dy, x, w.shape, (1, 1), ((0, 0), (0, 0)), (1, 1)
        assert cpu.conv2d_grad_weight(*args, name, into) is into
        np.testing.assert_allclose(into, reference.conv2d_grad_weight(*args), rtol=1e-3, atol=1e-4)
        again = np.full_like(into, np.nan)
        assert reference.conv2d_grad_weight(*args, name, again) is again
        assert np.isfinite(again).all()


def test_choice_of_algorithm(monkeypatch):
    def choice(*weight, out=(8, 8), stride=1, dilation=1, algorithm="auto", result=algorithms.OUTPUT):
        return algorithms.choose(algorithm, result, weight, out, (stride, stride), (dilation, dilation))

    assert choice(3, 3, 64, 64) == choice(3, 3, 24, 24, result=algorithms.FILTERS) == "winograd4"
    assert choice(3, 3, 512, 512, out=(2, 2)) == "winograd4"
    assert choice(5, 5, 32, 64) == "winograd3"
    assert choice(3, 3, 1, 8) == choice(3, 3, 14, 12) == choice(3, 3, 64, 64, stride=2) == "direct"
    assert choice(3, 3, 8, 16, result=algorithms.FILTERS) == choice(1, 1, 16, 16) == "direct"
    assert choice(3, 3, 24, 24, result=algorithms.IMAGE) == "direct"
    assert choice(3, 3, 64, 64, dilation=2) == choice(3, 3, 8, 8, out=(3, 3)) == "im2col"
    assert choice(1, 1, 64, 64) == choice(7, 7, 64, 64) == choice(3, 3, 4096, 64) == "im2col"
    for name in ("im2col", "direct"):
        assert choice(3, 3, 64, 64, algorithm=name) == name
        monkeypatch.setenv("MINIDL_CONV", name)
        assert choice(3, 3, 64, 64) == name
    monkeypatch.setenv("MINIDL_CONV", "winograd4")
    assert choice(3, 3, 1, 1) == "winograd4"
    assert choice(5, 5, 1, 1) == choice(3, 5, 64, 64) == "im2col"
    assert choice(3, 3, 64, 64, algorithm="winograd4") == "winograd4"
    monkeypatch.setenv("MINIDL_CONV", "fft")
    with pytest.raises(
        ValueError, match=r"MINIDL_CONV must be one of auto, im2col, direct, winograd4.*, got 'fft'"
    ):
        choice(3, 3, 64, 64)


@pytest.mark.usefixtures("shared")
@given(images(pooling=True))
def test_max_pooling(drawn):
    x, out, kernel, strides, pads, _ = drawn
    x = np.round(x)  # many ties
    agree("max_pool", x, out, kernel, strides, pads)
    y, where = reference.max_pool(x, out, kernel, strides, pads)
    agree("max_pool_grad", numbers(y.shape, x.dtype, 1), where, x.shape, kernel, strides, pads)
    for kernels in (cpu, reference):
        alone, nowhere = kernels.max_pool(x, out, kernel, strides, pads, places=False)
        np.testing.assert_array_equal(alone, y)
        assert nowhere is None


def test_convolution_and_pooling_by_windows_whose_places_need_more_than_a_byte():
    x, w = numbers((1, 22, 22, 2), np.float32), numbers((2, 2, 2, 3), np.float32, 1)
    once, pool = ((1, 1), ((0, 0), (0, 0)), (1, 1)), ((5, 5), (17, 17), (1, 1), ((0, 0), (0, 0)))
    got, expected = (
        kernels.conv2d_max_pool(x, w, None, None, (21, 21), *once, "direct", pool)
        for kernels in (cpu, reference)
    )
    compare(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    assert expected[1].max() > 255


def test_max_pooling_lets_nan_through():
    for place in range(4):
        x = np.zeros((1, 2, 4, 1), np.float32)
        x[0, place // 2, place % 2] = np.nan
        for places in (True, False):
            y, _ = cpu.max_pool(x, (1, 2), (2, 2), (2, 2), ((0, 0), (0, 0)), places)
            assert np.isnan(y[0, 0, 0, 0])
            assert y[0, 0, 1, 0] == 0


@pytest.mark.usefixtures("shared")
@given(st.integers(2, 700), st.integers(1, 9), dtypes, st.sampled_from([0.0, 3.0, -1e3]))
def test_batch_normalisation(rows, channels, dtype, shift):
    x = (numbers((rows, channels), np.float64) + shift).astype(dtype)
    exact = reference.batch_norm(x.astype(np.float64), np.ones(channels), np.ones(channels), 1e-5)
    gamma, beta = numbers(channels, dtype, 1), numbers(channels, dtype, 2)
    y, mean, inverse_std = cpu.batch_norm(x, gamma, beta, 1e-5)
    tolerance = (2e-4 if shift else 2e-5) if dtype == np.float32 else 1e-8
    for got, expected in zip((mean, inverse_std), exact[1:], strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(y, (x - mean) * inverse_std * gamma + beta, rtol=1e-5, atol=1e-5)
    for into in ((None, None), (np.full(channels, np.nan, dtype), np.full(channels, np.nan, dtype))):
        agree("batch_norm_grad", numbers((rows, channels), dtype, 3), x, mean, inverse_std, gamma, into)
    assert cpu.batch_norm_grad(x, x, mean, inverse_std, gamma, into)[1] is into[0]
    agree("normalise", x, mean, gamma, beta)
    mine, theirs = ((numbers(channels, dtype, 4), np.abs(numbers(channels, dtype, 5))) for _ in range(2))
    for got, expected in zip(
        cpu.batch_norm(x, gamma, beta, 1e-5, mine, 0.1), (y, mean, inverse_std), strict=True
    ):
        np.testing.assert_array_equal(got, expected)
    reference.batch_norm(x.astype(np.float64), np.ones(channels), np.ones(channels), 1e-5, theirs, 0.1)
    for got, expected in zip(mine, theirs, strict=True):
        compare(got, expected, tolerance)


shapes = st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple)


@pytest.mark.usefixtures("shared")
@given(shapes, dtypes, st.sampled_from([0.0, 0.2, -0.5]))
def test_activations(shape, dtype, slope):
    x, dy = numbers(shape, dtype, 1) * 3, numbers(shape, dtype, 2)
    agree("leaky_relu", x, slope)
    agree("leaky_relu_grad", dy, x, slope)
    agree("elu", x, 1.3)
    agree("elu_grad", dy, x, reference.elu(x, 1.3), 1.3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_extreme_numbers(dtype):
    tiny = np.finfo(dtype).tiny
    x = np.array(
        [0.0, -0.0, tiny, -tiny, 1e-4, -1e-4, -1e-7, 30, -30, -100, -1e30, np.inf, -np.inf, np.nan], dtype
    )
    for name, argument in (("leaky_relu", 0.0), ("leaky_relu", 0.1), ("elu", 1.0)):
        got, expected = getattr(cpu, name)(x, argument), getattr(reference, name)(x, argument)
        np.testing.assert_allclose(got, expected, rtol=3e-7, atol=0)


@pytest.mark.usefixtures("shared")
@given(st.integers(0, 300), st.integers(1, 9), dtypes, st.booleans(), st.sampled_from([None, 0.0, 0.2]))
def test_bias_and_activation(rows, channels, dtype, bias, slope):
    y, dy = numbers((rows, channels), dtype, 1), numbers((rows, channels), dtype, 2)
    agree("bias_activation", y, numbers(channels, dtype, 3) if bias else None, slope)
    for into in (None, np.full(channels, np.nan, dtype)):
        agree("bias_activation_grad", dy, y, slope or 0.0, into)
        agree("sum_rows", dy, into)
    assert cpu.sum_rows(dy, into) is into
    assert cpu.bias_activation_grad(dy, y, 0.0, into)[1] is into


@pytest.mark.usefixtures("shared")
@given(st.tuples(*[st.integers(0, 40)] * 3), dtypes)
def test_matrix_product(sizes, dtype):
    m, k, n = sizes
    a, b = numbers((m, k), dtype, 1), numbers((k, n), dtype, 2)
    agree("matmul", a, b)
    into = np.full((m, n), np.nan, dtype)
    assert cpu.matmul(a, b, into) is into
    np.testing.assert_allclose(into, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("shared")
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), dtypes)
def test_low_matrix_times_a_turned_one(m, k, n, dtype):
    a, b, into = numbers((m, k), dtype, 1), numbers((n, k), dtype, 2).T, np.full((m, n), np.nan, dtype)
    before, linear.SLOW = linear.SLOW, 0
    try:
        agree("matmul", a, b)
        agree("matmul", a, np.asfortranarray(b))
        assert cpu.matmul(a, np.asfortranarray(b), into) is into
    finally:
        linear.SLOW = before
    np.testing.assert_allclose(into, a @ b, rtol=1e-4, atol=1e-4)


def test_low_matrices_are_turned_around(monkeypatch):
    seen, product = [], linear.matmul
    monkeypatch.setattr(
        linear, "matmul", lambda a, b, into=None: (seen.append(a.shape), product(a, b, into))[1]
    )
    for m, turned in ((4, True), (33, False), (1, False)):
        seen.clear()
        product(np.ones((m, 120), np.float32), np.ones((400, 120), np.float32).T)
        assert seen == [(400, 120)] * (turned and m > 1)
    product(np.ones((4, 120), np.float32), np.ones((120, 400), np.float32))
    assert seen == []


@pytest.mark.usefixtures("shared")
@given(
    st.integers(0, 90),
    st.integers(0, 40),
    st.integers(1, 40),
    dtypes,
    st.booleans(),
    st.sampled_from([None, 0.0, 0.2]),
)
def test_dense(m, k, n, dtype, bias, slope):
    x, w = numbers((m, k), dtype, 1), numbers((k, n), dtype, 2)
    agree("dense", x, w, numbers(n, dtype, 3) if bias else None, slope, tolerance=1e-4)


@pytest.mark.usefixtures("shared")
@given(
    st.integers(0, 200),
    st.integers(1, 90),
    st.lists(
        st.tuples(st.integers(1, 90), st.booleans(), st.booleans(), st.sampled_from([None, 0.0, 0.3, 1.0])),
        min_size=1,
        max_size=3,
    ),
    dtypes,
)
def test_dense_and_what_is_affine(m, k, described, dtype):
    x, layers = numbers((m, k), dtype, 0), []
    for n, scaled, shifted, alpha in described:
        w, scale, shift = (numbers(size, dtype, i + len(layers)) for i, size in enumerate([(k, n), n, n]))
        layers.append((w / k, scale if scaled else None, shift if shifted else None, alpha))
        k = n
    before = copy.deepcopy(layers)
    agree("dense_affine", x, layers, tolerance=1e-4)
    for layer, same in zip(layers, before, strict=True):
        for a, b in zip(layer[:3], same[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_affine_layers_of_no_width():
    x, w = numbers((50, 70), np.float32, 0), numbers((70, 90), np.float32, 1)
    for layers in ([(w, None, None, 1.0), (w[:0].T, None, None, None)], [(w[:, :0], w[0, :0], None, 1.0)]):
        agree("dense_affine", x, layers)
    agree("dense_affine", x[:, :0], [(w[:0], None, w[0], None), (w.T, None, None, 0.5)])


@pytest.mark.skipif(not blas.FUNCTIONS, reason="NumPy has another BLAS than that of its wheels")
def test_large_affine_layers_and_small_ones(monkeypatch):
    """Each takes the way that it would take alone."""
    ways, through = [], halves.through
    monkeypatch.setattr(halves, "through", lambda x, layers: ways.append(len(layers)) or through(x, layers))
    x, wide, narrow = (
        numbers(size, np.float32, i) for i, size in enumerate([(600, 784), (784, 100), (100, 100)])
    )
    layers = [(wide / 784, None, None, 0.5), (narrow, wide[0], wide[1], None), (narrow, None, None, None)]
    agree("dense_affine", x, layers, tolerance=1e-4)
    assert ways == [1, 1]
    agree("dense_affine", x[:100], layers, tolerance=1e-4)
    assert ways == [1, 1, 3]


def test_rows_longer_than_a_piece_are_affine_too():
    x, w, scale, shift = (
        numbers(size, np.float32, i) for i, size in enumerate([(3, 2), (2, 2500), 2500, 2500])
    )
    agree("dense_affine", x, [(w, scale, shift, 1.0)], tolerance=1e-4)


@given(
    st.integers(2, 200),
    st.integers(1, 40),
    st.integers(1, 40),
    dtypes,
    st.booleans(),
    st.sampled_from([None, -0.5, 0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.3, 0.9, 1.0, None]),
    st.data(),
)
def test_a_dense_layer_and_what_follows_it(m, k, n, dtype, bias, alpha, keep, data):
    x, w, gamma, beta, dy = (numbers(size, dtype, i) for i, size in enumerate([(m, k), (k, n), n, n, (m, n)]))
    b, key = numbers(n, dtype, 5) if bias else None, None if keep is None else Key(1, "a layer", 2, 3)
    results, limit = [], 2e-4 if dtype == np.float32 else 1e-9
    for kernels in (reference, cpu):
        averages = numbers(n, dtype, 6).copy(), numbers(n, dtype, 7) ** 2
        given = x, w, b, gamma, beta, 0.1, averages, 0.2, alpha, keep or 0.5, key
        results.append((*kernels.dense_block(*given), *averages))
    for got, expected in zip(*results, strict=True):
        compare(got, expected, limit)
    slope, *rest = results[0][1:5]
    agree("dense_block", x, w, b, gamma, beta, 0.1, None, 0.2, alpha, keep or 0.5, key, tolerance=limit)
    for needed in ((True, True), (False, True), (True, False), (False, False)):
        got, expected = (
            kernels.dense_block_grad(dy, slope, x, w, *rest, gamma, needed) for kernels in (cpu, reference)
        )
        for one, other in zip(got, expected, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                compare(one, other, limit)
    agree_in_memory("dense_block_grad", dy, slope, x, w, *rest, gamma, tolerance=limit)


def agree_in_memory(name, dy, *arguments, tolerance):
    """Gradients that are written over the one that came, and to given places."""
    expected = reference.dense_block_grad(dy, *arguments)
    into = tuple(np.full(g.shape, np.nan, g.dtype) for g in expected[1:])
    gradient = np.array(dy, order="C")
    got = cpu.dense_block_grad(gradient, *arguments, into=into, overwrite=True)
    for one, other in zip(got, expected, strict=True):
        compare(one, other, tolerance)
    assert all(a is b for a, b in zip(got[1:], into, strict=True))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_block_lets_nan_and_infinity_through(place, value):
    """A column with such a number is nan in batch norm, and no other is."""
    x, w, one = np.ones((40, 20), np.float32), np.ones((20, 6), np.float32), np.ones(6, np.float32)
    w[place, 4] = value
    y = cpu.dense_block(x, w, None, one, one, 0.1, None, 0.2, 1.0, 0.5, None)[0]
    np.testing.assert_array_equal(np.isnan(y).all(axis=0), np.arange(6) == 4)
    assert np.isfinite(np.delete(y, 4, axis=1)).all()


def test_which_blocks_take_one_piece():
    def pays(m, k, n, dtype=np.float32):
        return cpu.block_pays(np.ones((m, k), dtype), np.ones((k, n), dtype))

    able = bool(halves.FUNCTIONS)
    assert pays(128, 784, 100) == pays(32, 2, 2) == able
    assert not any(
        [pays(31, 20, 20), pays(128, 20, 20, np.float64), pays(2048, 784, 100), pays(50, 20, 3000)]
    )
    assert not cpu.block_pays(np.ones((50, 20), np.float32), np.ones((21, 20), np.float32))


@pytest.fixture
def small_is_thin(monkeypatch):
    """Small products take the way of large ones with few columns or few terms."""
    monkeypatch.setattr(linear, "ALONE", 0)
    monkeypatch.setattr(linear, "MANY", 0)
    monkeypatch.setattr(halves, "multiply", lambda *arrays: False)


@pytest.mark.usefixtures("shared", "small_is_thin")
@given(st.integers(1, 40), st.integers(1, 600), st.integers(1, 16), st.sampled_from("km"), dtypes)
def test_thin_matrix_product(m, long, few, axis, dtype):
    k, n = (few, long) if axis == "k" else (long, few)
    agree("matmul", numbers((m, k), dtype, 1), numbers((k, n), dtype, 2), tolerance=1e-4)
    part = numbers((k, m + 3), dtype, 1)[:, 3:].T
    for turned in numbers((k, m), dtype, 1).T, part, part[::-1]:
        agree("matmul", turned, numbers((n, k), dtype, 2).T, tolerance=1e-4)
    into = np.full((m, n), np.nan, dtype)
    assert cpu.matmul(numbers((m, k), dtype, 1), numbers((k, n), dtype, 2), into) is into
    assert np.isfinite(into).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.usefixtures("small_is_thin")
def test_thin_products_let_nan_and_infinity_through(value):
    a, b = np.ones((20, 50), np.float32), np.ones((50, 3), np.float32)
    a[7, 30] = value
    for factor in a, np.asfortranarray(a):
        np.testing.assert_array_equal(cpu.matmul(factor, b), a @ b)


@pytest.mark.usefixtures("shared")
@given(
    st.integers(0, 5000),
    dtypes,
    st.just(0.0) | st.floats(1e-9, 1),
    st.integers(0, 2**70),
    st.integers(-1, 2**33),
    st.integers(0, 9),
)
def test_dropout(size, dtype, keep, seed, step, call):
    x, key = numbers((size,), dtype, 1), Key(seed, "a layer", step, call)
    agree("dropout", x, keep, key)
    agree("dropout_grad", x, reference.dropout(x, keep, key)[1], keep)


@pytest.mark.usefixtures("shared")
@given(st.integers(1, 300), st.integers(1, 30), dtypes, st.sampled_from([1.0, 50.0, 1e4]))
def test_cross_entropy(rows, classes, dtype, size):
    x = numbers((rows, classes), dtype, 1) * dtype(size)
    labels = np.random.default_rng(0).integers(0, classes, rows)
    for divisor in (None, 1, rows):
        agree("cross_entropy", x, labels, divisor)
    p, dlosses = reference.cross_entropy(x, labels)[1], numbers((rows,), dtype, 2)
    for divisor in (1, rows):
        agree("cross_entropy_grad", p, labels, dlosses, divisor)


@pytest.mark.usefixtures("shared")
@given(st.integers(1, 400), dtypes, st.sampled_from([0.0, 0.1]), st.booleans(), st.integers(1, 9))
def test_updates(size, dtype, decay, flag, step):
    p, g, mean = (numbers((size,), dtype, i) for i in range(3))
    square = numbers((size,), dtype, 3) ** 2
    agree("adam_step", p, g, mean, square, 1e-2, 0.9, 0.99, 1e-8, step, decay, flag)
    agree("sgd_step", p, g, mean, 1e-2, 0.9, flag, decay)
    agree("sgd_step", p, g, None, 1e-2, 0.0, False, decay)


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_other_dtypes_fall_back(dtype):
    x = (np.arange(32).reshape(1, 4, 4, 2) % 5).astype(dtype)
    geometry = (1, 1), ((0, 0), (0, 0)), (1, 1)
    w = np.ones((2, 2, 2, 1), dtype)
    expected = reference.conv2d(x, w, None, None, (3, 3), *geometry)
    np.testing.assert_array_equal(cpu.conv2d(x, w, None, None, (3, 3), *geometry), expected)


def test_every_twin_is_tested_here():
    with open(__file__) as file:
        source = file.read()
    for name in TWINS:
        assert f'"{name}"' in source or f".{name}(" in source, name
        assert inspect.signature(getattr(cpu, name)) == inspect.signature(getattr(reference, name))


def test_kernels_of_other_sources_are_not_used(tmp_path):
    stale = [tmp_path / "conv.f-1.py311.nbi", tmp_path / "conv.f-1.py311.1.nbc"]
    for file in stale:
        file.touch()
    compiling.discard_stale(tmp_path)
    assert not any(file.exists() for file in stale)
    stale[0].touch()
    compiling.discard_stale(tmp_path)  # the sources are the same now
    assert stale[0].exists()
    (tmp_path / "minidl-sources").write_text("other")
    compiling.discard_stale(tmp_path)
    assert not stale[0].exists()
    assert (cpu.CACHE / "minidl-sources").exists()


def test_scratch_is_given_back():
    first = compiling.scratch("test", 100, np.dtype(np.float32))
    assert np.shares_memory(first, compiling.scratch("test", 50, np.dtype(np.float32)))
    compiling.free_scratch()
    assert not np.shares_memory(first, compiling.scratch("test", 100, np.dtype(np.float32)))


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
