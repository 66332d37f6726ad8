"""Products too small to wake a thread for, halved between this thread and a partner that has not gone to sleep yet.

A sleeping thread takes 30 to 50 microseconds to start, as long as it would save. The partner therefore waits by spinning,
for a moment after each product, so that it is there for the next one of a small network's step; when other work is
shared, it makes room at once. It computes nothing but products, by BLAS's own function and without the interpreter. The
rows are halved in any case, and a half that the partner has not begun is done here, so the result does not depend on who
was in time (docs/adr/0015).
"""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

import os
import threading

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from ...backend import Array
from .. import threads
from .blas import FUNCTIONS, PLAIN, double_gemm, order_of, single_gemm
from .compiling import jit
from .elementwise import affine_rows

PATIENCE = 1_000_000  # looks into the mail before the partner goes to sleep: half a millisecond
FEWEST_ROWS = 32  # worth halving
FREE, POSTED, TAKEN, DONE = range(4)  # states of the mail's job, in its first number
JOB, SIZE = 8, 32  # where the mail says what to do, on another line of the cache than its state; and its end
LONG = ir.IntType(64)


@intrinsic
def _look(context, address):
    """The number there, and what was written before it was put there."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], LONG.as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def _put(context, address, value):
    """Write a number that others look at, after all that was written before."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], LONG.as_pointer())
        builder.store_atomic(arguments[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def _change(context, address, old, new):
    """Whether the number was `old`, and is `new` now."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], LONG.as_pointer())
        both = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(both, 1)

    return types.boolean(types.intp, types.int64, types.int64), generate


@intrinsic
def _numbers_at(context, address):
    """A pointer to float32 for `carray`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.intp), generate


@jit
def _half(mail, start, stop):
    """Rows of the product that the mail describes, and what is to be done to them then."""
    job = mail[JOB + 1 :]
    size, function, a_order, b_order, n, k = job[0], job[1], job[2], job[3], job[4], job[5]
    a, a_step, b, b_step, c, c_step = job[6], job[7], job[8], job[9], job[10], job[11]
    a += start * size * (a_step if a_order == PLAIN else 1)
    c += start * size * c_step
    if size == 4:
        single_gemm(function, a_order, b_order, stop - start, n, k, a, a_step, b, b_step, 0, c, c_step)
        if job[12]:
            rows, scale = carray(_numbers_at(c), (stop - start, n)), carray(_numbers_at(job[12]), n)
            alpha = np.float32(mail.view(np.float64)[JOB + 15])
            affine_rows(rows, scale, carray(_numbers_at(job[13]), n), alpha, job[15] != 0)
    else:
        double_gemm(function, a_order, b_order, stop - start, n, k, a, a_step, b, b_step, 0, c, c_step)


@jit
def _multiply(mail, function, a, b, c, together, scale, shift, alpha, linear):
    """c = a b by the function at this address, the lower half by whoever is first; False if the orders do not do.

    If `scale` has numbers, `affine_rows` follows for each half: its rows are still in the nearest cache.
    """
    (a_order, a_step), (b_order, b_step), (c_order, c_step) = order_of(a), order_of(b), order_of(c)
    if a_order == 0 or b_order == 0 or c_order != PLAIN:
        return False
    state, (rows, n), k, size = mail.ctypes.data, c.shape, a.shape[1], c.itemsize
    job = mail[JOB:]
    job[0], job[1], job[2], job[3], job[4], job[5], job[6] = rows, size, function, a_order, b_order, n, k
    job[7], job[8], job[9], job[10] = a.ctypes.data, a_step, b.ctypes.data, b_step
    job[11], job[12] = c.ctypes.data, c_step
    job[13], job[14], job[16] = scale.ctypes.data if scale.size else 0, shift.ctypes.data, linear
    mail.view(np.float64)[JOB + 15] = alpha
    if together:
        _put(state, POSTED)
    _half(mail, 0, rows // 2)
    if not together or _change(state, POSTED, FREE):
        _half(mail, rows // 2, rows)
        return True
    while _look(state) != DONE:
        pass
    _put(state, FREE)
    return True


@jit
def _serve(mail, shared, patience):
    """Do what is posted, until nothing was for a while, or other work is shared."""
    state, left, before = mail.ctypes.data, patience, shared[0]
    while left and _look(shared.ctypes.data) == before:
        left -= 1
        if _look(state) == POSTED and _change(state, POSTED, TAKEN):
            _half(mail, mail[JOB] // 2, mail[JOB])
            _put(state, DONE)
            left = patience


class _Partner:
    """The thread and its mail; one user at a time."""

    def __init__(self) -> None:
        self.mail = np.zeros(SIZE, np.int64)
        self.busy, self.bell, self.awake = threading.Lock(), threading.Lock(), False
        self.thread: threading.Thread | None = None
        self.bell.acquire()

    def wake(self) -> None:
        if threads.thread_count() < 2:
            return
        self.awake = True
        if self.thread is None:
            self.thread = threading.Thread(target=self._work, name="minidl-partner", daemon=True)
            self.thread.start()
        elif self.bell.locked():  # otherwise it has been rung, and not heard yet
            self.bell.release()

    def _work(self) -> None:
        while True:
            _serve(self.mail, threads.SHARED, PATIENCE)
            self.awake = False
            if self.mail[0] != POSTED:
                self.bell.acquire()
            self.awake = True


_partner = _Partner()


def _start() -> None:
    global _partner
    _partner = _Partner()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)  # threads do not survive a fork


NOTHING = np.empty(0, np.float32), np.empty(0, np.float32), None  # to be done to a product


def multiply(a: Array, b: Array, out: Array, affine: tuple[Array, Array, float | None] = NOTHING) -> bool:
    """Write a (M, K) times b (K, N), of one dtype, to `out`; False if this is not for two.

    With `affine`, scale and shift (N,) of float32 and ELU's alpha or None, out = elu(a b * scale + shift).
    """
    function = FUNCTIONS.get(a.dtype)
    if function is None or out.dtype != a.dtype or len(a) < FEWEST_ROWS:
        return False
    partner = _partner
    alone = not partner.busy.acquire(blocking=False)
    mail = np.zeros(SIZE, np.int64) if alone else partner.mail
    try:
        together = partner.awake and not alone
        with threads.blas:  # not imported by name: a fork makes another
            scale, shift, alpha = affine
            done = _multiply(mail, function, a, b, out, together, scale, shift, alpha or 0.0, alpha is None)
        if done and not together and not alone:
            partner.wake()
    finally:
        if not alone:
            partner.busy.release()
    return done
