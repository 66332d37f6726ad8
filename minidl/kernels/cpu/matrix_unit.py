"""Intel's matrix unit (AMX): tiles of 16 rows of 64 bytes, and products of bfloat16 summed up in float32.

A register for tiles holds 16 x 16 sums, or 16 x 32 of one factor. `tile` makes a block of 32 x 32 sums out of factors
that `pack` has laid out (see `products`):

    chunk  32 terms of 32 rows, or columns: the three parts of the numbers, one after the other
    part   two tiles, of 16 rows (or columns) each
    tile   16 lines of 16 pairs. Left factor: a line is a row, of the pairs of terms 0 and 16, 1 and 17, ... Right
           factor: a line is one such pair of each column.

Numba has no word for any of this; hence LLVM's language. References: Intel 64 and IA-32 Architectures Software
Developer's Manual, volume 1, chapter 18 and volume 2, TDPBF16PS.
"""

# mypy: disable-error-code="no-untyped-def,call-arg,var-annotated"

from __future__ import annotations

import ctypes
import itertools
import sys
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...backend import Array

LINES, BYTES, NUMBERS = 16, 64, 16  # of a tile; numbers of four bytes in a line
TILE, PART = LINES * BYTES, 2 * LINES * BYTES
PARTS, CHUNK = 3, 3 * PART
SIDE = 32  # rows, columns and terms of a chunk
# Parts of the left and the right factor that are multiplied, the smallest products first; parts 1 x 2, 2 x 1 and
# 2 x 2 are below float32's precision. From one to the next only one factor's part changes.
PAIRS = (0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0)

BYTE, WORD, LONG, VOID = *(ir.IntType(bits) for bits in (8, 32, 64)), ir.VoidType()
POINTER, NUMBERS_16 = BYTE.as_pointer(), ir.VectorType(ir.FloatType(), NUMBERS)
WORDS_16 = ir.VectorType(WORD, NUMBERS)


def _permitted() -> bool:
    """Whether the processor has the unit and the system lets this process use it, which must be asked for once."""
    features = binding.get_host_cpu_features()
    if not (sys.platform.startswith("linux") and sys.maxsize > 2**32):
        return False
    if not all(features.get(name, False) for name in ("amx-tile", "amx-bf16", "avx512f")):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18  # of Linux, for x86-64
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def _configuration() -> Array:
    """What the unit wants to be told: palette 1, then bytes of a line and lines of each of 8 tiles."""
    words = np.zeros(BYTES, np.uint8)
    words[0], words[48:56] = 1, LINES
    words[16:32].view(np.uint16)[:] = BYTES
    return words


PERMITTED, CONFIGURATION = _permitted(), _configuration()


@intrinsic
def configure(context, address):
    """Take the unit into use in this thread."""

    def generate(context, builder, signature, arguments):
        _call(builder, "x86.ldtilecfg", builder.inttoptr(arguments[0], POINTER))
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def release(context):
    """Leave the unit, so that the system need not keep its registers."""

    def generate(context, builder, signature, arguments):
        _call(builder, "x86.tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def tile(context, left, right, chunks, sums, step, anew):
    """Add chunks of `left` times those of `right` to 32 x 32 sums, `step` bytes from row to row; or begin anew."""

    def generate(context, builder, signature, arguments):
        left, right, chunks, sums, step, anew = arguments
        # Registers: 0..3 sums, 4 and 5 tiles of the left factor, 6 and 7 of the right one.
        places = [
            _beyond(builder, sums, LONG(BYTES * (i % 2)), builder.mul(step, LONG(LINES * (i // 2))))
            for i in range(4)
        ]
        with builder.if_else(anew) as (afresh, further):
            with afresh:
                for i in range(4):
                    _call(builder, "x86.tilezero", BYTE(i))
            with further:
                for i in range(4):
                    _call(builder, "x86.tileloadd64", BYTE(i), places[i], step)
        with cgutils.for_range(builder, chunks) as loop:
            at, held = builder.mul(loop.index, LONG(CHUNK)), [-1, -1]
            lines = iter(range(0, CHUNK, BYTES))  # of the next chunk: some are fetched after each product
            for pair in PAIRS:
                for side, start in enumerate((left, right)):
                    if pair[side] != held[side]:
                        for half in range(2):
                            place = _beyond(builder, start, at, LONG(pair[side] * PART + half * TILE))
                            _call(builder, "x86.tileloadd64", BYTE(4 + 2 * side + half), place, LONG(BYTES))
                held = list(pair)
                for i in range(4):
                    _call(builder, "x86.tdpbf16ps", BYTE(i), BYTE(4 + i // 2), BYTE(6 + i % 2))
                    for line in itertools.islice(lines, CHUNK // BYTES // (4 * len(PAIRS))):
                        for start in (left, right):
                            ahead = _beyond(builder, start, at, LONG(CHUNK + line))
                            _call(builder, "prefetch.p0", ahead, WORD(0), WORD(3), WORD(1))
        for i in range(4):
            _call(builder, "x86.tilestored64", BYTE(i), places[i], step)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5, types.boolean), generate


def _pack(across: bool, turned: bool) -> Any:
    """The function that lays out one tile of a factor, in three parts."""

    @intrinsic
    def pack(context, source, step, target):
        """From lines of numbers, `step` bytes apart; returns a sum that is nan if one of them has no parts."""

        def generate(context, builder, signature, arguments):
            source, step, target = arguments

            def half(q: int) -> list[Any]:
                """16 vectors of 16 numbers: of the terms 0..15, or of the terms 16..31."""
                shifts = [(q * LINES + i, 0) if across else (i, q * BYTES) for i in range(LINES)]
                places = [_beyond(builder, source, builder.mul(step, LONG(i)), LONG(j)) for i, j in shifts]
                pointer = NUMBERS_16.as_pointer()
                lines = [builder.load(builder.bitcast(place, pointer), align=4) for place in places]
                return _transposed(builder, lines) if turned else lines

            halves, total = (half(0), half(1)), ir.Constant(NUMBERS_16, [0.0] * NUMBERS)
            for line in range(LINES):
                pair = [vectors[line] for vectors in halves]
                for part in range(PARTS):
                    uppers = [builder.and_(builder.bitcast(x, WORDS_16), _all(0xFFFF0000)) for x in pair]
                    both = builder.or_(builder.lshr(uppers[0], _all(16)), uppers[1])
                    place = _beyond(builder, target, LONG(part * PART + line * BYTES))
                    builder.store(both, builder.bitcast(place, WORDS_16.as_pointer()), align=BYTES)
                    if part < PARTS - 1:  # what is left of them
                        rounded = [builder.bitcast(x, NUMBERS_16) for x in uppers]
                        pair = [builder.fsub(x, y) for x, y in zip(pair, rounded, strict=True)]
                for x in pair:
                    total = builder.fadd(total, x)
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), NUMBERS_16])
            add = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.fadd.v16f32")
            return builder.call(add, [ir.FloatType()(0.0), total])

        return types.float32(*[types.intp] * 3), generate

    return pack


pack_left, pack_left_turned = _pack(False, False), _pack(True, True)
pack_right, pack_right_turned = _pack(True, False), _pack(False, True)


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """16 vectors of 16 numbers, columns for lines: blocks of 1, 2, 4 and 8 beside the diagonal change places."""
    lines, side = list(lines), 1
    while side < NUMBERS:
        for i in (i for i in range(NUMBERS) if not i & side):
            a, b = lines[i], lines[i + side]
            from_a = [NUMBERS + j - side if j & side else j for j in range(NUMBERS)]
            from_b = [NUMBERS + j if j & side else j + side for j in range(NUMBERS)]
            lines[i] = builder.shuffle_vector(a, b, _numbers(from_a))
            lines[i + side] = builder.shuffle_vector(a, b, _numbers(from_b))
        side *= 2
    return lines


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(VOID, [a.type for a in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm." + name), arguments)


def _beyond(builder: Any, address: Any, *shifts: Any) -> Any:
    for shift in shifts:
        address = builder.add(address, shift)
    return builder.inttoptr(address, POINTER)


def _all(word: int) -> Any:
    return ir.Constant(WORDS_16, [word] * NUMBERS)


def _numbers(places: Any) -> Any:
    places = list(places)
    return ir.Constant(ir.VectorType(WORD, len(places)), places)
