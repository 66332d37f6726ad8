"""Products by the matrix unit: as precise as float32 allows, for every shape and order of memory."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the kernels need Numba: pip install 'minidl[fast]'")
from minidl.kernels import reference
from minidl.kernels.cpu import linear, matrix_unit, products

needs_unit = pytest.mark.skipif(not products.USED, reason="needs a processor with AMX")


@pytest.fixture
def small_products_too(monkeypatch):
    monkeypatch.setattr(products, "FEWEST", 0)
    products.unit_pays.cache_clear()
    yield
    products.unit_pays.cache_clear()


orders = st.sampled_from(["rows", "columns", "part", "apart"])


def matrix(rows, columns, order="rows", seed=0):
    """By rows, by columns, or a part of something larger, whose numbers may have others between them."""
    x = np.random.default_rng(seed).normal(size=(rows, 2 * columns + 3)).astype(np.float32)
    return {
        "rows": np.ascontiguousarray(x[:, :columns]),
        "columns": np.asfortranarray(x[:, :columns]),
        "part": x[:, 3 : columns + 3],
        "apart": x[:, : 2 * columns : 2],
    }[order]


def assert_precise(got, a, b):
    """Within what the roundings of K sums in float32 add up to, unless all of them go the same way."""
    exact, size = (f(a).astype(np.float64) @ f(b).astype(np.float64) for f in (np.asarray, np.abs))
    bound = 2.0**-23 * (4 + a.shape[1] ** 0.5) * size + 1e-30
    assert (np.abs(got - exact) <= bound).all()


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80))
def test_six_products_of_parts_are_enough(m, k, n):
    a, b = matrix(m, k, seed=1), matrix(k, n, seed=2)
    assert_precise(products.plain(a, b), a, b)


def test_fewer_products_are_not_enough(monkeypatch):
    a, b = matrix(64, 64, seed=1), matrix(64, 64, seed=2)
    for left_out in products.PAIRS:
        monkeypatch.setattr(products, "PAIRS", [pair for pair in matrix_unit.PAIRS if pair != left_out])
        with pytest.raises(AssertionError):
            assert_precise(products.plain(a, b), a, b)


def test_parts_add_up():
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * np.float32(10) ** np.arange(
        -25, 25
    ).repeat(20)
    x = np.concatenate([x.astype(np.float32), np.float32([0, -0.0, 1, 2**-100, np.finfo(np.float32).max])])
    parts = products._parts(x)
    np.testing.assert_array_equal((parts[0].astype(np.float64) + parts[1]) + parts[2], x)
    for part in parts:
        assert not (part.view(np.uint32) & 0xFFFF).any()


@needs_unit
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 100), orders, orders, st.booleans())
def test_any_shape_and_order(m, k, n, first, second, inside):
    a, b = matrix(m, k, first, 1), matrix(k, n, second, 2)
    around = np.full((m + 2, n + 7), 7, np.float32)
    out = around[1:-1, 3:-4] if inside else np.empty((m, n), np.float32)
    kept = a.copy(), b.copy()
    assert products.by_unit(a, b, out)
    assert_precise(out, a, b)
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])
    around[1:-1, 3:-4] = 7
    assert (around == 7).all()


@needs_unit
@pytest.mark.usefixtures("small_products_too")
@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("shape", [(296, 840, 2080), (2080, 1700, 296), (296, 1640, 296)])
def test_more_than_a_block(order, shape):
    m, k, n = shape
    assert max(m, n) > products.BLOCK and k > products.TERMS
    a, b, out = matrix(m, k, order, 1), matrix(k, n, order, 2), np.empty((m, n), np.float32)
    assert products.unit_pays(m, k, n, out.dtype)
    products.multiply(a, b, out)
    assert_precise(out, a, b)
    np.testing.assert_array_equal(linear.matmul(a, b), out)  # of all threads, the same bits


@needs_unit
@pytest.mark.parametrize("shape", [(70, 1700, 300), (300, 1700, 70), (5, 40, 7)])
@pytest.mark.parametrize(("slope", "biased"), [(None, True), (0.0, True), (0.1, True), (0.0, False)])
def test_bias_and_activation(shape, slope, biased):
    m, k, n = shape
    a, b = matrix(m, k, seed=1), matrix(k, n, seed=2)
    bias = matrix(1, n, seed=3)[0] if biased else None
    plain, out = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    assert products.by_unit(a, b, plain) and products.by_unit(a, b, out, bias, slope)
    reference.bias_activation(plain, bias, slope)
    np.testing.assert_array_equal(out, plain)


@needs_unit
@pytest.mark.usefixtures("small_products_too")
def test_a_result_by_columns():
    a, b = matrix(300, 300, seed=1), matrix(300, 300, seed=2)
    out = np.empty((300, 300), np.float32, order="F")
    products.multiply(a, b, out)
    assert_precise(out, a, b)


@needs_unit
def test_all_scales():
    a, b = matrix(40, 40, seed=1), matrix(40, 40, seed=2)
    for scale in (1e-18, 1e18, np.float32(2) ** np.arange(-60, 60, 3)):
        scaled, out = (a * np.float32(scale)).astype(np.float32), np.empty((40, 40), np.float32)
        assert products.by_unit(scaled, b, out)
        assert_precise(out, scaled, b)


@needs_unit
@pytest.mark.usefixtures("small_products_too")
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, np.uint32(0x7FFFFFFF).view(np.float32)])
@pytest.mark.parametrize("where", [(0, 0), (-1, -1)])
@pytest.mark.parametrize("factor", [0, 1])
def test_what_is_not_finite(value, where, factor):
    a, b, out = matrix(260, 256, seed=1), matrix(256, 256, seed=2), np.empty((260, 256), np.float32)
    assert products.unit_pays(260, 256, 256, out.dtype)
    (a, b)[factor][where] = value
    with np.errstate(invalid="ignore"):
        products.multiply(a, b, out)
        np.testing.assert_array_equal(out, a @ b)


def test_small_products_and_double_stay_with_blas():
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    assert not products.unit_pays(64, 64, 64, single)
    assert not products.unit_pays(100_000, 16, 16, single)
    assert not products.unit_pays(1000, 1000, 1000, double)
    assert not products.unit_pays(1000, 1000, 250, single)
    assert products.unit_pays(1000, 1000, 1000, single) == products.USED


@needs_unit
@pytest.mark.usefixtures("small_products_too")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_and_processes():
    """The unit's registers belong to a thread, its permission to the process and those that it forks."""
    a, b = matrix(512, 512, seed=1), matrix(512, 512, seed=2)
    expected, wrong = linear.matmul(a, b), []

    def check():
        for _ in range(20):
            if not np.array_equal(linear.matmul(a, b), expected):
                wrong.append(1)

    users = [threading.Thread(target=check) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(linear.matmul, (a, b)), expected)


@needs_unit
def test_it_can_be_left_alone():
    code = (
        "from minidl import kernels; import numpy; kernels.of(numpy); print(kernels.conditions()['kernels'])"
    )
    for value, expected in (("0", "Numba"), ("1", "Numba and AMX")):
        run = [sys.executable, "-c", f"import os; os.environ['MINIDL_MATRIX_UNIT'] = {value!r}; {code}"]
        assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == expected
