"""Intel's matrix unit (AMX): tiles of 16 rows of 64 bytes, and products of 8-bit integers summed up in 32 bits.

A register for tiles holds 16 x 16 sums, or 16 x 64 of one factor. `tile` makes blocks of 32 x 32 sums out of factors
that `pack` has laid out (see `products`):

    chunk  64 terms of 32 rows, or columns: the three digits of the numbers, one after the other
    digit  two tiles, of 16 rows (or columns) each
    tile   16 lines of 16 words. A word is four terms: 0, 16, 32 and 48, or 1, 17, 33 and 49, ... Left factor: a line is
           a row, of its words. Right factor: a line is one word of each column.

Numba has no word for any of this; hence LLVM's language. References: Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 1, chapter 18 and volume 2, TDPBSSD.
"""

# mypy: disable-error-code="no-untyped-def,call-arg,var-annotated"

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backend import Array

LINES, BYTES, NUMBERS = 16, 64, 16  # of a tile; numbers of four bytes in a line
TILE, DIGIT = LINES * BYTES, 2 * LINES * BYTES
DIGITS, CHUNK = 3, 3 * DIGIT
SIDE, DEPTH = 32, 64  # rows, or columns, and terms of a chunk
# Digits of the left and the right factor that are multiplied, by what their products count: 1, 2**-8, 2**-16. Digits
# 1 x 2, 2 x 1 and 2 x 2 are below float32's precision.
LEVELS = ((0, 0),), ((0, 1), (1, 0)), ((0, 2), (1, 1), (2, 0))
SUMS = SIDE * SIDE  # of each level

BYTE, WORD, LONG, VOID = *(ir.IntType(bits) for bits in (8, 32, 64)), ir.VoidType()
POINTER, FLOAT = BYTE.as_pointer(), ir.FloatType()
WORDS, FLOATS = ir.VectorType(WORD, NUMBERS), ir.VectorType(FLOAT, NUMBERS)


def _permitted() -> bool:
    """Whether the processor has the unit and the system lets this process use it, which must be asked for once."""
    features = binding.get_host_cpu_features()
    if not (sys.platform.startswith("linux") and sys.maxsize > 2**32):
        return False
    if not all(features.get(name, False) for name in ("amx-tile", "amx-int8", "avx512f")):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # of Linux, for x86-64
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def _configuration() -> Array:
    """What the unit wants to be told: palette 1, then bytes of a line and lines of each of 8 tiles."""
    words = np.zeros(BYTES, np.uint8)
    words[0], words[48:56] = 1, LINES
    words[16:32].view(np.uint16)[:] = BYTES
    return words


binding.initialize_native_asmparser()  # for `_wait`
PERMITTED, CONFIGURATION = _permitted(), _configuration()


@intrinsic
def configure(context, address):
    """Take the unit into use in this thread."""

    def generate(context, builder, signature, arguments):
        call(builder, "x86.ldtilecfg", builder.inttoptr(arguments[0], POINTER))
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def release(context):
    """Leave the unit, so that the system need not keep its registers."""

    def generate(context, builder, signature, arguments):
        call(builder, "x86.tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def tile(context, left, right, chunks, sums, target, step, ahead):
    """Write 32 x 32 sums for each level, of chunks of `left` times those of `right`.

    Asks for what is needed later: `target`, which `deliver` will write to, and an eighth of a factor's next chunks.
    """

    def generate(context, builder, signature, arguments):
        left, right, chunks, sums, target, step, ahead = arguments
        # Registers: 0..3 sums, 4 and 5 tiles of the left factor, 6 and 7 of the right one.
        for level, pairs in enumerate(LEVELS):
            for i in range(4):
                call(builder, "x86.tilezero", BYTE(i))
            if level == 1:
                for row in range(SIDE):
                    for half in range(0, 4 * SIDE, BYTES):
                        place = beyond(builder, target, builder.mul(step, LONG(row)), LONG(half))
                        _fetch(builder, place, write=1)
            with cgutils.for_range(builder, chunks) as loop:
                at, eighth = (builder.mul(loop.index, LONG(size)) for size in (CHUNK, CHUNK // 8))
                if level == 0:
                    for line in range(0, CHUNK // 8, BYTES):
                        _fetch(builder, beyond(builder, ahead, eighth, LONG(line)), cache=2)
                for pair in pairs:
                    for side, start in enumerate((left, right)):
                        for half in range(2):
                            place = beyond(builder, start, at, LONG(pair[side] * DIGIT + half * TILE))
                            call(builder, "x86.tileloadd64", BYTE(4 + 2 * side + half), place, LONG(BYTES))
                            _wait(builder)
                    for i in range(4):
                        call(builder, "x86.tdpbssd", BYTE(i), BYTE(4 + i // 2), BYTE(6 + i % 2))
                        _wait(builder)
                        for line in range(i * DIGIT // 4, (i + 1) * DIGIT // 4, BYTES):  # of the next chunk
                            _fetch(builder, beyond(builder, right, at, LONG(CHUNK + pair[1] * DIGIT + line)))
            for i in range(4):
                place = 4 * (level * SUMS + i // 2 * LINES * SIDE + i % 2 * LINES)
                call(builder, "x86.tilestored64", BYTE(i), beyond(builder, sums, LONG(place)), LONG(4 * SIDE))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7), generate


@intrinsic
def deliver(context, sums, down, across, target, step, anew):
    """Write or add to 32 x 32 numbers, `step` bytes from row to row, what the sums are, times that of row and column."""

    def generate(context, builder, signature, arguments):
        sums, down, across, target, step, anew = arguments

        def write(row: Any, further: bool) -> None:
            start, beside = builder.mul(row, LONG(4 * SIDE)), builder.mul(row, step)
            scale = repeated(builder, beyond(builder, down, builder.mul(row, LONG(4))))
            for half in range(0, 4 * SIDE, BYTES):
                places = [beyond(builder, sums, start, LONG(4 * i * SUMS + half)) for i in range(len(LEVELS))]
                high, middle, low = (builder.sitofp(load(builder, at, WORDS), FLOATS) for at in places)
                total = builder.fadd(builder.fmul(middle, floats(2**8)), low)
                total = builder.fadd(builder.fmul(high, floats(2**16)), total)
                both = builder.fmul(scale, load(builder, beyond(builder, across, LONG(half)), FLOATS))
                total = builder.fmul(total, both)
                place = beyond(builder, target, beside, LONG(half))
                if further:
                    total = builder.fadd(load(builder, place, FLOATS), total)
                builder.store(total, builder.bitcast(place, FLOATS.as_pointer()), align=4)

        with builder.if_else(anew) as (first, later):
            for branch, further in ((first, False), (later, True)):
                with branch, cgutils.for_range(builder, LONG(SIDE)) as loop:
                    write(loop.index, further)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5, types.boolean), generate


def _fetch(builder: Any, place: Any, write: int = 0, cache: int = 1) -> None:
    """Ask for the 64 bytes there, in the first or second cache."""
    call(builder, "prefetch.p0", place, WORD(write), WORD(4 - cache), WORD(1))


def _wait(builder: Any) -> None:
    """Eight instructions that do nothing.

    Where the core's other thread is busy, tiles are loaded too late if many products wait in the queue that both share.
    """
    builder.asm(ir.FunctionType(VOID, []), "nop\n" * 8, "", [], side_effect=True)


def load(builder: Any, place: Any, kind: Any) -> Any:
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=4)


def repeated(builder: Any, place: Any) -> Any:
    """The number there, 16 times."""
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), load(builder, place, FLOAT), WORD(0))
    return builder.shuffle_vector(one, one, lanes([0] * NUMBERS))


def call(builder: Any, name: str, *arguments: Any, result: Any = VOID) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm." + name), arguments)


def beyond(builder: Any, address: Any, *shifts: Any) -> Any:
    for shift in shifts:
        address = builder.add(address, shift)
    return builder.inttoptr(address, POINTER)


def floats(number: float) -> Any:
    return ir.Constant(FLOATS, [float(number)] * NUMBERS)


def ints(word: int) -> Any:
    return ir.Constant(WORDS, [word] * NUMBERS)


def lanes(numbers: Any) -> Any:
    numbers = list(numbers)
    return ir.Constant(ir.VectorType(WORD, len(numbers)), numbers)
