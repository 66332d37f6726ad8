"""Arguments and inputs at their limits: 0, 1, nothing, one, everything equal."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import Tensor, layers, ops
from minidl.testing import Key


@pytest.mark.scenario("N15")
@pytest.mark.parametrize(("momentum", "keeps"), [(0, True), (1, False)])
def test_n15_momentum_of_0_and_1(momentum, keeps, rng):
    layer = layers.BatchNorm(momentum=momentum)
    x = rng.normal(2, 3, (16, 3)).astype(np.float32)
    layer(x)
    mean, var = (np.zeros(3), np.ones(3)) if keeps else (x.mean(0), x.var(0, ddof=1))
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-5)


@pytest.mark.scenario("N15")
def test_n15_inference_before_any_training(rng):
    """Mean 0 and variance 1: the input itself, but for eps."""
    x = rng.normal(size=(4, 3)).astype(np.float32)
    layer = dl.Sequential(layers.BatchNorm(), input_shape=(3,)).eval()
    np.testing.assert_allclose(layer(x).data, x / np.sqrt(1 + 1e-5), rtol=1e-6)


@pytest.mark.scenario("N15")
def test_n15_far_from_zero():
    """The variance of 10,000 +- 1 in float32: not of the squares, whose last bit is 8."""
    x = np.tile(np.array([[9999], [10001]], np.float32), (50, 1))
    np.testing.assert_allclose(
        ops.batch_norm(x, np.ones(1, "f4"), np.zeros(1, "f4")).data[:2], [[-1], [1]], rtol=1e-4
    )


@pytest.mark.scenario("N16")
@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_n16_rates_of_0_and_1(kernels, rng, request):
    request.addfinalizer(lambda: dl.kernels.use(request.config.getoption("--kernels")))
    dl.kernels.use(kernels)
    for rate, factor in ((0.0, 1), (1.0, 0)):
        x = Tensor(rng.normal(size=(5, 6)).astype(np.float32), requires_grad=True)
        y = ops.dropout(x, rate, key=Key(0, "limits"))
        y.backward(np.ones(y.shape))
        np.testing.assert_array_equal(y.data, x.data * factor)
        np.testing.assert_array_equal(x.grad, factor)
        layer = layers.Dropout(rate)
        np.testing.assert_array_equal(layer(x).data, x.data * factor)
        np.testing.assert_array_equal(layer.eval()(x).data, x.data)


@pytest.mark.scenario("N17")
@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_n17_all_equal_and_all_negative(kernels, request):
    """Padding never wins, and of equal pixels exactly one gets the gradient."""
    request.addfinalizer(lambda: dl.kernels.use(request.config.getoption("--kernels")))
    dl.kernels.use(kernels)
    for value in np.float32([-3, 0, -3e38]):
        x = Tensor(np.full((1, 5, 5, 2), value, np.float32), requires_grad=True)
        y = ops.max_pool2d(x, 3, strides=2, padding=1)
        y.backward(np.ones(y.shape, np.float32))
        np.testing.assert_array_equal(y.data, value)
        assert x.grad.sum() == y.size


REDUCTIONS = {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "var": np.var}


@pytest.mark.scenario("N18")
@pytest.mark.parametrize("name", REDUCTIONS)
def test_n18_scalars_and_no_axes(name):
    """0-d input; axis=() reduces nothing."""
    op, reference = getattr(ops, name), REDUCTIONS[name]
    for x, axis in ((np.array(2.5), None), (np.array(2.5), ()), (np.arange(6.0).reshape(2, 3), ())):
        tensor = Tensor(x, requires_grad=True)
        y = op(tensor, axis=axis)
        np.testing.assert_array_equal(y.data, reference(x, axis=axis))
        y.backward(np.ones(y.shape))
        assert tensor.grad.shape == x.shape


@pytest.mark.scenario("N18")
def test_n18_nothing_to_reduce():
    empty = np.zeros((0, 3))
    np.testing.assert_array_equal(ops.sum(empty, axis=0).data, [0, 0, 0])
    for op in (ops.mean, ops.max, ops.min, ops.var, ops.logsumexp):
        with pytest.raises(ValueError, match=r"nothing|no identity|more than"):
            op(empty, axis=0)
        assert op(empty, axis=1).shape == (0,)


@pytest.mark.scenario("N18")
@pytest.mark.parametrize("axis", [2, -3, (0, 2)])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_n18_axes_that_are_not_there(name, axis):
    with pytest.raises(ValueError, match=r"axis|axes"):
        getattr(ops, name)(np.ones((2, 3)), axis=axis)


@pytest.mark.scenario("N5")
def test_n5_an_empty_batch():
    """Inference gives nothing; training says what is missing, and leaves the model as it was."""
    model = dl.Sequential(
        layers.Conv2D(2, 3), layers.BatchNorm(), layers.Flatten(), layers.Dense(4), input_shape=(5, 5, 1)
    )
    before, empty = model.state_dict(), np.zeros((0, 5, 5, 1), np.uint8)
    assert dl.predict(model, empty).shape == (0, 4)
    with pytest.raises(
        ValueError, match=r"more than 1 value for each channel, got x of shape \(0, 3, 3, 2\)"
    ):
        model(empty)
    for loss in (ops.cross_entropy, ops.nll):
        with pytest.raises(ValueError, match="nothing to average"):
            loss(np.zeros((0, 4)), np.zeros(0, int))
    for loss in (ops.mse, ops.mae, ops.binary_cross_entropy):
        with pytest.raises(ValueError, match="nothing to average"):
            loss(np.zeros((0, 4)), np.zeros((0, 4)))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.scenario("N1")
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, complex])
def test_n1_what_can_have_no_gradient(dtype):
    with pytest.raises(TypeError, match="requires_grad needs a floating dtype"):
        Tensor(np.ones(2, dtype), requires_grad=True)


@pytest.mark.scenario("N1")
@pytest.mark.parametrize(
    "x",
    [np.ones((1, 2), complex), np.array([["a", "b"]]), np.array([[None, 1]])],
    ids=["complex", "text", "objects"],
)
def test_n1_what_is_no_number(x):
    layer = layers.Dense(3)
    with pytest.raises(TypeError, match=r"input must be numbers, got dtype"):
        layer(x)
    assert layer.parameters() == []


@pytest.mark.scenario("N23")
def test_n23_gradients_own_their_memory(rng):
    """Of leaves and of what was passed in; views of an optimiser's buffer are disjoint."""
    model = dl.Sequential(layers.Dense(3), layers.Dense(3), input_shape=(3,))
    optimizer = dl.optim.SGD(model, 0.1)
    x, seed = rng.normal(size=(2, 3)).astype(np.float32), np.ones((2, 3), np.float32)
    for _ in range(2):
        optimizer.zero_grad()
        assert all(p.grad is None for p in model.parameters())
        model(x).backward(seed)
        arrays = [p.grad for p in model.parameters()] + [p.data for p in model.parameters()] + [seed, x]
        for i, a in enumerate(arrays):
            assert not any(np.shares_memory(a, b) for b in arrays[i + 1 :])
        optimizer.step()
    np.testing.assert_array_equal(seed, 1)
