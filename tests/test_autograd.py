"""The engine: graphs, order, freeing, versions, dtypes, and behaving as a Python object should."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import minidl as dl
from minidl import Tensor, ops
from minidl.backend import DeviceError, common_module


def leaf(values, **kw):
    return Tensor(np.array(values, dtype=np.float64), requires_grad=True, **kw)


# Graphs -----------------------------------------------------------------------------------------------


@pytest.mark.scenario("N19")
def test_same_tensor_twice_in_one_operation():
    x = leaf([3.0])
    (x * x).backward()
    assert x.grad == 6
    y = leaf([3.0])
    (y - y).backward()
    assert y.grad == 0


@pytest.mark.scenario("N19")
def test_diamond():
    x = leaf([2.0])
    a = x * 3
    (a * a + ops.exp(a)).backward()
    assert x.grad == pytest.approx(3 * (2 * 6 + np.exp(6)))


@pytest.mark.scenario("N19")
def test_path_count_does_not_matter():
    x = leaf([1.0])
    y = x
    for _ in range(60):  # 2**60 paths, 60 nodes
        y = y + y
    y.backward()
    assert x.grad == 2.0**60


@pytest.mark.scenario("N19")
def test_shared_layer_adds_its_gradients():
    layer = dl.layers.Dense(2)
    x = np.array([[1.0, 2.0]])
    y = layer(layer(x))
    y.backward(np.ones((1, 2)))
    h = x @ layer.weight.data + layer.bias.data
    dh = np.ones((1, 2)) @ layer.weight.data.T
    np.testing.assert_allclose(layer.weight.grad, h.T @ np.ones((1, 2)) + x.T @ dh, rtol=1e-6)
    np.testing.assert_allclose(layer.bias.grad, 1 + dh[0], rtol=1e-6)


@pytest.mark.scenario("F33")
@pytest.mark.parametrize("length", [10_000, 100_000])
def test_long_chain(length):
    x = leaf([1.0])
    y = x
    for _ in range(length):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    z = x
    for _ in range(length):
        z = z * 1.0
    del z  # a chain that never ran backward must be deletable too


@pytest.mark.scenario("N19")
def test_unused_branch_has_no_gradient():
    x, unused = leaf([1.0]), leaf([1.0])
    _ = unused * 2
    (x * 2).backward()
    assert unused.grad is None


def test_gradient_is_only_computed_where_needed():
    class Spy(dl.Function):
        def forward(self, a, b):
            return a + b

        def backward(self, dy):
            seen.append(self.needs_grad)
            return dy, dy

    seen = []
    Spy()(leaf([1.0]), np.ones(1)).backward()
    assert seen == [(True, False)]


@pytest.mark.scenario("N20", "N23")
def test_gradients_accumulate_until_reset():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [6, 6])
    x.grad = None
    (x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])


@pytest.mark.scenario("N23")
def test_assigned_gradient_is_not_written_to():
    x, mine = leaf([1.0]), np.zeros(1)
    x.grad = mine
    (x * 2).backward()
    assert x.grad == 2
    assert mine == 0


@pytest.mark.scenario("N23")
def test_gradients_never_share_memory():
    a, b = leaf([1.0]), leaf([1.0])
    out = a + b
    seed = np.ones(1)
    out.backward(seed)
    a.grad += 5
    assert b.grad == 1
    assert seed == 1


@pytest.mark.scenario("N18")
def test_unbroadcast_to_scalars_and_single_rows():
    s, row = leaf(2.0), leaf([[1.0, 1.0]])
    x = np.arange(6.0).reshape(3, 2)
    (s * x + row).sum().backward()
    assert s.grad == 15
    np.testing.assert_array_equal(row.grad, [[3, 3]])


def test_constant_loss_of_zero_still_gives_gradients():
    x = leaf([0.0])
    (x * 5).backward()
    assert x.grad == 5


# Freeing ----------------------------------------------------------------------------------------------


@pytest.mark.scenario("N20")
def test_backward_twice_is_refused():
    y = (leaf([1.0]) * 2).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"already freed.*retain_graph=True"):
        y.backward()


@pytest.mark.scenario("N20")
def test_backward_through_a_freed_part_is_refused():
    x = leaf([1.0])
    shared = x * 2
    (shared * 3).backward()
    with pytest.raises(RuntimeError, match="already freed"):
        (shared * 4).backward()


@pytest.mark.scenario("N20")
def test_retain_graph():
    x = leaf([3.0])
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == 12


@pytest.mark.scenario("F32")
def test_backward_frees_the_arrays_even_if_the_loss_is_kept():
    x = leaf(np.ones(10))
    hidden = x * 2
    alive = weakref.ref(hidden)
    loss = (hidden * hidden).sum()
    del hidden
    loss.backward()
    assert alive() is None
    assert loss.item() == 40


@pytest.mark.scenario("F31")
def test_a_thousand_steps_keep_memory_flat():
    model = dl.Sequential(dl.layers.Dense(16, "relu"), dl.layers.Dense(3), input_shape=(8,))
    optimizer = dl.optim.Adam(model)
    x, y = np.ones((4, 8), np.float32), np.zeros(4, np.int64)

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            ops.cross_entropy(model(x), y).backward()
            optimizer.step()

    steps(20)
    gc.collect()
    gc.disable()  # reference counting alone must do
    try:
        before = len(gc.get_objects())
        steps(1000)
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


# Versions ---------------------------------------------------------------------------------------------


def overwrite(t):
    t.data[...] = 5.0


def add_in_place(t):
    t.data += 1.0


def assign(t):
    t.data = np.full(t.shape, 7.0)


@pytest.mark.scenario("N22")
@pytest.mark.parametrize("change", [overwrite, add_in_place, assign])
@pytest.mark.parametrize("which", ["input", "output"])
def test_changing_a_saved_array_is_noticed(change, which):
    x = leaf([1.0, 2.0])
    y = x * x if which == "input" else ops.exp(x)
    change(x if which == "input" else y)
    with pytest.raises(RuntimeError, match=r"backward needs the values of shape \(2,\).*changed since"):
        y.sum().backward()


@pytest.mark.parametrize("change", [overwrite, add_in_place, assign])
def test_changing_an_array_that_nobody_saved_is_fine(change):
    x = leaf([1.0, 2.0])
    y = (x + 1.0).sum()
    change(x)
    y.backward()
    np.testing.assert_array_equal(x.grad, [1, 1])


def test_looking_at_a_saved_array_is_fine():
    x = leaf([1.0, 2.0])
    y = x * x
    assert x.data.sum() == 3
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


def test_a_change_between_two_graphs_concerns_only_the_older():
    x = leaf([1.0])
    old = x * x
    x.data[...] = 3.0
    new = x * x
    new.backward()
    assert x.grad == 6
    with pytest.raises(RuntimeError, match="changed since"):
        old.backward()


def test_values_may_change_after_backward():
    x = leaf([1.0])
    for _ in range(3):
        (x * x).backward()
        x.data -= 0.1 * x.grad
        x.grad = None
    assert x.data == pytest.approx(0.8**3)


@pytest.mark.scenario("N22")
def test_optimizer_step_between_forward_and_backward_is_noticed():
    model = dl.Sequential(dl.layers.Dense(2), dl.layers.Dense(1), input_shape=(3,))
    optimizer = dl.optim.SGD(model, 0.1)
    x = np.ones((1, 3), np.float32)
    model(x).backward(np.ones((1, 1)))
    late = model(x)
    optimizer.step()
    with pytest.raises(RuntimeError, match="changed since"):
        late.backward(np.ones((1, 1)))


# no_grad ----------------------------------------------------------------------------------------------


@pytest.mark.scenario("F34")
def test_no_grad_nests_and_survives_errors():
    x = leaf([1.0])
    with dl.no_grad():
        with dl.no_grad():
            pass
        assert not (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), dl.no_grad():
        _ = 1 / 0
    assert (x * 2).requires_grad


def test_no_grad_decorates_recursive_functions():
    @dl.no_grad()
    def count(n):
        return [(leaf([1.0]) * 2).requires_grad, *(count(n - 1) if n else [])]

    assert count(3) == [False] * 4
    assert (leaf([1.0]) * 2).requires_grad


@pytest.mark.scenario("F36")
def test_no_grad_belongs_to_its_thread():
    result, entered, checked = [], threading.Event(), threading.Event()

    def other():
        entered.wait()
        result.append((leaf([1.0]) * 2).requires_grad)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with dl.no_grad():
        entered.set()
        checked.wait()
    thread.join()
    assert result == [True]


@pytest.mark.scenario("F34")
def test_error_in_forward_leaves_no_trace():
    x = leaf(np.ones((2, 3)))
    with pytest.raises(dl.ShapeError):
        x @ np.ones((2, 2))
    (x * 1).sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))


# Refusals ---------------------------------------------------------------------------------------------


@pytest.mark.scenario("N21")
@pytest.mark.parametrize(
    ("make", "grad", "message"),
    [
        (lambda: Tensor([1.0]), None, "depends on nothing with requires_grad"),
        (lambda: leaf([1.0, 2.0]) * 2, None, r"shape \(2,\) needs a gradient"),
        (lambda: leaf([1.0, 2.0]) * 2, np.ones(3), r"shape \(2,\) got a gradient of shape \(3,\)"),
    ],
)
def test_backward_says_what_is_missing(make, grad, message):
    with pytest.raises(RuntimeError, match=message):
        make().backward(grad)


@pytest.mark.scenario("N1")
def test_integers_cannot_require_gradients():
    with pytest.raises(TypeError, match=r"floating dtype, got int64.*dtype='float32'"):
        Tensor(np.arange(3), requires_grad=True)


def test_item_assignment_names_the_alternative():
    with pytest.raises(TypeError, match=r"dl\.ops\.where.*dl\.ops\.concatenate.*x\.data"):
        leaf([1.0])[0] = 2.0


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_function_must_define_both_directions(method):
    with pytest.raises(TypeError, match=f"Function must define {method}"):
        getattr(dl.Function(), method)(np.ones(1))


def test_mixing_array_modules_is_refused(monkeypatch):
    class OtherArray:
        shape, ndim, device = (2,), 1, type("D", (), {"id": 0})()

    OtherArray.__module__ = "cupy.elsewhere"
    monkeypatch.setitem(__import__("sys").modules, "cupy", object())
    monkeypatch.setattr("minidl.backend._modules", {})
    with pytest.raises(
        DeviceError, match=r"add: all arrays must be on one device, got \(2,\) on cpu, \(2,\) on cuda:0"
    ):
        common_module("add", (np.ones(2), OtherArray()))


# Types ------------------------------------------------------------------------------------------------


@pytest.mark.scenario("N2")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 2.5, np.float64(2.5), np.int64(3)])
def test_numbers_never_upcast(dtype, number):
    x = Tensor(np.ones(3, dtype), requires_grad=True)
    for y in (x + number, number - x, x * number, number / x, x**number, number**x):
        assert y.dtype == dtype
        y.backward(np.ones(3))
        assert x.grad.dtype == dtype


def test_python_values_become_float32():
    assert Tensor([1.0, 2.0]).dtype == np.float32
    assert Tensor(1.5).dtype == np.float32
    assert Tensor([1, 2]).dtype.kind == "i"
    assert Tensor(np.ones(2)).dtype == np.float64
    assert Tensor([1, 2], dtype="float64").dtype == np.float64


@pytest.mark.scenario("N2")
def test_gradient_has_the_dtype_of_its_tensor():
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    (x * np.ones(2, np.float64)).sum().backward()
    assert x.grad.dtype == np.float32


# A Python object --------------------------------------------------------------------------------------


@pytest.mark.scenario("N29")
def test_numpy_defers_to_tensor():
    x = leaf([1.0, 2.0])
    for y in (np.ones(2) + x, np.ones(2) * x, np.ones(2) - x, np.ones(2) / x, np.ones((3, 2)) @ x):
        assert isinstance(y, Tensor)
        assert y.requires_grad


@pytest.mark.scenario("N29")
def test_conversions():
    x = leaf([[1.0, 2.0]])
    assert len(x) == 1
    assert x.size == 2
    assert x.ndim == 2
    assert x.device == "cpu"
    assert x.T.shape == (2, 1)
    assert [r.shape for r in x] == [(2,)]
    assert float(x[0, 1]) == 2.0
    assert int(x[0, 1]) == 2
    assert x[0, 0].item() == 1.0
    np.testing.assert_array_equal(np.asarray(x), x.numpy())
    assert x.detach().data is x.data
    assert not x.detach().requires_grad
    assert {x: 1}[x] == 1
    assert (x == None) is False  # noqa: E711
    assert bool(Tensor(1.0))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(TypeError, match="0-d"):
        iter(Tensor(1.0))


def test_comparisons_are_plain_boolean_arrays():
    x = leaf([1.0, 2.0, 3.0])
    assert (x > 2).tolist() == [False, False, True]
    assert (x >= Tensor(2.0)).tolist() == [False, True, True]
    assert (x < np.array([2, 2, 2])).tolist() == [True, False, False]
    assert (x <= 2).tolist() == [True, True, False]


def test_methods_are_the_operations():
    x = leaf([[1.0, -2.0], [3.0, 4.0]])
    assert x.sum().item() == 6
    assert x.mean(axis=0).data.tolist() == [2, 1]
    assert x.max().item() == 4
    assert x.min(axis=1, keepdims=True).shape == (2, 1)
    assert x.transpose(1, 0).data.tolist() == [[1, 3], [-2, 4]]
    assert abs(x).data.tolist() == [[1, 2], [3, 4]]
    assert (-x).data[0, 0] == -1


def test_repr():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5])"
    assert repr(leaf([1.0])) == "Tensor([1.], requires_grad=True)"


def test_own_function():
    class Cube(dl.Function):
        def forward(self, x):
            self.x = x
            return x**3

        def backward(self, dy):
            return 3 * self.x**2 * dy

    dl.testing.check_grad(lambda x: Cube()(x), np.random.default_rng(0).normal(size=(2, 3)))
