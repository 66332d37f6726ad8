"""Work that two threads halve: right in every order of memory, and equal whoever was in time."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn import compare, dtypes

pytest.importorskip("numba", reason="the partner needs Numba: pip install 'minidl[fast]'")
from minidl import kernels
from minidl.kernels import threads
from minidl.kernels.cpu import blas, compiling, halves, linear, optim, partner
from minidl.rng import Key

pytestmark = pytest.mark.skipif(not blas.FUNCTIONS, reason="NumPy has another BLAS than that of its wheels")


def matrix(rows, columns, dtype, order, seed):
    """By rows, by columns, or a part of something wider."""
    x = np.random.default_rng(seed).normal(size=(rows, columns + 3)).astype(dtype)
    return {"rows": np.ascontiguousarray(x[:, 3:]), "columns": np.asfortranarray(x[:, 3:]), "part": x[:, 3:]}[
        order
    ]


def product(a, b):
    out = np.full((len(a), b.shape[1]), np.nan, a.dtype)
    assert halves.multiply(a, b, out)
    return out


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A partner of the test's own, and two threads on any machine."""
    monkeypatch.setattr(partner, "_partner", partner._Partner())
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    return partner._partner


orders = st.sampled_from(["rows", "columns", "part"])


@given(st.integers(32, 90), st.integers(1, 60), st.integers(1, 60), dtypes, orders, orders)
def test_any_order_of_memory(m, k, n, dtype, first, second):
    a, b = matrix(m, k, dtype, first, 1), matrix(k, n, dtype, second, 2)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    compare(product(a, b), expected.astype(dtype), 1e-4 if dtype == np.float32 else None)


SCALE, SHIFT = np.random.default_rng(3).normal(size=(2, 90)).astype(np.float32)
A, B = matrix(128, 100, np.float32, "rows", 1), matrix(100, 90, np.float32, "columns", 2)


def alone(mate):
    mate.busy.acquire()  # by another thread of the user


def asleep(mate):
    assert not mate.awake


def spinning(mate):
    while not mate.awake:
        product(A, B)


def late(mate):
    mate.awake = True  # but nobody looks into the mail, so the half is taken back


STATES = [alone, asleep, spinning, late]


@pytest.mark.parametrize("state", STATES)
def test_the_same_bits_whoever_computes(state, fresh):
    with fresh.busy:  # so that this thread computes
        expected = product(A, B)
    np.testing.assert_allclose(expected, A @ B, rtol=1e-4, atol=1e-4)
    state(fresh)
    for _ in range(50):
        np.testing.assert_array_equal(product(A, B), expected)


@compiling.jit
def _wait_for_the_lower_half(begun, factors, start, stop):
    """Each half says that it has begun; the upper one looks for the lower one, but not forever."""
    for i in range(start, stop):
        begun[i] = factors[0] * i + factors[1]
    left = 10**9
    while start == 0 and left and partner._look(begun.ctypes.data + begun.size // 2 * 8) == -1:
        left -= 1


@compiling.jit
def _meet(mail, together, begun, factors):
    partner.halve(mail, together, _wait_for_the_lower_half, begun.size, begun.size // 2, (begun, factors))
    return True


def test_the_partner_computes_the_lower_half(fresh):
    begun, seen = np.full(10, -1), []
    spinning(fresh)
    begun[5] = 0  # compiled, without waiting
    partner.share(lambda mail, together: _meet(mail, False, begun, (2, 1)))
    np.testing.assert_array_equal(begun, 2 * np.arange(10) + 1)
    for _ in range(20):
        begun[:] = -1
        spinning(fresh)
        partner.share(lambda mail, together: seen.append(together) or _meet(mail, together, begun, (3, 2)))
        np.testing.assert_array_equal(begun, 3 * np.arange(10) + 2)
    assert any(seen)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("state", STATES)
def test_layers_one_after_the_other(state, alpha, fresh):
    """Each half goes through all of them; the next product is a plain one again."""
    plain, last = A @ B, np.random.default_rng(4).normal(size=(90, 120)).astype(np.float32)
    expected = plain * SCALE + SHIFT
    if alpha is not None:
        expected = np.where(expected > 0, expected, alpha * np.expm1(np.minimum(expected, 0)))
    expected = expected @ last
    state(fresh)
    for _ in range(20):
        got = kernels.of(np).dense_affine(A, [(B, SCALE, SHIFT, alpha), (last, None, None, None)])
        compare(got, expected, 1e-4)
    compare(product(A, B), plain, 1e-4)


def block():
    """Everything that a block gives, forward and back."""
    rng = np.random.default_rng(5)
    x, w, b, gamma, beta, dy, means = (
        rng.normal(size=size).astype(np.float32) for size in [(100, 70), (70, 90), 90, 90, 90, (100, 90), 90]
    )
    averages = means, np.ones(90, np.float32)
    key, cpu = Key(0, "a layer"), kernels.of(np)
    y, *kept = cpu.dense_block(x, w, b, gamma, beta, 1e-5, averages, 0.1, 1.0, 0.9, key)
    slope, *rest = kept
    return y, *kept, *averages, *cpu.dense_block_grad(dy, slope, x, w, *rest, gamma)


@pytest.mark.parametrize("state", STATES)
def test_a_block_is_the_same(state, fresh):
    with fresh.busy:  # so that this thread computes
        expected = block()
    state(fresh)
    for _ in range(50):
        for got, wanted in zip(block(), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("state", STATES)
def test_an_update_is_the_same(state, fresh, monkeypatch):
    together, part = [], optim._adam_in_halves
    monkeypatch.setattr(optim, "_adam_in_halves", lambda *a: (together.append(a[1]), part(*a))[1])
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.normal(size=20_001)).astype(np.float32) for _ in range(4)]
    runs, settings = [[a.copy() for a in arrays] for _ in range(20)], (1e-2, 0.9, 0.99, 1e-8, 3, 0.1, False)
    optim._adam(*arrays, *optim._numbers(np.float32, *settings))
    state(fresh)
    for run in runs:
        if state is spinning:
            spinning(fresh)
        kernels.of(np).adam_step(*run, *settings)
        for got, expected in zip(run, arrays, strict=True):
            np.testing.assert_array_equal(got, expected)
    assert any(together) == (state in (spinning, late))
    assert all(together)
    assert fresh.awake == (state is late) or state is spinning  # nobody is woken for it


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="threads have no clocks here")
def test_it_goes_to_sleep(fresh):
    product(A, B)
    end = time.monotonic() + 20
    while fresh.awake and time.monotonic() < end:
        time.sleep(0.01)
    assert not fresh.awake
    clock = time.pthread_getcpuclockid(fresh.thread.ident)  # BLAS may have threads that spin
    spent = time.clock_gettime(clock)
    time.sleep(0.3)
    assert time.clock_gettime(clock) - spent < 0.05
    product(A, B)
    assert fresh.awake  # woken for the next one


def test_it_makes_room_for_shared_work(fresh, monkeypatch):
    monkeypatch.setattr(partner, "PATIENCE", 2**60)
    spinning(fresh)
    time.sleep(0.05)
    assert fresh.awake
    threads.SHARED[0] += 1
    end = time.monotonic() + 20
    while fresh.awake and time.monotonic() < end:
        time.sleep(0.01)
    assert not fresh.awake


def test_one_thread_is_not_given_a_partner(fresh, monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    product(A, B)
    assert fresh.thread is None


def test_several_threads_of_the_user():
    expected, wrong = product(A, B), []

    def work():
        wrong.extend(i for i in range(500) if not np.array_equal(product(A, B), expected))

    users = [threading.Thread(target=work) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def _child(queue):
    queue.put([product(A, B) for _ in range(20)][-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork():
    expected = product(A, B)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join(20)
    np.testing.assert_array_equal(product(A, B), expected)


@pytest.mark.parametrize(
    "a",
    [A[:, ::2], A[::-1, :50], A[:20, :50], A[:, :50].astype(np.float16), np.ones((64, 50), np.int64)],
    ids=["every-other", "backward", "few-rows", "float16", "integers"],
)
def test_what_is_not_for_two(a):
    out = np.empty((len(a), 90), a.dtype)
    assert not halves.multiply(a, B[:50].astype(a.dtype), out)
    assert not halves.multiply(A, B, np.empty((128, 90)))


@pytest.mark.parametrize("sizes", [(128, 784, 100), (100, 128, 100), (33, 100, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_products_take_this_way(sizes, dtype, monkeypatch):
    m, k, n = sizes
    done, multiply = [], halves.multiply
    monkeypatch.setattr(halves, "multiply", lambda *arrays: done.append(multiply(*arrays)) or done[-1])
    a, b = matrix(m, k, dtype, "rows", 1), matrix(k, n, dtype, "rows", 2)
    np.testing.assert_allclose(linear.matmul(a, b), a @ b, rtol=1e-3, atol=1e-3)
    assert done == [True]


@pytest.mark.parametrize("sizes", [(64, 64, 64), (500, 784, 100)], ids=["smaller", "larger"])
def test_others_do_not(sizes, monkeypatch):
    monkeypatch.setattr(halves, "multiply", None)
    m, k, n = sizes
    linear.matmul(np.ones((m, k), np.float32), np.ones((k, n), np.float32))
