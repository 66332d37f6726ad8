"""Convolution on tensor cores in TF32, without columns in memory: products that gather what windows see (conv*.cu)."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import cupy
import numpy as np

from ... import backend
from ...backend import Array
from ...shapes import Pads, Pair
from .launching import BLOCKS, LARGEST, SINGLE, Constants, contiguous, launch, tickets
from .pool import geometry

# What a number costs in tiles of so many columns: the narrower, the more often rows are read. Estimates.
WIDTHS = {128: 1.0, 64: 1.15, 32: 1.4}
AMPERE = 80  # compute capability 8.0: the first whose tensor cores know TF32
STEP = 16  # TILE_K of tensor_cores.cuh


def suited(kernel: Pair, algorithm: str, shape: tuple[int, ...], *arrays: Array) -> bool:
    """Whether these arrays are convolved here, with a result of `shape`; a 1x1 filter is a product for cuBLAS."""
    if backend.precision() != "tf32" or kernel == (1, 1) or algorithm == "im2col":
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
    constants = geometry(x.shape, out, w.shape[:2], strides, pads, dilation)
    constants += ("F", filters), ("WIDEX", wide(x)), ("WIDEW", wide(w))
    bias = None if b is None else contiguous(b)[0]
    arguments = x, w, bias, y, np.float32(slope or 0), np.bool_(slope is not None)
    _launch("conv.conv2d", images, (images * math.prod(out), filters, depth), *arguments, constants=constants)
    return y


def conv2d_grad_weight(dy: Array, x: Array, dw: Array, strides: Pair, pads: Pads, dilation: Pair) -> None:
    """Into dw (KH, KW, C, F)."""
    images, *out, filters = dy.shape
    constants = geometry(x.shape, tuple(out), dw.shape[:2], strides, pads, dilation)
    constants += ("F", filters), ("WIDEX", wide(x)), ("WIDEY", wide(dy))
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
    constants += tuple(zip(names, phase + step + reach, strict=True))
    constants += ("F", filters), ("WIDEY", wide(dy)), ("WIDEW", wide(w))
    sizes = images * math.prod(phase), channels, math.prod(places) * filters
    kernel_name = "conv_grad_input.conv2d_grad_input"
    _launch(kernel_name, images, sizes, dy, w, dx, constants=constants, phases=math.prod(strides))
    return dx


def wide(x: Array) -> int:
    """1 if four neighbours along the last axis can be read at once, else 0."""
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
    rows, columns, depth = sizes
    both_wide = all([value for name, value in constants if name.startswith("WIDE")])
    high, across = tile(phases * rows, columns, both_wide)
    grid = phases * -(-rows // high), -(-columns // across)
    splits = shares(math.prod(grid), depth)
    partial = cupy.empty(math.prod(grid) * splits * high * across, np.float32) if splits > 1 else None
    constants += ("TILE_M", high), ("TILE_N", across)
    launch(kernel, (*grid, splits), *arguments, np.int32(images), partial, tickets(), constants=constants)


def tile(rows: int, columns: int, both_wide: bool) -> tuple[int, int]:
    """Rows and columns of the result that a thread block computes: as many as still give every processor work.

    Reading numbers one by one takes registers, which the widest tiles do not have.
    """
    widths = WIDTHS if both_wide else {width: cost for width, cost in WIDTHS.items() if width < 128}
    across = min(widths, key=lambda width: widths[width] * -(-columns // width) * width)
    high = 128 if -(-rows // 128) * -(-columns // across) >= BLOCKS else 64
    return high, across


def shares(tiles: int, depth: int) -> int:
    """How many blocks divide the depth of one tile: enough to fill the device, but each has more to multiply than
    the last one has to add up.
    """
    return max(min(BLOCKS // max(tiles, 1), math.isqrt(depth // 4), depth // (4 * STEP)), 1)
