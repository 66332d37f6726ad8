"""The checker's own tests: it must reject what is wrong by very little, and accept what is right."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import ops
from minidl.kernels import reference
from minidl.testing import Key, OpCase, check_grad, check_layer, check_op


class Scaled(dl.Function):
    """tanh with a gradient that is off by a factor."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y

    def backward(self, dy):
        return dy * (1 - self.y**2) * self.factor


@pytest.mark.scenario("N25")
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (20, 30)])
def test_accepts_a_right_gradient_and_rejects_a_tenth_of_a_percent(shape, rng):
    x = rng.normal(size=shape)
    check_grad(lambda x: Scaled(1.0)(x), x)
    with pytest.raises(AssertionError, match="the slope is"):
        check_grad(lambda x: Scaled(1.001)(x), x)
    with pytest.raises(AssertionError, match="the slope is"):
        check_grad(lambda x: Scaled(-1.0)(x), x)


@pytest.mark.scenario("N25")
def test_rejects_one_wrong_element_and_names_it(rng):
    class OneWrong(Scaled):
        def backward(self, dy):
            dx = super().backward(dy).copy()
            dx[2, 1] *= 1.01
            return dx

    with pytest.raises(AssertionError, match=r"worst at \(2, 1\)"):
        check_grad(lambda x: OneWrong(1.0)(x), rng.normal(size=(4, 3)))


def test_rejects_assignment_for_addition_where_windows_overlap(monkeypatch, rng):
    def assigning(dy, w, shape, *geometry):
        dx, (_, rows, columns, _) = np.zeros(shape), dy.shape
        for ky in range(len(w)):
            for kx in range(w.shape[1]):
                dx[:, ky : ky + rows, kx : kx + columns] = dy @ w[ky, kx].T
        return dx

    x, w = rng.normal(size=(1, 4, 4, 1)), rng.normal(size=(3, 3, 1, 1))
    check_grad(ops.conv2d, x, w)
    monkeypatch.setattr(reference, "conv2d_grad_input", assigning)
    dl.kernels.use("reference")
    with pytest.raises(AssertionError, match="input 0"):
        check_grad(ops.conv2d, x, w)


@pytest.mark.scenario("N25")
def test_rejects_a_missing_division_by_n(monkeypatch, rng):
    def forgetful(self, dy):
        return self.xp.broadcast_to(self.restore(dy), self.shape)

    monkeypatch.setattr("minidl.ops.reduce.Mean.backward", forgetful)
    with pytest.raises(AssertionError, match="the slope is"):
        check_grad(ops.mse, rng.normal(size=(3, 2)), rng.normal(size=(3, 2)))


def test_rejects_a_batch_norm_without_the_statistics_terms(monkeypatch, rng):
    def detached(dy, x, mean, inverse_std, gamma, into, overwrite):
        return dy * gamma * inverse_std, (dy * (x - mean) * inverse_std).sum(0), dy.sum(0)

    monkeypatch.setattr(reference, "batch_norm_grad", detached)
    dl.kernels.use("reference")
    with pytest.raises(AssertionError, match="input 0"):
        check_grad(ops.batch_norm, rng.normal(size=(5, 2)), np.ones(2), np.zeros(2))


@pytest.mark.scenario("N25")
def test_a_kink_beside_the_point_is_no_error():
    check_grad(ops.relu, np.array([3e-6, -3e-6, 1.0]))


@pytest.mark.scenario("N25")
def test_rejects_random_results():
    with pytest.raises(AssertionError, match="another result the second time"):
        check_grad(lambda x: ops.dropout(x, 0.5), np.ones(50))
    check_grad(lambda x: ops.dropout(x, 0.5, key=Key(0, "fixed")), np.ones(50))


@pytest.mark.scenario("N25")
def test_rejects_writing_to_an_input(rng):
    class Writing(Scaled):
        def forward(self, x):
            y = super().forward(x)
            x += 1.0
            return y

    with pytest.raises(AssertionError, match="wrote to its input 0"):
        check_grad(lambda x: Writing(1.0)(x), rng.normal(size=3))


@pytest.mark.scenario("N25")
def test_leaves_the_arrays_of_the_caller_alone(rng):
    x = rng.normal(size=(3, 2)).astype(np.float32)
    before = x.copy()
    check_grad(lambda x: ops.exp(x), x)
    np.testing.assert_array_equal(x, before)


class Upcasting(Scaled):
    def forward(self, x):
        return super().forward(x).astype(np.float64)


class Aliasing(dl.Function):
    def forward(self, a, b):
        return a + b

    def backward(self, dy):
        return dy, dy


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (OpCase("value", lambda x: Scaled(1.0)(x), [(3, 4)], reference=np.sinh), "Not equal|Mismatch"),
        (OpCase("gradient", lambda x: Scaled(1.01)(x), [(3, 4)]), "the slope is"),
        (OpCase("dtype", lambda x: Upcasting(1.0)(x), [(3, 4)]), "float32 inputs gave"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_check_op_rejects(case, message):
    with pytest.raises(AssertionError, match=message):
        check_op(case)


def test_the_engine_copies_even_if_an_operation_returns_one_array_twice():
    a, b = (dl.Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    Aliasing()(a, b).backward(np.ones(3))
    assert not np.shares_memory(a.grad, b.grad)


def test_check_layer_rejects_a_wrong_layer():
    class Wrong(dl.Layer):
        def build(self, shape):
            self.add_parameter("weight", (shape[-1],), "ones")

        def forward(self, x):
            return Scaled(1.01)(x * self.weight)

    with pytest.raises(AssertionError, match="the slope is"):
        check_layer(Wrong(), (4,))
