"""The heart of direct convolution: a tile of sums that stays in vector registers from its first term to its last.

    c[i, :width] = act(start[i, :width] + sum over o < outer, k < inner of
                       a[places[i] + o * outer_step + k * inner_step] * b[(o * inner + k) * b_step, :width])

For each term one vector of b is read and multiplied by one number of a for each row of the tile, which is how
matrix products are made (Goto and van de Geijn, ACM TOMS 34, 2008). What rows see may lie anywhere and overlap,
so a convolution reads the image itself and needs no columns. Numba has no word for a vector register; hence
the few lines of LLVM's language.
"""

# mypy: disable-error-code="no-untyped-def,call-arg,var-annotated"

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LARGE = binding.get_host_cpu_features().get("avx512f", False)  # 32 registers of 64 bytes, not 16 of 32
NARROW_ROWS, WIDE_ROWS = (14, 12) if _LARGE else (6, 6)
NARROW, WIDE = 64, 128 if _LARGE else 64  # bytes of a row of the tile


def _tile(rows: int, row_bytes: int) -> Any:
    """The tile as a function for Numba's kernels; addresses and steps are integers, steps in numbers."""

    @intrinsic
    def tile(
        context, like, a, places, outer_step, inner_step, outer, inner, b, b_step, start, start_step, slope, c, c_step, width
    ):  # fmt: skip
        dtype = like.dtype
        signature = types.void(like, *[types.intp] * 10, dtype, *[types.intp] * 3)
        return signature, lambda *arguments: _generate(rows, row_bytes // (dtype.bitwidth // 8), *arguments)

    return tile


narrow_tile, wide_tile = _tile(NARROW_ROWS, NARROW), _tile(WIDE_ROWS, WIDE)


def _generate(rows: int, lanes: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    (_, a, places, outer_step, inner_step, outer, inner, b, b_step, start, start_step, slope, c, c_step, width) = arguments  # fmt: skip
    integer, number = a.type, slope.type
    vector = ir.VectorType(number, lanes)
    size, zero = integer(context.get_abi_sizeof(number)), ir.Constant(vector, [number(0.0)] * lanes)

    def intrinsic_of_llvm(name: str, result: Any, *parameters: Any) -> Any:
        name = f"llvm.{name}.v{lanes}f{8 * size.constant}"
        return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, parameters), name)

    def repeated(value: Any, kind: Any) -> Any:
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        nowhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), nowhere)

    def beyond(address: Any, numbers: Any) -> Any:
        return builder.add(address, builder.mul(numbers, size))

    # A row may be narrower than its vector: what lies behind it is neither read nor written.
    flags, pointer, word = ir.VectorType(ir.IntType(1), lanes), vector.as_pointer(), ir.IntType(32)
    numbering = ir.Constant(ir.VectorType(integer, lanes), list(range(lanes)))
    inside = builder.icmp_signed("<", numbering, repeated(width, numbering.type))
    masked_load = intrinsic_of_llvm("masked.load", vector, pointer, word, flags, vector)
    masked_store = intrinsic_of_llvm("masked.store", ir.VoidType(), vector, pointer, word, flags)
    fused = intrinsic_of_llvm("fma", vector, vector, vector, vector)
    alignment = word(size.constant)

    def load(address: Any) -> Any:
        return builder.call(masked_load, [builder.inttoptr(address, pointer), alignment, inside, zero])

    table = builder.inttoptr(places, integer.as_pointer())
    shifts = [builder.mul(builder.load(builder.gep(table, [integer(i)])), size) for i in range(rows)]
    sums = [cgutils.alloca_once(builder, vector) for _ in range(rows)]
    for total in sums:
        builder.store(zero, total)
    seen, row_of_b = cgutils.alloca_once(builder, integer), cgutils.alloca_once(builder, integer)
    builder.store(b, row_of_b)
    with cgutils.for_range(builder, outer) as loop:
        builder.store(beyond(a, builder.mul(outer_step, loop.index)), seen)
        with cgutils.for_range(builder, inner):
            factors = load(builder.load(row_of_b))
            for total, shift in zip(sums, shifts, strict=True):
                place = builder.inttoptr(builder.add(builder.load(seen), shift), number.as_pointer())
                terms = repeated(builder.load(place), vector), factors, builder.load(total)
                builder.store(builder.call(fused, terms), total)
            builder.store(beyond(builder.load(row_of_b), b_step), row_of_b)
            builder.store(beyond(builder.load(seen), inner_step), seen)
    slopes, flat = repeated(slope, vector), builder.fcmp_ordered("==", slope, number(0.0))
    for i, total in enumerate(sums):
        value = builder.fadd(builder.load(total), load(beyond(start, builder.mul(start_step, integer(i)))))
        below = builder.select(flat, zero, builder.fmul(slopes, value))  # not 0 * value: that is nan for -inf
        value = builder.select(builder.fcmp_ordered("<=", value, zero), below, value)  # nan goes through
        place = builder.inttoptr(beyond(c, builder.mul(c_step, integer(i))), pointer)
        builder.call(masked_store, [value, place, alignment, inside])
    return context.get_dummy_value()
