"""How work is shared out among threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from minidl.kernels import threads

LONG = 1e9  # nanoseconds, so that it is worth sharing


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)


@pytest.mark.parametrize(("count", "at_once"), [(10, 0), (10, 3), (10, 10), (3, 1), (2, 5)])
def test_results_come_in_order(count, at_once):
    shares = threads.split(lambda i, j: (i, j), count, LONG, at_once=at_once)
    assert [k for i, j in shares for k in range(i, j)] == list(range(count))
    assert len(shares) == (-(-count // at_once) if at_once else 2)


def test_small_work_stays_in_this_thread():
    assert threads.split(lambda i, j: (i, j, threading.get_ident()), 100, 1e3, at_once=7) == [
        (0, 100, threading.get_ident())
    ]


def test_who_is_held_up_takes_fewer_shares():
    others, all_done = [], threading.Event()

    def work(i: int, j: int) -> bool:
        if i == 0:
            return all_done.wait(30)
        others.append(i)
        if len(others) == 5:
            all_done.set()
        return True

    assert threads.split(work, 6, LONG, at_once=1) == [True] * 6
    assert sorted(others) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("number", [0, 1, 4])
def test_an_error_in_a_share_is_raised(number):
    def work(i: int, j: int) -> int:
        if i == number:
            raise ZeroDivisionError(i)
        return i

    with pytest.raises(ZeroDivisionError, match=str(number)):
        threads.split(work, 6, LONG, at_once=1)
    assert threads.split(lambda i, j: i, 6, LONG, at_once=1) == list(range(6))


def test_rows():
    x = np.arange(100)
    assert threads.over_rows(lambda rows: int(x[rows].sum()), x, LONG) == [1225, 3725]
    assert threads.over_rows(lambda rows: int(x[rows].sum()), x, 1.0) == [4950]
    assert threads.over_rows(lambda rows: rows, [1, 2], LONG) == [slice(None)]


def test_shares_of_rows_have_a_limit():
    def sizes(at_most, nanoseconds=LONG):
        return threads.over_rows(lambda rows: len(np.arange(100)[rows]), np.arange(100), nanoseconds, at_most)

    assert sizes(30) == [30, 30, 30, 10]
    assert sizes(49) == [49, 49, 2]
    assert sizes(50) == sizes(64) == [50, 50]
    assert sizes(30, 1e4) == [100]


def test_blas_has_one_thread_meanwhile():
    before = threads.blas.threads()
    seen = threads.over_rows(lambda rows: [x.count() for x in threads.blas._libraries], np.zeros(9), LONG)
    assert all(count == 1 for counts in seen for count in counts)
    assert threads.blas.threads() == before
