"""Small work, halved between this thread and a partner that has not gone to sleep yet.

A sleeping thread takes 30 to 50 microseconds to start, as long as it would save. The partner therefore waits by spinning,
for a moment after each job, so that it is there for the next one of a small network's step; when other work is
shared, it makes room at once. A job is a compiled function and a tuple that it works on, both told by their addresses
in the mail, so the partner does without the interpreter. Work is halved in any case, and a half that the partner has
not begun is done here, so the result does not depend on who was in time (docs/adr/0015).
"""

# mypy: disable-error-code="no-untyped-def,call-arg"

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backend import Array
from .. import threads
from .compiling import inlined, jit

PATIENCE = 1_000_000  # looks into the mail before the partner goes to sleep: half a millisecond
FREE, POSTED, TAKEN, DONE = range(4)  # states of the mail's job, in its first number
# Where the mail says what to do, on another line of the cache than its state: the addresses of the function and of the
# tuple, which row the partner begins with, and how many there are.
FUNCTION, ARGUMENTS, MIDDLE, ROWS, SIZE = range(8, 13)
LONG = ir.IntType(64)
JOB = ir.FunctionType(ir.VoidType(), [LONG] * 3)  # where its arguments are, first row, row to stop before


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
def _call(context, function, arguments, start, stop):
    """Call the job at this address."""

    def generate(context, builder, signature, values):
        builder.call(builder.inttoptr(values[0], JOB.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@intrinsic
def _job(context, body, arguments):
    """The address of a job that calls ``body(*arguments, start, stop)``, for arguments at an address of this type."""
    inner = body.get_call_type(context, (*arguments.types, types.intp, types.intp), {})

    def generate(context, builder, signature, values):
        name = f"{builder.function.name}.{body.dispatcher.py_func.__name__}"
        function = ir.Function(builder.module, JOB, builder.module.get_unique_name(name))
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        place, start, stop = function.args
        kind = context.get_value_type(arguments).as_pointer()
        parts = cgutils.unpack_tuple(inside, inside.load(inside.inttoptr(place, kind)), len(arguments))
        compiled = body.dispatcher.get_compile_result(inner)
        context.active_code_library.add_linking_library(compiled.library)
        context.call_internal_no_propagate(inside, compiled.fndesc, inner, [*parts, start, stop])
        inside.ret_void()
        return builder.ptrtoint(function, LONG)

    return types.intp(body, arguments), generate


@intrinsic
def _place(context, arguments):
    """Where the tuple lies as long as the function that asks is at work."""

    def generate(context, builder, signature, values):
        return builder.ptrtoint(cgutils.alloca_once_value(builder, values[0]), LONG)

    return types.intp(arguments), generate


@intrinsic
def _keep(context, arguments):
    """Numba frees an array after the last time it sees it used: let that be here."""
    return types.void(arguments), lambda context, builder, signature, values: context.get_dummy_value()


@inlined
def halve(mail, together, body, rows, middle, arguments):
    """``body(*arguments, start, stop)`` for rows up to `middle`, and for those from there on by whoever is first."""
    mail[FUNCTION], mail[ARGUMENTS], mail[MIDDLE], mail[ROWS] = (
        _job(body, arguments),
        _place(arguments),
        middle,
        rows,
    )
    _do_both(mail, together)
    _keep(arguments)


@jit
def _do_both(mail, together):
    """Do the job in the mail, the lower half by whoever is first."""
    state, function, arguments = mail.ctypes.data, mail[FUNCTION], mail[ARGUMENTS]
    middle, rows = mail[MIDDLE], mail[ROWS]
    if together:
        _put(state, POSTED)
    _call(function, arguments, 0, middle)
    if not together or _change(state, POSTED, FREE):
        _call(function, arguments, middle, rows)
        return
    while _look(state) != DONE:
        pass
    _put(state, FREE)


@jit
def _serve(mail, shared, patience):
    """Do what is posted, until nothing was for a while, or other work is shared."""
    state, left, before = mail.ctypes.data, patience, shared[0]
    while left and _look(shared.ctypes.data) == before:
        left -= 1
        if _look(state) == POSTED and _change(state, POSTED, TAKEN):
            _call(mail[FUNCTION], mail[ARGUMENTS], mail[MIDDLE], mail[ROWS])
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


def share(work: Callable[[Array, bool], bool], wake: bool = True) -> bool:
    """``work(mail, together)``, which calls `halve`; False if it says that this is not for two.

    `together` tells whether the partner can be expected to help. If not, it is woken for what comes next; with `wake`
    false the work is not even begun then.
    """
    partner = _partner
    alone = not partner.busy.acquire(blocking=False)
    try:
        together = partner.awake and not alone
        if not together and not wake:
            return False
        with threads.blas:  # not imported by name: a fork makes another
            done = work(np.zeros(SIZE, np.int64) if alone else partner.mail, together)
        if done and not together and not alone:
            partner.wake()
    finally:
        if not alone:
            partner.busy.release()
    return done
