"""Operations over drawn shapes, strides and dtypes, and at the edges of the number range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidl import Tensor, ops
from minidl.kernels import reference
from minidl.shapes import window_output, window_pads
from minidl.testing import check_grad
from tests.cases import conv2d, pool

sides = st.integers(1, 7)
small = st.integers(1, 3)


def draw_array(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@st.composite
def strided(draw, shape, dtype=np.float64):
    """An array of `shape` with some memory order: C, Fortran, reversed, every other, broadcast."""
    x = draw_array(shape, draw(st.integers(0, 99)), dtype)
    kind = draw(st.sampled_from(["C", "F", "reversed", "sliced", "read-only"]))
    if kind == "F":
        x = np.asfortranarray(x)
    elif kind == "reversed":
        x = x[::-1].copy()[::-1]
    elif kind == "sliced":
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif kind == "read-only":
        x.setflags(write=False)
    return x


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    c, f = groups * draw(small), groups * draw(small)
    shape = (draw(st.integers(1, 2)), draw(sides), draw(sides), c)
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides, dilation = (draw(small), draw(small)), (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = draw(
        st.sampled_from(["same", "valid"])
        | st.integers(0, 2)
        | st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 3))] * 2)
    )
    pads = window_pads(padding, shape[1:3], kernel, strides, dilation, "test")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    assume(all(n + sum(p) >= r for n, p, r in zip(shape[1:3], pads, reach, strict=True)))
    x, w = draw(strided(shape)), draw(strided((*kernel, c // groups, f)))
    return x, w, draw_array(f), {"strides": strides, "dilation": dilation, "groups": groups}, padding, pads


@pytest.mark.scenario("N8")
@given(convolutions())
def test_conv2d_equals_seven_loops(args):
    x, w, b, options, padding, pads = args
    y = ops.conv2d(x, w, b, padding=padding, **options)
    np.testing.assert_allclose(y.data, conv2d(x, w, b, pads=pads, **options), rtol=1e-10, atol=1e-10)


@given(convolutions())
def test_conv2d_gradient(args):
    x, w, b, options, padding, _ = args
    check_grad(lambda x, w, b: ops.conv2d(x, w, b, padding=padding, **options), x, w, b, directions=1)


@given(convolutions())
def test_gradient_of_the_image_is_the_transpose_of_convolution(args):
    x, _, _, options, _, pads = args
    w = draw_array((*args[1].shape[:2], x.shape[3], 2))
    geometry = options["strides"], pads, options["dilation"]
    out = window_output(x.shape[1:3], w.shape[:2], *geometry, "test")
    y = reference.conv2d(x, w, None, None, out, *geometry)
    other = draw_array(y.shape, 1)
    back = reference.conv2d_grad_input(other, w, x.shape, *geometry)
    assert (y * other).sum() == pytest.approx((x * back).sum())


@pytest.mark.scenario("N17")
@given(
    st.tuples(st.integers(1, 2), sides, sides, small),
    st.tuples(small, small),
    st.tuples(small, small),
    st.data(),
)
def test_pooling(shape, kernel, strides, data):
    pads = tuple((data.draw(st.integers(0, k - 1)), data.draw(st.integers(0, k - 1))) for k in kernel)
    assume(all(n + sum(p) >= k for n, p, k in zip(shape[1:3], pads, kernel, strict=True)))
    x = data.draw(strided(shape))
    options = {"pool_size": kernel, "strides": strides, "padding": pads}
    y = ops.max_pool2d(x, **options)
    np.testing.assert_array_equal(y.data, pool(x, np.max, kernel, strides, pads, -np.inf))
    check_grad(lambda x: ops.max_pool2d(x, **options), x, directions=1)
    y = ops.avg_pool2d(x, count_include_pad=True, **options)
    np.testing.assert_allclose(y.data, pool(x, np.mean, kernel, strides, pads), rtol=1e-12, atol=1e-12)
    y = ops.avg_pool2d(x, **options)
    np.testing.assert_allclose(
        y.data, pool(x, np.nanmean, kernel, strides, pads, np.nan), rtol=1e-12, atol=1e-12
    )
    check_grad(lambda x: ops.avg_pool2d(x, **options), x, directions=1)


@pytest.mark.scenario("N8")
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 5))
def test_same_padding_gives_ceil_of_size_over_stride(size, kernel, stride):
    pads = window_pads("same", (size, size), (kernel, kernel), (stride, stride), (1, 1), "test")
    assert window_output((size, size), (kernel, kernel), (stride, stride), pads, (1, 1), "test")[0] == -(
        -size // stride
    )
    assert 0 <= pads[0][1] - pads[0][0] <= 1


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.data())
def test_binary_operations_broadcast(shapes, data):
    a, b = (draw_array(s, i) + 3.0 * np.sign(i - 0.5) for i, s in enumerate(shapes.input_shapes))
    for op, numpy_op in (
        (ops.add, np.add),
        (ops.subtract, np.subtract),
        (ops.multiply, np.multiply),
        (ops.maximum, np.maximum),
    ):
        np.testing.assert_array_equal(op(a, b).data, numpy_op(a, b))
        check_grad(op, a, b, directions=1)


@pytest.mark.scenario("N18")
@given(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4), st.data())
def test_reductions_over_any_axes(shape, data):
    axes = st.none() | (
        st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % max(len(shape), 1)).map(
            tuple
        )
        if shape
        else st.just(())
    )
    axis, keepdims = data.draw(axes), data.draw(st.booleans())
    x = draw_array(shape) if not shape else data.draw(strided(shape))
    for op, numpy_op in ((ops.sum, np.sum), (ops.mean, np.mean), (ops.max, np.max), (ops.var, np.var)):
        y = op(x, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(y.data, numpy_op(x, axis=axis, keepdims=keepdims), rtol=1e-12, atol=1e-15)
        check_grad(lambda x, op=op: op(x, axis=axis, keepdims=keepdims), x, directions=1)


@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4), st.data())
def test_indexing(shape, data):
    x = draw_array(shape)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True) | hnp.integer_array_indices(shape))
    y = ops.getitem(x, key)
    np.testing.assert_array_equal(y.data, x[key])
    check_grad(lambda x: ops.getitem(x, key), x, directions=1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), st.data())
def test_transpose_and_reshape(shape, data):
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    x = data.draw(strided(shape))
    np.testing.assert_array_equal(ops.transpose(x, axes).data, x.transpose(axes))
    check_grad(lambda x: ops.reshape(ops.transpose(x, axes), -1), x, directions=1)


@given(st.integers(2, 20), st.integers(1, 4), st.floats(0.1, 10), st.floats(-5, 5))
def test_batch_norm_equals_its_composition(rows, channels, spread, shift):
    x = draw_array((rows, channels)) * spread + shift
    gamma, beta = draw_array(channels, 1), draw_array(channels, 2)
    results = []
    for op in (ops.batch_norm, ops.batch_norm_composed):
        tensors = [Tensor(a, requires_grad=True) for a in (x, gamma, beta)]
        y = op(*tensors)
        y.backward(draw_array(y.shape, 3))
        results.append([y.data, *[t.grad for t in tensors]])
    for fused, composed in zip(*results, strict=True):
        np.testing.assert_allclose(fused, composed, rtol=1e-8, atol=1e-8)


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_cross_entropy_equals_its_composition(rows, classes, data):
    labels = data.draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    x = [Tensor(draw_array((rows, classes)) * 5, requires_grad=True) for _ in range(2)]
    losses = ops.cross_entropy(x[0], labels), ops.cross_entropy_composed(x[1], labels)
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item())
    np.testing.assert_allclose(x[0].grad, x[1].grad, rtol=1e-9, atol=1e-12)


# Ties and edges -----------------------------------------------------------------------------------------


@pytest.mark.scenario("N17")
def test_max_shares_its_gradient_and_max_pool_gives_it_to_the_first():
    x = Tensor(np.ones((1, 2, 2, 1)), requires_grad=True)
    ops.max(x).backward()
    np.testing.assert_array_equal(x.grad.ravel(), [0.25] * 4)
    x.grad = None
    ops.max_pool2d(x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad.ravel(), [1, 0, 0, 0])


@pytest.mark.scenario("N17")
def test_max_pool_of_negative_pixels_ignores_the_frame():
    y = ops.max_pool2d(np.full((1, 3, 3, 1), -5.0), 3, strides=2, padding=1)
    assert (y.data == -5).all()


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
def test_equal_elements_get_half_each(op):
    a, b = (Tensor(np.array([2.0]), requires_grad=True) for _ in range(2))
    op(a, b).backward(np.array([3.0]))
    assert a.grad == b.grad == 1.5


@pytest.mark.scenario("N10")
@pytest.mark.parametrize("scale", [1e4, 1e30])
@pytest.mark.parametrize(
    "op", [ops.softmax, ops.log_softmax, ops.sigmoid, ops.softplus, ops.tanh, ops.elu, ops.logsumexp]
)
def test_large_inputs_stay_finite(op, scale):
    x = Tensor(np.array([[scale, 0, -scale], [-scale, -scale, -scale]], np.float32), requires_grad=True)
    y = op(x)
    y.backward(np.ones(y.shape))
    assert np.isfinite(y.data).all()
    assert np.isfinite(x.grad).all()


@pytest.mark.scenario("N10")
def test_cross_entropy_of_extreme_logits():
    x = Tensor(np.array([[1e4, -1e4], [-np.inf, 3.0], [5.0, 5.0]]), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([0, 1, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2) / 3)
    assert np.isfinite(x.grad).all()


def test_rows_of_a_softmax_do_not_disturb_each_other():
    y = ops.softmax(np.array([[0.0, 1.0], [1000.0, 1001.0]]))
    np.testing.assert_allclose(y.data[0], y.data[1])


def test_logsumexp_of_nothing_but_minus_infinity():
    with np.errstate(divide="ignore"):
        assert ops.logsumexp(np.full((1, 3), -np.inf), axis=1).data == -np.inf


@pytest.mark.scenario("N11")
def test_power_of_zero():
    x = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    (x**0).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0])
    x.grad = None
    (x**2).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 4])
    zero_base = Tensor(np.array([3.0]), requires_grad=True)
    (0.0**zero_base).backward()
    assert zero_base.grad == 0


@pytest.mark.scenario("N15")
def test_batch_norm_statistics():
    x = draw_array((8, 3)) * 4 + 1
    mean, var = np.zeros(3), np.ones(3)
    ops.batch_norm(x, np.ones(3), np.zeros(3), mean, var, momentum=0.25)
    np.testing.assert_allclose(mean, 0.25 * x.mean(0))
    np.testing.assert_allclose(var, 0.75 + 0.25 * x.var(0, ddof=1))
    frozen = mean.copy(), var.copy()
    ops.batch_norm(x, np.ones(3), np.zeros(3), mean, var, training=False)
    np.testing.assert_array_equal((mean, var), frozen)


@pytest.mark.scenario("N15")
def test_batch_norm_of_a_constant_channel():
    x = Tensor(np.full((4, 1), 3.0), requires_grad=True)
    y = ops.batch_norm(x, np.ones(1), np.full(1, 0.5))
    y.sum().backward()
    np.testing.assert_allclose(y.data, 0.5)
    assert np.isfinite(x.grad).all()


@pytest.mark.scenario("N16")
def test_dropout_keeps_the_expected_value_and_one_mask():
    x = Tensor(np.ones(100_000, np.float32), requires_grad=True)
    y = ops.dropout(x, 0.3)
    y.backward(np.ones(x.shape))
    assert y.data.mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(y.data, x.grad)
    assert (ops.dropout(x, 0.3).data != y.data).any()


def test_resize_is_exact_where_it_must_be():
    x = draw_array((2, 4, 5, 3))
    np.testing.assert_allclose(ops.resize(x, (4, 5)).data, x)
    np.testing.assert_allclose(ops.resize(x, (2, 5)).data, (x[:, ::2] + x[:, 1::2]) / 2)
    np.testing.assert_allclose(ops.resize(np.ones((1, 3, 3, 1)), (7, 11)).data, 1)


@pytest.mark.parametrize("op", [ops.dense, ops.conv2d])
def test_gradients_are_written_where_an_optimiser_wants_them(op, rng):
    """The first into its memory, the second added there."""
    shapes = ((2, 3), (3, 4)) if op is ops.dense else ((2, 5, 5, 3), (3, 3, 3, 4))
    x, w = (Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes)
    op(x, w).sum().backward()
    expected, w.grad = w.grad, None
    w.grad_slot = np.full(w.shape, np.nan)
    for times in (1, 2):
        op(x, w).sum().backward()
        assert w.grad is w.grad_slot
        np.testing.assert_allclose(w.grad, times * expected)
