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
from minidl.kernels.cpu import digits, linear, matrix_unit, products

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
    """Within what the products of lower digits add up to: the largest numbers of a row and a column decide that."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    largest = np.outer(np.abs(a).max(axis=1), np.abs(b).max(axis=0))
    assert (np.abs(got - a @ b) <= 2.0**-20 * a.shape[1] ** 0.5 * largest + 1e-30).all()


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80))
def test_six_products_of_digits_are_enough(m, k, n):
    a, b = matrix(m, k, seed=1), matrix(k, n, seed=2)
    assert_precise(products.plain(a, b), a, b)


def test_fewer_products_are_not_enough(monkeypatch):
    a, b = matrix(64, 64, seed=1), matrix(64, 64, seed=2)
    for left_out in sum(matrix_unit.LEVELS, ()):
        fewer = [[pair for pair in pairs if pair != left_out] for pairs in matrix_unit.LEVELS]
        monkeypatch.setattr(products, "LEVELS", fewer)
        with pytest.raises(AssertionError):
            assert_precise(products.plain(a, b), a, b)


ALMOST_TWO = np.nextafter(np.float32(2), np.float32(0))
LAST = np.uint32(0x3F800000 + 0x7EFEFE).view(np.float32)  # the largest mantissa that has three digits


@pytest.mark.parametrize(
    "first", [1, -1, ALMOST_TWO, -ALMOST_TWO, LAST, np.nextafter(LAST, np.float32(2)), 1e-38, 0]
)
@pytest.mark.parametrize("scale", [1, 2.0**100, 2.0**-100])
def test_digits(first, scale):
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1000)).astype(np.float32)
    x[:, 0] = first
    x = (x * np.float32(scale)).astype(np.float32)
    three, scales = digits.digits_of(x)
    assert all((digit == np.clip(np.rint(digit), -128, 127)).all() for digit in three)
    total = sum(digit * 2.0 ** (-8 * i) for i, digit in enumerate(three))
    largest = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    assert (np.abs(total * scales[:, None] * 2**8 - x) <= 2.0**-22 * largest).all()


@needs_unit
@given(st.integers(1, 100), st.integers(1, 100), st.integers(1, 100), orders, orders, st.booleans())
def test_any_shape_and_order(m, k, n, first, second, inside):
    a, b = matrix(m, k, first, 1), matrix(k, n, second, 2)
    around = np.full((m + 2, n + 7), 7, np.float32)
    out = around[1:-1, 3:-4] if inside else np.empty((m, n), np.float32)
    kept = a.copy(), b.copy()
    assert products.by_unit(a, b, out)
    assert_precise(out, a, b)
    np.testing.assert_array_equal(out, products.plain(a, b))
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])
    around[1:-1, 3:-4] = 7
    assert (around == 7).all()


@needs_unit
@pytest.mark.usefixtures("small_products_too")
@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("shape", [(296, 1100, 2080), (2080, 2100, 296), (296, 2200, 296)])
def test_more_than_a_block(order, shape):
    m, k, n = shape
    assert max(m, n) > products.BLOCK and k > products.TERMS
    a, b, out = matrix(m, k, order, 1), matrix(k, n, order, 2), np.empty((m, n), np.float32)
    assert products.unit_pays(m, k, n, out.dtype)
    products.multiply(a, b, out)
    assert_precise(out, a, b)
    np.testing.assert_array_equal(out, products.plain(a, b))
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
@pytest.mark.parametrize("scale", [1e-18, 1e18, 1e-37, 3e38, np.float32(2) ** np.arange(-60, 60, 3)])
def test_all_scales(scale):
    a, b = matrix(40, 40, seed=1), matrix(40, 40, seed=2) / 16
    scaled, out = (a / np.abs(a).max() * np.float32(scale)).astype(np.float32), np.empty((40, 40), np.float32)
    b /= np.float32(max(1, np.max(scale) / 1e30))
    assert products.by_unit(scaled, b, out)
    assert_precise(out, scaled, b)
    np.testing.assert_array_equal(out, products.plain(scaled, b))


@needs_unit
def test_numbers_of_unusual_bits():
    a, b = matrix(40, 70, seed=1), matrix(70, 40, seed=2)
    a[:8, 5] = ALMOST_TWO, -ALMOST_TWO, LAST, -LAST, np.nextafter(LAST, np.float32(2)), 0, -0.0, 1e-42
    a[:8] = np.clip(a[:8], -np.abs(a[:8, 5:6]), np.abs(a[:8, 5:6]))  # their rows' largest
    b[:, 3], out = 0, np.empty((40, 40), np.float32)
    assert products.by_unit(a, b, out)
    assert_precise(out, a, b)
    np.testing.assert_array_equal(out, products.plain(a, b))
    assert not out[5:7].any() and not out[:, 3].any()


@needs_unit
@pytest.mark.usefixtures("small_products_too")
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, np.uint32(0x7FFFFFFF).view(np.float32)])
@pytest.mark.parametrize("where", [(0, 0), (-1, -1)])
@pytest.mark.parametrize("factor", [0, 1])
def test_what_is_not_finite(value, where, factor):
    a, b, out = matrix(520, 512, seed=1), matrix(512, 512, seed=2), np.empty((520, 512), np.float32)
    assert products.unit_pays(520, 512, 512, out.dtype)
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
