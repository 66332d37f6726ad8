"""float16: its sums end at 65,504 and lose ones beyond 2,048, so statistics are computed in float32."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import Tensor, ops

ROWS = 70_000
MANY = np.full((ROWS, 2), 2, np.float16)  # sums to 140,000
WIDE = np.zeros((ROWS, 2), np.float16)
LABELS = np.zeros(ROWS, np.int64)
NORM = np.ones(2, np.float16), np.zeros(2, np.float16)

STATISTICS = {
    "sum of ones": (lambda: ops.sum(np.ones((5000, 2), np.float16), axis=0), 5000),
    "mean": (lambda: ops.mean(MANY), 2),
    "mean of columns": (lambda: ops.mean(MANY, axis=0), 2),
    "var": (lambda: ops.var(np.array([0, 300] * 500, np.float16)), 22500),
    "var of columns": (lambda: ops.var(MANY, axis=0), 0),
    "logsumexp": (lambda: ops.logsumexp(np.zeros(70_000, np.float16)), np.log(70_000)),
    "log_softmax": (lambda: ops.log_softmax(np.zeros((70_000, 1), np.float16), axis=0), -np.log(70_000)),
    "batch_norm": (lambda: ops.batch_norm(MANY, *NORM), 0),
    "batch_norm far out": (lambda: ops.batch_norm(np.tile([[900], [1100]], (300, 2)).astype(np.float16), *NORM)[::2], -1),
    "global_avg_pool2d": (lambda: ops.global_avg_pool2d(np.full((1, 300, 300, 1), 2, np.float16)), 2),
    "cross_entropy": (lambda: ops.cross_entropy(np.zeros((ROWS, 3), np.float16), LABELS), np.log(3)),
    "mae": (lambda: ops.mae(MANY, WIDE), 2),
}  # fmt: skip


@pytest.mark.scenario("N3")
@pytest.mark.parametrize("name", STATISTICS)
def test_n3_statistics(name):
    make, expected = STATISTICS[name]
    y = make()
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data.astype(float), expected, rtol=2e-3, atol=1e-3)


@pytest.mark.scenario("N3")
def test_n3_gradient_of_a_broadcast_row():
    row = Tensor(np.ones(2, np.float16), requires_grad=True)
    (np.ones((5000, 2), np.float16) * row).backward(np.ones((5000, 2), np.float16))
    np.testing.assert_array_equal(row.grad, 5000)


@pytest.mark.scenario("N3")
def test_n3_sums_of_other_types_keep_theirs():
    for dtype, expected in ((bool, np.int64), (np.uint8, np.uint64), (np.float64, np.float64)):
        y = ops.sum(np.full(1000, True).astype(dtype))
        assert y.dtype == expected and y.item() == 1000


@pytest.mark.scenario("N3")
@pytest.mark.parametrize("dtype", ["float16", "longdouble", "int32"])
def test_n3_no_model_in_float16(dtype):
    model = dl.Sequential(dl.layers.Dense(2), input_shape=(3,))
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
        model.to(dtype=dtype)
    assert model[0].weight.dtype == np.float32
