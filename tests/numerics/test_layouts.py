"""Input however it lies in memory: the same result as from a tidy copy, and never written to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidl as dl
from minidl import Tensor, layers, ops

W, B = (np.random.default_rng(1).normal(size=s).astype(np.float32) for s in ((3, 3, 4, 2), (2,)))
GAMMA = np.linspace(0.5, 2, 4).astype(np.float32)
LABELS = np.array([0, 3, 1])

OPERATIONS = {
    "conv2d": lambda x: ops.conv2d(x, W, B, padding=1),
    "max_pool2d": lambda x: ops.max_pool2d(x, 2),
    "avg_pool2d": lambda x: ops.avg_pool2d(x, 3, strides=1, padding=1),
    "global_avg_pool2d": ops.global_avg_pool2d,
    "batch_norm": lambda x: ops.batch_norm(x, GAMMA, GAMMA),
    "dropout": lambda x: ops.dropout(x, 0.5, key=dl.testing.Key(0, "layout")),
    "relu": ops.relu,
    "softmax": ops.softmax,
    "sum": lambda x: ops.sum(x, axis=(0, 2)),
    "resize": lambda x: ops.resize(x, (3, 7)),
    "flatten and dense": lambda x: ops.dense(ops.flatten(x), np.ones((100, 2), np.float32)),
    "cross_entropy": lambda x: ops.cross_entropy(x[:, 0, 0, :], LABELS),
}
SHAPE = 3, 5, 5, 4


def views(rng):
    """(how, array) of one shape in many layouts; the last two repeat numbers."""
    x = rng.normal(size=SHAPE).astype(np.float32)
    yield "plain", x
    yield "transposed", rng.normal(size=SHAPE[::-1]).astype(np.float32).T
    yield "channels first inside", np.moveaxis(rng.normal(size=(3, 4, 5, 5)).astype(np.float32), 1, 3)
    yield "Fortran", np.asfortranarray(x)
    yield "reversed", x[::-1, :, ::-1, ::-1]
    yield "strided", rng.normal(size=(6, 10, 15, 8)).astype(np.float32)[::2, ::2, ::3, ::2]
    yield "between", rng.normal(size=(5, 7, 7, 6)).astype(np.float32)[1:4, 1:6, 1:6, 1:5]
    yield "unaligned", np.frombuffer(b"x" + x.tobytes(), np.float32, offset=1).reshape(SHAPE)
    yield "broadcast over channels", np.broadcast_to(x[..., :1], SHAPE)
    yield "broadcast over the batch", np.broadcast_to(x[:1], SHAPE)


@pytest.mark.scenario("N4")
@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_n4_layouts(name, kernels, rng, request):
    operation = OPERATIONS[name]
    request.addfinalizer(lambda: dl.kernels.use(request.config.getoption("--kernels")))
    dl.kernels.use(kernels)
    for how, view in views(rng):
        tidy, before = view.copy(order="C"), view.copy()
        if how != "unaligned":
            view.flags.writeable = False
        results = []
        for array in (view, tidy):
            x = Tensor(array, requires_grad=True)
            y = operation(x)
            y.backward(np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape))
            results.append((y.data, x.grad))
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-5, err_msg=how)
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-5, err_msg=how)
        np.testing.assert_array_equal(view, before, err_msg=how)


@pytest.mark.scenario("N4")
@given(
    st.permutations(range(4)),
    st.lists(st.sampled_from([1, 2, -1, -2]), min_size=4, max_size=4),
    st.integers(0, 9),
)
def test_n4_any_view_through_a_model(axes, steps, seed):
    model = dl.Sequential(
        layers.Conv2D(3, 3, padding="same", activation="relu"), layers.BatchNorm(), layers.MaxPool2D(2),
        layers.Flatten(), layers.Dense(2), input_shape=SHAPE[1:],
    ).eval()  # fmt: skip
    lengths = [SHAPE[axis] * abs(step) for axis, step in zip(axes, [steps[a] for a in axes], strict=True)]
    whole = np.random.default_rng(seed).normal(size=lengths).astype(np.float32)
    view = whole.transpose(np.argsort(axes))[tuple(slice(None, None, step) for step in steps)]
    assert view.shape == SHAPE
    np.testing.assert_allclose(model(view).data, model(view.copy(order="C")).data, rtol=1e-5, atol=1e-5)
