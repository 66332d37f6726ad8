"""Every CUDA kernel, executed, against its reference over drawn shapes: on the CPU, and on a GPU if there is one."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minidl.kernels import reference
from minidl.rng import Counted, Key
from tests.drawn import compare, dtypes, images, numbers, small
from tests.gpu.conftest import on_device, on_host

drawn = settings(suppress_health_check=[*HealthCheck])
# Changed in place: which arguments.
IN_PLACE = {
    "bias_activation": (0,), "sgd_step": (0, 2), "adam_step": (0, 2, 3), "rmsprop_step": (0, 2, 3),
    "add_to_average": (0,), "next_batch": (4, 5, 6, 7),
}  # fmt: skip


def agree(cupy, name, *arguments, tolerance=None):
    """The twin returns, and changes, what the reference does; its results are on the device."""
    from minidl.kernels import cuda

    ours, theirs = (
        on_device(cupy, arguments),
        [np.array(a) if isinstance(a, np.ndarray) else a for a in arguments],
    )
    got, expected = getattr(cuda, name)(*ours), getattr(reference, name)(*theirs)
    if name in IN_PLACE:
        assert got is None
        got, expected = (tuple(a[i] for i in IN_PLACE[name] if a[i] is not None) for a in (ours, theirs))
    pairs = [(x if isinstance(x, tuple) else (x,)) for x in (got, expected)]
    for a, b in zip(*pairs, strict=True):
        assert isinstance(a, cupy.ndarray)
        compare(on_host(a), np.asarray(b), tolerance)


@pytest.mark.parametrize("block", [1, 300, 2**24])
@drawn
@given(case=images(), filters=small, bias=st.booleans(), slope=st.sampled_from([None, 0.0, 0.3]))
def test_convolution_by_columns(cupy, block, case, filters, bias, slope):
    from minidl.kernels.cuda import conv

    x, out, kernel, *geometry = case
    w = numbers((*kernel, x.shape[3], filters), x.dtype, 1)
    dy = numbers((len(x), *out, filters), x.dtype, 2)
    before, conv.BLOCK = conv.BLOCK, block
    try:
        bias = numbers(filters, x.dtype, 3) if bias else None
        agree(cupy, "conv2d", x, w, bias, slope, out, *geometry, "im2col")
        agree(cupy, "conv2d_grad_input", dy, w, x.shape, *geometry, "im2col")
        agree(cupy, "conv2d_grad_weight", dy, x, w.shape, *geometry, "im2col")
        into = np.full(w.shape, np.nan, w.dtype)
        agree(cupy, "conv2d_grad_weight", dy, x, w.shape, *geometry, "im2col", into)
    finally:
        conv.BLOCK = before


def test_convolution_and_pooling(cupy):
    x, w, b = (
        numbers((2, 9, 8, 3), np.float32),
        numbers((3, 3, 3, 4), np.float32, 1),
        numbers(4, np.float32, 2),
    )
    pool = (3, 3), (2, 2), (2, 2), ((0, 0), (0, 0))
    agree(cupy, "conv2d_max_pool", x, w, b, 0.1, (7, 6), (1, 1), ((0, 0), (0, 0)), (1, 1), "auto", pool)


@drawn
@given(images(pooling=True))
def test_max_pooling(cupy, case):
    x, out, kernel, strides, pads, _ = case
    x = np.round(x)  # many ties
    agree(cupy, "max_pool", x, out, kernel, strides, pads)
    y, where = reference.max_pool(x, out, kernel, strides, pads)
    agree(cupy, "max_pool_grad", numbers(y.shape, x.dtype, 1), where, x.shape, kernel, strides, pads)


@drawn
@given(images(pooling=True), st.booleans())
def test_average_pooling(cupy, case, count_pads):
    x, out, kernel, strides, pads, _ = case
    agree(cupy, "avg_pool", x, out, kernel, strides, pads, count_pads)
    dy = numbers((len(x), *out, x.shape[3]), x.dtype, 1)
    agree(cupy, "avg_pool_grad", dy, x.shape, kernel, strides, pads, count_pads)


def test_max_pooling_of_nan_and_of_large_windows(cupy):
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0, 1, 1] = np.nan
    agree(cupy, "max_pool", x, (1, 2), (2, 2), (2, 2), ((0, 0), (0, 0)))
    x = numbers((2, 20, 21, 1), np.float32)  # 17 * 17 offsets do not fit in 8 bits
    agree(cupy, "max_pool", x, (4, 5), (17, 17), (1, 1), ((0, 0), (0, 0)))
    y, where = reference.max_pool(x, (4, 5), (17, 17), (1, 1), ((0, 0), (0, 0)))
    agree(cupy, "max_pool_grad", y, where, x.shape, (17, 17), (1, 1), ((0, 0), (0, 0)))


@drawn
@given(
    st.one_of(
        st.tuples(st.integers(2, 700), st.integers(1, 9)),
        st.tuples(st.integers(2, 40), st.integers(250, 520)),
    ),
    dtypes,
    st.sampled_from([0.0, 3.0, -1e3]),
)
def test_batch_normalisation(cupy, shape, dtype, shift):
    x = (numbers(shape, np.float64) + shift).astype(dtype)
    exact = reference.batch_norm(x.astype(np.float64), np.ones(shape[1]), np.ones(shape[1]), 1e-5)
    gamma, beta = numbers(shape[1], dtype, 1), numbers(shape[1], dtype, 2)
    from minidl.kernels import cuda

    y, mean, inverse_std = on_host(cuda.batch_norm(*on_device(cupy, (x, gamma, beta)), 1e-5))
    tolerance = (2e-4 if shift else 2e-5) if dtype == np.float32 else 1e-8
    for got, expected in zip((mean, inverse_std), exact[1:], strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(y, (x - mean) * inverse_std * gamma + beta, rtol=1e-5, atol=1e-5)
    dy = numbers(shape, dtype, 3)
    agree(cupy, "batch_norm_grad", dy, x, mean, inverse_std, gamma, tolerance=tolerance)
    places = np.full(shape[1], np.nan, dtype), np.full(shape[1], np.nan, dtype)
    agree(cupy, "batch_norm_grad", dy, x, mean, inverse_std, gamma, places, tolerance=tolerance)
    agree(cupy, "normalise", x, mean, gamma, beta)
    theirs = numbers(shape[1], dtype, 4), np.abs(numbers(shape[1], dtype, 5))
    mine = on_device(cupy, theirs)
    cuda.batch_norm(*on_device(cupy, (x, gamma, beta)), 1e-5, mine, 0.1)
    reference.batch_norm(x.astype(np.float64), np.ones(shape[1]), np.ones(shape[1]), 1e-5, theirs, 0.1)
    for got, expected in zip(on_host(mine), theirs, strict=True):
        compare(got, expected, tolerance)


def test_sums_over_rows_are_split_and_always_the_same(cupy):
    """So many rows that blocks share them: the last to finish adds up."""
    x = numbers((30_001, 3), np.float32)
    agree(cupy, "sum_rows", x, tolerance=1e-4)
    agree(cupy, "sum_rows", numbers((64, 600), np.float64))
    from minidl.kernels import cuda
    from minidl.kernels.cuda import launching

    first, second = (on_host(cuda.sum_rows(on_device(cupy, x))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not on_host(launching.tickets()).any()


@drawn
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=3).map(tuple), dtypes, st.sampled_from([0.0, 0.2, -0.5])
)
def test_activations(cupy, shape, dtype, slope):
    x, dy = numbers(shape, dtype, 1) * 3, numbers(shape, dtype, 2)
    agree(cupy, "leaky_relu", x, slope)
    agree(cupy, "leaky_relu_grad", dy, x, slope)
    agree(cupy, "elu", x, 1.3)
    agree(cupy, "elu_grad", dy, x, reference.elu(x, 1.3), 1.3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_extreme_numbers(cupy, dtype):
    tiny = np.finfo(dtype).tiny
    x = np.array(
        [0, -0.0, tiny, -tiny, 1e-4, -1e-4, -1e-7, 30, -30, -100, -1e30, np.inf, -np.inf, np.nan], dtype
    )
    for name, argument in (("leaky_relu", 0.0), ("leaky_relu", 0.1), ("elu", 1.0)):
        agree(cupy, name, x, argument, tolerance=1e-6)


@drawn
@given(st.integers(0, 300), st.integers(1, 9), dtypes, st.booleans(), st.sampled_from([None, 0.0, 0.2]))
def test_bias_and_activation(cupy, rows, channels, dtype, bias, slope):
    y, dy = numbers((rows, channels), dtype, 1), numbers((rows, channels), dtype, 2)
    agree(cupy, "bias_activation", y, numbers(channels, dtype, 3) if bias else None, slope)
    agree(cupy, "bias_activation_grad", dy, y, slope or 0.0)
    agree(cupy, "bias_activation_grad", dy, y, slope or 0.0, np.full(channels, np.nan, dtype))
    agree(cupy, "sum_rows", dy)
    agree(cupy, "sum_rows", dy, np.full(channels, np.nan, dtype))


@drawn
@given(st.tuples(*[st.integers(0, 20)] * 3), dtypes, st.integers(0, 9))
def test_matrix_product(cupy, sizes, dtype, seed):
    m, k, n = sizes
    a, b = numbers((m, k), dtype, seed), numbers((k, n), dtype, seed + 1)
    agree(cupy, "matmul", a, b)
    agree(cupy, "matmul", a, b, np.full((m, n), np.nan, dtype))
    agree(
        cupy, "dense", a, b, numbers((n,), dtype, seed + 2) if seed % 2 else None, (None, 0.0, 0.2)[seed % 3]
    )


SHAPES = [
    ((4,), (4,)), ((4,), (4, 3)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (5, 4, 2)),
    ((5, 3, 4), (4,)), ((3, 4), (5, 4, 2)), ((0, 3, 4), (4, 2)), ((2, 3, 0), (2, 0, 4)), ((1, 3, 4), (1, 4, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_products_of_vectors_and_stacks(cupy, a, b):
    agree(cupy, "matmul", numbers(a, np.float32, 1), numbers(b, np.float32, 2))
    if len(b) > 1:
        turned = numbers((*b[:-2], b[-1], b[-2]), np.float64, 2).swapaxes(-1, -2)
        agree(cupy, "matmul", numbers(a, np.float64, 1), turned)


@drawn
@given(st.integers(0, 3000), dtypes, st.just(0.0) | st.floats(1e-9, 1), st.integers(0, 2**70), st.integers(-1, 2**33), st.integers(0, 9))  # fmt: skip
def test_dropout_draws_the_same_numbers(cupy, size, dtype, keep, seed, step, call):
    x, key = numbers((size,), dtype, 1), Key(seed, "a layer", step, call)
    agree(cupy, "dropout", x, keep, key)
    agree(cupy, "dropout_grad", x, reference.dropout(x, keep, key)[1], keep)


def test_dropout_of_numbers_that_lie_askew(cupy):
    """Eight at once are read where they begin at 16 bytes."""
    from minidl.kernels import cuda

    x, key = numbers((41,), np.float32), Key(3, "s", 1, 0)
    got = cuda.dropout(cupy.asarray(x)[1:], 0.6, key)
    for a, b in zip(on_host(got), reference.dropout(x[1:], 0.6, key), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_whose_step_is_in_memory(cupy):
    from minidl.kernels import cuda

    x = np.ones(1000, np.float32)
    clock = cupy.asarray(np.array([7]))
    y, mask = on_host(cuda.dropout(cupy.asarray(x), 0.6, Key(3, "s", Counted(clock, 4))))
    expected = reference.dropout(x, 0.6, Key(3, "s", 11))
    np.testing.assert_array_equal(mask, expected[1])
    np.testing.assert_array_equal(y, expected[0])


@drawn
@given(st.integers(1, 300), st.integers(1, 40), dtypes, st.sampled_from([1.0, 50.0, 1e4]))
def test_cross_entropy(cupy, rows, classes, dtype, size):
    x = numbers((rows, classes), dtype, 1) * dtype(size)
    labels = np.random.default_rng(0).integers(0, classes, rows)
    for divisor in (None, 1, rows):
        agree(cupy, "cross_entropy", x, labels, divisor)
    p, dlosses = reference.cross_entropy(x, labels)[1], numbers((rows,), dtype, 2)
    agree(cupy, "cross_entropy_grad", p, labels, dlosses)
    agree(cupy, "cross_entropy_grad", p, labels, np.broadcast_to(dtype(0.3), rows), 7)


def test_one_gradient_for_all_losses_is_not_copied(cupy):
    from minidl.kernels import cuda

    x, labels = numbers((9, 4), np.float32), np.arange(9) % 4
    p = reference.cross_entropy(x, labels)[1]
    one = cupy.broadcast_to(cupy.asarray(np.float32(0.5)), (9,))
    got = on_host(cuda.cross_entropy_grad(*on_device(cupy, (p, labels)), one, 3))
    expected = reference.cross_entropy_grad(p, labels, np.full(9, 0.5, np.float32), 3)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@drawn
@given(st.integers(1, 600), st.integers(1, 12) | st.integers(60, 150), dtypes)
def test_averages(cupy, rows, classes, dtype):
    outputs, loss = np.round(numbers((rows, classes), dtype, 1)), np.array(0.7, dtype)
    if rows > 2:
        outputs[1, -1] = np.nan
    labels = np.random.default_rng(0).integers(0, classes, rows)
    labels[::2] = outputs.argmax(axis=1)[::2]  # the first of many equal ones
    sums = np.array([2.0, 3.0])
    agree(cupy, "add_to_average", sums, loss, outputs, labels, tolerance=1e-6)
    agree(cupy, "add_to_average", sums, loss, outputs, np.eye(classes)[labels], tolerance=1e-6)
    agree(cupy, "add_to_average", sums, loss, outputs, outputs, tolerance=1e-6)
    agree(cupy, "add_to_average", sums, loss, outputs[:, 0], outputs[:, 0], tolerance=1e-6)


@drawn
@given(st.integers(1, 400), dtypes, st.sampled_from([0.0, 0.1]), st.booleans(), st.integers(1, 9))
def test_updates(cupy, size, dtype, decay, flag, step):
    p, g, mean = (np.array(numbers((size,), dtype, i)) for i in range(3))
    square = np.array(numbers((size,), dtype, 3) ** 2)
    for beta1 in (0.9, 0.0):
        agree(cupy, "adam_step", p, g, mean, square, 1e-2, beta1, 0.99, 1e-8, step, decay, flag)
    agree(cupy, "sgd_step", p, g, mean, 1e-2, 0.9, flag, decay)
    agree(cupy, "sgd_step", p, g, None, 1e-2, 0.0, False, decay)
    agree(cupy, "rmsprop_step", p, g, square, mean, 1e-2, 0.9, 1e-8, 0.5, decay)
    agree(cupy, "rmsprop_step", p, g, square, None, 1e-2, 0.9, 1e-8, 0.0, decay)


def test_updates_whose_rate_and_step_are_in_memory(cupy):
    from minidl.kernels import cuda

    p, g, mean, square = (np.abs(np.array(numbers((50,), np.float32, i))) for i in range(4))
    clock, rate = cupy.asarray(np.array([5])), cupy.asarray(np.array([0.01]))
    mine = on_device(cupy, (p, g, mean, square))
    cuda.adam_step(*mine, Counted(rate), 0.9, 0.99, 1e-8, Counted(clock, -2), 0.0, False)
    cuda.sgd_step(*mine[:2], None, Counted(rate), 0.0, False, 0.0)
    cuda.rmsprop_step(*mine[:2], mine[3], None, Counted(rate), 0.9, 1e-8, 0.0, 0.0)
    theirs = [a.copy() for a in (p, g, mean, square)]
    reference.adam_step(*theirs, 0.01, 0.9, 0.99, 1e-8, 3, 0.0, False)
    reference.sgd_step(*theirs[:2], None, 0.01, 0.0, False, 0.0)
    reference.rmsprop_step(*theirs[:2], theirs[3], None, 0.01, 0.9, 1e-8, 0.0, 0.0)
    for got, expected in zip(on_host(mine), theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("target", [np.int64, np.uint8, np.float32])
def test_next_batch(cupy, kind, target):
    rng = np.random.default_rng(0)
    x, y = (
        rng.integers(0, 255, (20, 3, 2)).astype(kind),
        rng.integers(0, 9, (20, *([2] if target == np.float32 else []))).astype(target),
    )
    order = rng.permutation(20)
    for first, rows in ((0, 4), (8, 12), (19, 1)):
        batch, targets = np.full((rows, 3, 2), np.nan, np.float32), np.zeros((rows, *y.shape[1:]), target)
        clock, rate = np.zeros(1, np.int64), np.zeros(1)
        agree(cupy, "next_batch", x, y, order, first, batch, targets, clock, rate, 2**40, 0.125)


@pytest.mark.parametrize("dtype", [np.float16])
def test_other_dtypes_fall_back(cupy, dtype):
    x = (np.arange(32).reshape(1, 4, 4, 2) % 5).astype(dtype)
    geometry = (1, 1), ((0, 0), (0, 0)), (1, 1)
    agree(cupy, "conv2d", x, np.ones((2, 2, 2, 1), dtype), None, None, (3, 3), *geometry)
    agree(cupy, "leaky_relu", x, 0.1, tolerance=1e-3)


def test_every_twin_is_tested_here(cupy):
    from minidl.kernels import cuda

    with open(__file__) as file:
        source = file.read()
    for name in cuda.__all__:
        assert f'"{name}"' in source or f"cuda.{name}(" in source, name
        assert inspect.signature(getattr(cuda, name)) == inspect.signature(getattr(reference, name))


def test_a_wrong_argument_is_noticed_by_the_fake(cupy, device):
    """The fake itself: what it lets through would not be tested."""
    from minidl.kernels.cuda import launching

    x = cupy.asarray(np.ones((4, 4), np.float32))
    bad = [
        (x, x, np.float64(0), np.int32(16)), (x, x, 0.0, np.int32(16)), (x, np.ones(16, np.float32), np.float32(0), np.int32(16)),
        (x.T, x, np.float32(0), np.int32(16)), (x, x, np.float32(0)), (x, x.astype(np.float64), np.float32(0), np.int32(16)),
    ]  # fmt: skip
    for arguments in bad:
        with pytest.raises(TypeError):
            launching.launch_each("elementwise.leaky_relu", 16, *arguments, T=np.float32)
