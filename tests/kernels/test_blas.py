"""Sums of products by BLAS's own function: right in every order of memory, and with another BLAS too."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn import compare, dtypes

pytest.importorskip("numba", reason="the kernels need Numba: pip install 'minidl[fast]'")
from minidl.kernels.cpu import blas

ORDERS = {
    "rows": lambda x: x,
    "columns": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
    "part": lambda x: np.pad(x, ((0, 0), (1, 1), (2, 1)))[:, 1:-1, 2:-1],
    "apart": lambda x: np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)[:, ::2, ::2],
    "backward": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
}
orders, few = st.sampled_from(sorted(ORDERS)), st.integers(0, 9)


def sums(p, m, k, n, dtype, of_a, of_b, of_total="rows", anew=False):
    """(what is added up, what it must be)."""
    rng = np.random.default_rng(p * m * k * n)
    a, b, total = (rng.normal(size=size).astype(dtype) for size in ((p, m, k), (p, k, n), (p, m, n)))
    expected = a @ b if anew else total + a @ b
    total = np.full_like(total, np.nan) if anew else total  # which must not be looked at
    total = ORDERS[of_total](total)
    for x, y, z in zip(ORDERS[of_a](a), ORDERS[of_b](b), total, strict=True):
        blas.add_product(x, y, z, anew)
    return total, expected


@given(few, few, few, few, dtypes, orders, orders, orders, st.booleans())
def test_any_order_of_memory(p, m, k, n, dtype, of_a, of_b, of_total, anew):
    compare(*sums(p, m, k, n, dtype, of_a, of_b, of_total, anew))


@given(few, few, few, few, dtypes, orders, orders, st.booleans())
def test_with_another_blas(p, m, k, n, dtype, of_a, of_b, anew):
    with another_blas():
        compare(*sums(p, m, k, n, dtype, of_a, of_b, anew=anew))


@contextlib.contextmanager
def another_blas():
    before = dict(blas.FUNCTIONS)
    blas.FUNCTIONS.clear()
    try:
        yield
    finally:
        blas.FUNCTIONS.update(before)


@pytest.mark.parametrize("blas_of_numpy", [contextlib.nullcontext, another_blas])
@given(st.lists(st.tuples(few, few), max_size=4), st.integers(1, 9), st.integers(1, 9), dtypes, st.booleans())
def test_products_of_spans(blas_of_numpy, edges, c, f, dtype, anew):
    rng, rows, count = np.random.default_rng(0), 9, len(edges) + 1
    places = rng.permutation(count)[: len(edges)]
    spans = np.array([(p, min(e), max(e)) for p, e in zip(places, edges, strict=True)], int).reshape(-1, 3)
    a, b = (rng.normal(size=(count, rows, k)).astype(dtype) for k in (c, f))
    u, total = (rng.normal(size=(len(edges), c, f)).astype(dtype) for _ in range(2))
    made, expected, sums = np.zeros((count, rows, f), dtype), np.zeros((count, rows, f), dtype), total.copy()
    for i, (p, start, stop) in enumerate(spans):
        expected[p, start:stop] = a[p, start:stop] @ u[i]
        sums[i] = (0 if anew else sums[i]) + a[p, start:stop].T @ b[p, start:stop]
    with blas_of_numpy():
        blas.multiply_spans(a, u, made, spans)
        blas.add_spans(a, b, total, spans, anew)
    compare(made, expected)
    compare(total, sums)


@pytest.mark.skipif(not blas.FUNCTIONS, reason="NumPy has another BLAS than that of its wheels")
@pytest.mark.parametrize(("of_a", "of_b"), [("rows", "part"), ("columns", "columns")])
def test_the_function_is_used(of_a, of_b, monkeypatch):
    used, add = [], blas._add_product
    monkeypatch.setattr(blas, "_add_product", lambda *arguments: (used.append(1), add(*arguments)))
    compare(*sums(3, 20, 30, 40, np.float32, of_a, of_b))
    assert used


def test_integers_and_half_precision_are_added_up_too():
    compare(*sums(2, 3, 4, 5, np.float16, "rows", "columns"), tolerance=1e-2)
    compare(*sums(2, 3, 4, 5, np.int64, "rows", "columns"))


def test_rows_that_share_memory_and_mixed_precision():
    row, b = np.arange(8, dtype=np.float32), np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for a in (np.broadcast_to(row[:4], (5, 4)), np.lib.stride_tricks.sliding_window_view(row, 4)):
        total = np.ones((5, 3), np.float32)
        blas.add_product(a, b, total)
        compare(total, 1 + a @ b)
    total, a = np.ones((5, 3)), np.full((5, 4), 2, np.float32)
    blas.add_product(a, b.astype(np.float64), total)
    compare(total, 1 + a @ b.astype(np.float64))
