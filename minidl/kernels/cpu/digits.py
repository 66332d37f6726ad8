"""Numbers of float32 as whole ones of three digits, laid out for the matrix unit.

Each line, a row of the left factor or a column of the right one, is multiplied by the power of two that brings its
largest number to 23 bits and is rounded. Then x = x0 2**16 + x1 2**8 + x2, with digits between -128 and 127.
"""

# mypy: disable-error-code="no-untyped-def,call-arg,var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from ...backend import Array
from .compiling import jit
from .matrix_unit import (
    BYTES,
    CHUNK,
    DEPTH,
    DIGIT,
    DIGITS,
    FLOATS,
    LINES,
    LONG,
    NUMBERS,
    SIDE,
    TILE,
    WORD,
    WORDS,
    beyond,
    call,
    ints,
    lanes,
    load,
    repeated,
)

SIGNS = 0x808080  # of three digits
# Of a float32: all but the sign; the bits of infinity; what makes a mantissa overflow that has no three digits.
MAGNITUDE, INFINITE, ABOVE = 0x7FFFFFFF, 0x7F800000, 0x10101
# Bits of a mantissa. Of an exponent as it is in the bits: a number below 2**(exponent - 126) times
# 2**(TWOS - exponent) has 23 bits, and from SMALLEST on float32 has that power of two.
MANTISSA, TWOS, SMALLEST = 23, 127 + 22, 22


@intrinsic
def _pointer(context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.intp), generate


@jit
def singles(address, shape):
    """The float32 numbers there."""
    return carray(_pointer(address), shape)


def _pack(across: bool, turned: bool) -> Any:
    """The function that lays out one tile of a factor, in three digits."""

    @intrinsic
    def pack(context, source, step, scales, target):
        """From lines of numbers, `step` bytes apart, and what to multiply each row (or column) of the factor by."""

        def generate(context, builder, signature, arguments):
            source, step, scales, target = arguments

            def quarter(q: int) -> list[Any]:
                """16 vectors of 16 numbers as whole ones: of the terms 0..15, or 16..31, or 32..47, or 48..63."""
                shifts = [(q * LINES + i, 0) if across else (i, q * BYTES) for i in range(LINES)]
                places = [beyond(builder, source, builder.mul(step, LONG(i)), LONG(j)) for i, j in shifts]
                lines = [load(builder, place, FLOATS) for place in places]
                if across:
                    factors = [load(builder, beyond(builder, scales), FLOATS)] * LINES
                else:
                    factors = [repeated(builder, beyond(builder, scales, LONG(4 * i))) for i in range(LINES)]
                whole = [_rounded(builder, builder.fmul(*x)) for x in zip(lines, factors, strict=True)]
                signed = [builder.xor(builder.add(x, ints(SIGNS)), ints(SIGNS)) for x in whole]
                return _transposed(builder, signed) if turned else signed

            for line, words in enumerate(zip(*[quarter(q) for q in range(4)], strict=True)):
                for digit in range(DIGITS):
                    place = beyond(builder, target, LONG(digit * DIGIT + line * BYTES))
                    word = _joined(builder, words, 8 * (DIGITS - 1 - digit))
                    builder.store(word, builder.bitcast(place, WORDS.as_pointer()), align=BYTES)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), generate

    return pack


def _transposed(builder: Any, lines: list[Any]) -> list[Any]:
    """16 vectors of 16 numbers, columns for lines: blocks of 1, 2, 4 and 8 beside the diagonal change places."""
    lines, side = list(lines), 1
    while side < NUMBERS:
        for i in (i for i in range(NUMBERS) if not i & side):
            a, b = lines[i], lines[i + side]
            from_a = [NUMBERS + j - side if j & side else j for j in range(NUMBERS)]
            from_b = [NUMBERS + j if j & side else j + side for j in range(NUMBERS)]
            lines[i] = builder.shuffle_vector(a, b, lanes(from_a))
            lines[i + side] = builder.shuffle_vector(a, b, lanes(from_b))
        side *= 2
    return lines


def _joined(builder: Any, words: Any, shift: int) -> Any:
    """The bytes of four vectors of words that begin at bit `shift`, side by side."""
    total = ints(0)
    for q, word in enumerate(words):
        up = 8 * q - shift
        moved = builder.shl(word, ints(up)) if up > 0 else builder.lshr(word, ints(-up))
        total = builder.or_(total, builder.and_(moved, ints(0xFF << 8 * q)))
    return total


def _rounded(builder: Any, numbers: Any) -> Any:
    """To the nearest whole numbers."""
    mask, current = ir.IntType(16), 4
    every, none = mask(0xFFFF), ir.Constant(WORDS, ir.Undefined)
    name = "x86.avx512.mask.cvtps2dq.512"
    return call(builder, name, numbers, none, every, WORD(current), result=WORDS)


pack_left, pack_left_turned = _pack(False, False), _pack(True, True)
pack_right, pack_right_turned = _pack(True, False), _pack(False, True)


def digits_of(lines: Array) -> tuple[list[Array], Array]:
    """Three arrays of integers between -128 and 127, and what to multiply by for each line: x0 + x1 2**-8 + x2 2**-16."""
    exponents = np.array([exponent_of.py_func(bits) for bits in np.abs(lines).max(axis=1).view(np.int32)])
    rest = np.rint(np.ldexp(lines.astype(np.float64), TWOS - exponents[:, None]))
    digits: list[Array] = []
    for _ in range(DIGITS):
        digits.insert(0, (rest + 128) % 256 - 128)
        rest = (rest - digits[0]) / 256
    return digits, np.ldexp(np.float32(1), exponents - TWOS + 8)


@jit
def exponent_of(largest):
    """That of a power of two beyond a line's largest number; of no number at all, any that slows nothing down."""
    return max((largest + ABOVE) >> MANTISSA, SMALLEST) if largest else 127


@jit
def _measure(matrix, factors, scales):
    """Write what rows are multiplied by to be whole numbers, and then by; return the bits of the largest number."""
    (rows, terms), (down, along), most = matrix.shape, matrix.strides, 0
    largest = np.zeros(rows, np.int32)
    if along == matrix.itemsize:
        for i in range(rows):
            line, m = singles(matrix.ctypes.data + i * down, terms).view(np.int32), 0
            for k in range(terms):
                m = max(m, line[k] & MAGNITUDE)
            largest[i] = m
    else:
        for k in range(terms):
            line = singles(matrix.ctypes.data + k * along, rows).view(np.int32)
            for i in range(rows):
                largest[i] = max(largest[i], line[i] & MAGNITUDE)
    before, after = factors.view(np.int32), scales.view(np.int32)
    for i in range(rows):
        exponent, most = exponent_of(largest[i]), max(most, largest[i])
        before[i] = (TWOS + 127 - exponent) << MANTISSA
        after[i] = (exponent - TWOS + 127 + 8) << MANTISSA
    return most


@jit
def lay_out(matrix, right, target, chunks, scales):
    """Write a factor's rows (columns if it is the right one) of terms, `chunks` apart; return as `_measure` does."""
    (rows, terms), (down, along) = matrix.shape, matrix.strides
    edge, in_line = np.empty((LINES, DEPTH), matrix.dtype), along == matrix.itemsize
    below, beside = (rows + LINES - 1) // LINES, (terms + DEPTH - 1) // DEPTH
    factors = np.zeros(below * LINES, matrix.dtype)
    most = _measure(matrix, factors, scales)
    for number in range(below * beside):  # as the numbers lie in memory
        band, chunk = (number // beside, number % beside) if in_line else (number % below, number // below)
        first, start = band * LINES, chunk * DEPTH
        out = target + (band // 2 * chunks + chunk) * CHUNK + band % 2 * TILE
        source, step = matrix.ctypes.data + first * down + start * along, down if in_line else along
        whole, factor = first + LINES <= rows and start + DEPTH <= terms, factors[first:].ctypes.data
        if not whole:
            part = matrix[first : first + LINES, start : start + DEPTH]
            edge[:] = 0
            edge[: part.shape[0], : part.shape[1]] = part
            source, step = edge.ctypes.data, edge.strides[0]
        if right and (in_line or not whole):
            pack_right_turned(source, step, factor, out)
        elif right:
            pack_right(source, step, factor, out)
        elif in_line or not whole:
            pack_left(source, step, factor, out)
        else:
            pack_left_turned(source, step, factor, out)
    return most


@jit
def lay_out_whole(matrix, first, last, right, whole, scales, step):
    """Write bands first..last of a factor to their places among all bands, for each part of the terms."""
    most, bands = 0, (len(matrix) + SIDE - 1) // SIDE
    lines, places = matrix[first * SIDE : last * SIDE], scales[:, first * SIDE : last * SIDE]
    for part in range(len(scales)):
        some = lines[:, part * step : (part + 1) * step]
        chunks = (some.shape[1] + DEPTH - 1) // DEPTH
        place = whole.ctypes.data + (part * step // DEPTH * bands + first * chunks) * CHUNK
        most = max(most, lay_out(some, right, place, chunks, places[part]))
    return most
