"""Convolution on tensor cores, without columns in memory: products that gather what windows see (conv*.cu).

With precision "tf32" factors are rounded to 10 bits of mantissa; with "fp32" each is the sum of two such numbers, which
costs three products and keeps 22 bits.
"""

from __future__ import annotations

import math
import os
from functools import cache
from typing import Any

import cupy
import numpy as np

from ... import backend
from ...backend import Array
from ...shapes import Pads, Pair
from .launching import LARGEST, PROCESSORS, SINGLE, TICKETS, Constants, contiguous, launch, tickets
from .pool import geometry

WORKERS, STEP, GROUP = 128, 16, 8  # threads of a block, TILE_K, blocks added up first: as in tensor_cores.cuh
# (rows, columns) of the result that a block computes, and what share of the tensor cores' rate it reaches.
TILES = {(128, 128): 1.0, (128, 64): 0.85, (64, 128): 0.85, (64, 64): 0.75, (128, 32): 0.65}
WIDEST = {"tf32": 128, "fp32": 64}  # columns: two numbers for each factor leave no registers for more
# Measured on an H200, in steps of the largest tile (0.45 us, where two blocks share a processor):
LATENCY = 1.3  # a step of a block that has its processor for itself
SUMMING = 1.3  # adding up what another block of that tile leaves
SPLIT_COST = 2.3  # of a step in "fp32"
AMPERE = 80  # compute capability 8.0: the first whose tensor cores know TF32


def suited(kernel: Pair, algorithm: str, shape: tuple[int, ...], *arrays: Array) -> bool:
    """Whether these arrays are convolved here, with a result of `shape`; a 1x1 filter is a product for cuBLAS."""
    if kernel == (1, 1) or "im2col" in (algorithm, os.environ.get("MINIDL_CONV")):
        return False
    single = all([a.dtype == SINGLE and a.size < LARGEST for a in arrays]) and math.prod(shape) < LARGEST
    return single and _generation(cupy.cuda.runtime.getDevice()) >= AMPERE


@cache
def _generation(device: int) -> int:
    return int(cupy.cuda.Device(device).compute_capability)


def conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    slope: float | None,
    out: Pair,
    strides: Pair,
    pads: Pads,
    dilation: Pair,
) -> Array:
    depth, filters, images = math.prod(w.shape[:3]), w.shape[3], len(x)
    y = cupy.empty((images, *out, filters), x.dtype)
    constants = geometry(x.shape, out, w.shape[:2], strides, pads, dilation) + _wide(filters, x=x, w=w, y=y)
    bias = None if b is None else contiguous(b)[0]
    arguments = x, w, bias, y, np.float32(slope or 0), np.bool_(slope is not None)
    _launch("conv.conv2d", images, (images * math.prod(out), filters, depth), *arguments, constants=constants)
    return y


def conv2d_grad_weight(dy: Array, x: Array, dw: Array, strides: Pair, pads: Pads, dilation: Pair) -> None:
    """Into dw (KH, KW, C, F)."""
    images, *out, filters = dy.shape
    constants = geometry(x.shape, tuple(out), dw.shape[:2], strides, pads, dilation)
    constants += _wide(filters, x=x, y=dy, w=dw)
    sizes = math.prod(dw.shape[:3]), filters, images * math.prod(out)
    _launch("conv_grad_weight.conv2d_grad_weight", images, sizes, dy, x, dw, constants=constants)


def conv2d_grad_input(
    dy: Array, w: Array, shape: tuple[int, ...], strides: Pair, pads: Pads, dilation: Pair
) -> Array:
    images, *out, filters = dy.shape
    dx, (kernel, channels) = cupy.empty(shape, dy.dtype), (w.shape[:2], w.shape[2])
    common = [math.gcd(s, d) for s, d in zip(strides, dilation, strict=True)]
    phase = [-(-n // s) for n, s in zip(shape[1:3], strides, strict=True)]
    step = [s // g for s, g in zip(strides, common, strict=True)]
    reach = [d // g for d, g in zip(dilation, common, strict=True)]
    places = [-(-k // s) for k, s in zip(kernel, step, strict=True)]
    constants = geometry(shape, tuple(out), kernel, strides, pads, dilation)
    names = "PH", "PW", "STEPH", "STEPW", "REACHH", "REACHW"
    constants += tuple(zip(names, phase + step + reach, strict=True)) + _wide(filters, y=dy, w=w, x=dx)
    sizes = images * math.prod(phase), channels, math.prod(places) * filters
    kernel_name = "conv_grad_input.conv2d_grad_input"
    _launch(kernel_name, images, sizes, dy, w, dx, constants=constants, phases=math.prod(strides))
    return dx


def _wide(filters: int, **arrays: Array) -> Constants:
    return (("F", filters), *((f"WIDE{name.upper()}", wide(x)) for name, x in arrays.items()))


def wide(x: Array) -> int:
    """1 if four neighbours along the last axis can be read or written at once, else 0."""
    return int(x.shape[-1] % 4 == 0 and x.data.ptr % 16 == 0)


def _launch(
    kernel: str,
    images: int,
    sizes: tuple[int, int, int],
    *arguments: Any,
    constants: Constants,
    phases: int = 1,
) -> None:
    """Start a kernel that ends in `product` of tensor_cores.cuh; `sizes` are rows, columns and depth of that."""
    precision = backend.precision()
    (high, across), shares = plan(*sizes, precision, phases)
    grid = phases * -(-sizes[0] // high), -(-sizes[1] // across)
    partial = cupy.empty(math.prod(grid) * shares * high * across, np.float32) if shares > 1 else None
    constants += ("TILE_M", high), ("TILE_N", across), ("SPLIT", int(precision == "fp32"))
    rest = np.int32(images), partial, tickets()
    launch(kernel, (*grid, shares), *arguments, *rest, constants=constants, threads=WORKERS)


@cache
def plan(rows: int, columns: int, depth: int, precision: str, phases: int = 1) -> tuple[Pair, int]:
    """How a product (rows, depth) x (depth, columns), once for each of `phases`, is laid out to take the least time.

    Returns
    -------
    ((rows, columns), shares)
        The tile of the result that a block computes, one of TILES, and how many blocks divide its depth.
    """
    best, steps = (math.inf, (64, 64), 1), max(-(-depth // STEP), 1)
    for (high, across), rate in TILES.items():
        if across > WIDEST[precision] or across >= 2 * max(columns, 32):
            continue
        tiles, part = phases * -(-rows // high) * -(-columns // across), high * across / 128**2
        unit = part / rate * (SPLIT_COST if precision == "fp32" else 1)
        resident = 2 if high * across << (precision == "fp32") > 64 * 128 else 3  # as in tensor_cores.cuh
        for shares in range(1, min(steps // 2, 512) + 1) if steps >= 4 else (1,):
            groups = -(-shares // GROUP)
            if tiles * (groups + 1) > TICKETS and shares > 1:
                break
            waves, rest = divmod(tiles * shares, PROCESSORS * resident)
            together = waves * resident * unit  # all blocks at once take a step
            if rest:  # the last wave has fewer on each processor
                together += max(-(-rest // PROCESSORS) * unit, LATENCY)
            summed = min(shares, GROUP) + (groups if groups > 1 else 0)
            time = together * (-(-steps // shares) + 3) + (shares > 1) * (4 + summed * SUMMING * part)
            best = min(best, (time, (high, across), shares))
    return best[1:]
