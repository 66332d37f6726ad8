"""Work split over the batch: each thread does its share of the images, or of the rows, from end to end.

While our threads work, BLAS keeps to the thread that calls it. Its own threads would wait for the next call by
spinning, for 25 ms and more, on the cores that ours need: the same convolution takes twice as long then
(docs/adr/0005). How many threads there are is what BLAS was told (OPENBLAS_NUM_THREADS, threadpoolctl), or
MINIDL_THREADS. The pool is shared by all threads of the user; after a fork the child makes its own.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import threadpoolctl

from ..backend import Array

Result = TypeVar("Result")

GRAIN = 120_000.0  # nanoseconds of work below which handing it to another thread does not pay
ALONE = 5_000.0  # and for which BLAS keeps to one thread by itself
SHARED = np.zeros(1, np.int64)  # how often work was shared: who waits by spinning makes room when it changes


class _Blas:
    """The threads of the BLAS libraries in this process: how many, and one as long as ours are at work."""

    def __init__(self) -> None:
        found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
        self._libraries = [_Library(*_accessors(library)) for library in found]
        self._handles = [library.dynlib for library in found if library.internal_api == "openblas"]
        self._lock = threading.Lock()
        self._users = 0

    def threads(self) -> int:
        """How many BLAS would use if it were alone."""
        with self._lock:
            return max([x.before if self._users else x.count() for x in self._libraries], default=1)

    def addresses(self, *names: str) -> list[int]:
        """Where OpenBLAS's functions of these names begin; none if it is not there, or has not all of them."""
        for handle in self._handles:
            if all(hasattr(handle, name) for name in names):
                return [ctypes.cast(getattr(handle, name), ctypes.c_void_p).value or 0 for name in names]
        return []

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                for library in self._libraries:
                    library.before = library.count()
                    library.use(1)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                for library in self._libraries:
                    library.use(library.before)


class _Library:
    """How to ask for the number of its threads, how to set it, and what it was before ours went to work."""

    def __init__(self, count: Callable[[], int], use: Callable[[int], None]):
        self.count, self.use, self.before = count, use, 1


def _accessors(library: Any) -> tuple[Callable[[], int], Callable[[int], None]]:
    """(get, set) of a library's number of threads: of OpenBLAS's own functions, which take no time."""
    for affixes in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
        get, put = ("openblas_{}_num_threads".join(affixes).format(verb) for verb in ("get", "set"))
        if library.internal_api == "openblas" and hasattr(library.dynlib, put):
            addresses = [
                ctypes.cast(getattr(library.dynlib, name), ctypes.c_void_p).value for name in (get, put)
            ]
            return (
                ctypes.PYFUNCTYPE(ctypes.c_int)(addresses[0] or 0),
                ctypes.PYFUNCTYPE(None, ctypes.c_int)(addresses[1] or 0),
            )
    return library.get_num_threads, library.set_num_threads


blas: _Blas
_pool: ThreadPoolExecutor | None


def _start() -> None:
    global blas, _pool
    blas, _pool = _Blas(), None


_start()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)  # threads do not survive a fork


def thread_count() -> int:
    """How many threads share the work."""
    return int(os.environ.get("MINIDL_THREADS", 0)) or blas.threads()


def split(
    work: Callable[[int, int], Result],
    count: int,
    nanoseconds: float,
    products: bool = False,
    at_once: int = 0,
) -> list[Result]:
    """Results of ``work(start, stop)`` over consecutive shares of range(count), in order.

    Parameters
    ----------
    work : function
        Must release the interpreter lock for most of its time, and write to its own share only.
    nanoseconds : float
        Rough cost of all of it on one core; small work stays in one piece, in this thread.
    products : bool
        Whether `work` calls BLAS.
    at_once : int
        How many a share has; threads take one after the other until none is left. 0: each thread has one share.
    """
    threads = 1
    if nanoseconds >= 2 * GRAIN:
        threads = min(thread_count(), count, int(nanoseconds / GRAIN))
    if threads > 1:
        SHARED[0] += 1
        even = [count * i // threads for i in range(threads + 1)]
        with blas:
            return _share(work, [*range(0, count, at_once), count] if at_once else even, threads)
    if products:
        with blas:
            return [work(0, count)]
    return [work(0, count)]


def over_rows(
    work: Callable[[slice], Result], x: Array, nanoseconds: float, at_most: int = 0
) -> list[Result]:
    """Results of ``work(rows)`` over shares of a NumPy array's first axis, as `split` does; of others, over all at once.

    The work may be products, but must not share out any itself. A share has `at_most` so many rows, if that is not 0
    and it is worth handing out any.
    """
    if nanoseconds < ALONE or not isinstance(x, np.ndarray):
        return [work(slice(None))]
    if at_most and at_most * thread_count() >= len(x):
        at_most = 0  # equal shares are as small
    return split(
        lambda start, stop: work(slice(start, stop)), len(x), nanoseconds, products=True, at_once=at_most
    )


def split_arrays(loop: Callable[..., Any], arrays: Sequence[Any], nanoseconds: float) -> None:
    """``loop(*shares)`` over equal shares of arrays of one length; small ones are not cut at all."""
    if nanoseconds < 2 * GRAIN:
        loop(*arrays)
    else:
        split(lambda i, j: loop(*[a[i:j] for a in arrays]), len(arrays[0]), nanoseconds)


def _share(work: Callable[[int, int], Result], edges: list[int], threads: int) -> list[Result]:
    global _pool
    pool = _pool
    if pool is None:
        pool = _pool = ThreadPoolExecutor(max(thread_count(), threads) - 1, "minidl")
    left, lock = enumerate(itertools.pairwise(edges)), threading.Lock()
    results: dict[int, Result] = {}

    def take() -> None:
        """Do one share after the other, as long as there are any."""
        while True:
            with lock:
                share = next(left, None)
            if share is None:
                return
            number, (start, stop) = share
            results[number] = work(start, stop)

    others = [pool.submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for other in others:  # none may still write when an error leaves this function
            other.exception()
    for other in others:
        other.result()
    return [results[i] for i in range(len(edges) - 1)]
