"""Pooling."""

from __future__ import annotations

import cupy
import numpy as np

from ...backend import Array
from ...shapes import Pads, Pair
from .. import reference
from .launching import LARGEST, Constants, contiguous, launch_each, ready


def geometry(
    shape: tuple[int, ...], out: Pair, kernel: Pair, strides: Pair, pads: Pads, dilation: Pair
) -> Constants:
    """The constants of windows.cu for images of `shape` (N, H, W, C)."""
    values = *shape[1:], *out, *kernel, *strides, *dilation, pads[0][0], pads[1][0]
    return tuple(
        zip(
            ("H", "W", "C", "OH", "OW", "KH", "KW", "SH", "SW", "DH", "DW", "TOP", "LEFT"),
            values,
            strict=True,
        )
    )


def _offset_type(kernel: Pair) -> type:
    return np.uint8 if kernel[0] * kernel[1] <= 256 else np.int32


def max_pool(
    x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, places: bool = True
) -> tuple[Array, Array | None]:
    shape, kind = (len(x), *out, x.shape[3]), _offset_type(kernel)
    if not ready(x) or np.prod(shape) >= LARGEST:
        return reference.max_pool(x, out, kernel, strides, pads, places)
    (x,) = contiguous(x)
    y, where = cupy.empty(shape, x.dtype), cupy.empty(shape, kind)
    constants = geometry(x.shape, out, kernel, strides, pads, (1, 1))
    launch_each(
        "windows.max_pool", y.size, x, y, where, np.int32(len(x)), constants=constants, T=x.dtype, I=kind
    )
    return y, where if places else None


def max_pool_grad(
    dy: Array, where: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads
) -> Array:
    kind = _offset_type(kernel)
    if not ready(dy) or where.dtype != kind or np.prod(shape) >= LARGEST:
        return reference.max_pool_grad(dy, where, shape, kernel, strides, pads)
    dy, where = contiguous(dy, where)
    dx = cupy.empty(shape, dy.dtype)
    constants = geometry(shape, dy.shape[1:3], kernel, strides, pads, (1, 1))
    images = np.int32(shape[0])
    launch_each(
        "windows.max_pool_grad", dx.size, dy, where, dx, images, constants=constants, T=dy.dtype, I=kind
    )
    return dx


def avg_pool(x: Array, out: Pair, kernel: Pair, strides: Pair, pads: Pads, count_pads: bool) -> Array:
    shape = len(x), *out, x.shape[3]
    if not ready(x) or np.prod(shape) >= LARGEST:
        return reference.avg_pool(x, out, kernel, strides, pads, count_pads)
    (x,) = contiguous(x)
    y, types = cupy.empty(shape, x.dtype), {"T": x.dtype, "I": np.uint8}
    constants = geometry(x.shape, out, kernel, strides, pads, (1, 1))
    numbers = np.bool_(count_pads), np.int32(len(x))
    launch_each("windows.avg_pool", y.size, x, y, *numbers, constants=constants, **types)
    return y


def avg_pool_grad(
    dy: Array, shape: tuple[int, ...], kernel: Pair, strides: Pair, pads: Pads, count_pads: bool
) -> Array:
    if not ready(dy) or np.prod(shape) >= LARGEST:
        return reference.avg_pool_grad(dy, shape, kernel, strides, pads, count_pads)
    (dy,) = contiguous(dy)
    dx, types = cupy.empty(shape, dy.dtype), {"T": dy.dtype, "I": np.uint8}
    constants = geometry(shape, dy.shape[1:3], kernel, strides, pads, (1, 1))
    numbers = np.bool_(count_pads), np.int32(shape[0])
    launch_each("windows.avg_pool_grad", dx.size, dy, dx, *numbers, constants=constants, **types)
    return dx
