"""Dropout with its random numbers made on the way: the same as on the CPU."""

from __future__ import annotations

import cupy
import numpy as np

from ...backend import Array
from ...rng import Key, keep_threshold, philox_start
from .. import reference
from .launching import contiguous, launch_each, number_and_place, ready


def dropout(x: Array, keep: float, key: Key) -> tuple[Array, Array]:
    threshold = keep_threshold(keep)
    if not ready(x) or threshold >= 2**32:
        return reference.dropout(x, keep, key)
    (x,) = contiguous(x)
    y, mask = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, np.bool_)
    step, place = number_and_place(key.step)
    (seed, stream), (_, step, call, _) = philox_start(key._replace(step=step))
    counter = np.uint64(seed), np.uint64(stream), np.uint64(step), place, np.uint64(call)
    numbers = np.uint32(threshold), x.dtype.type(1 / keep if keep else 0), np.int32(x.size)
    launch_each("dropout.dropout", -(-x.size // 8), x, y, mask, *counter, *numbers, T=x.dtype)
    return y, mask


def dropout_grad(dy: Array, mask: Array, keep: float, overwrite: bool = False) -> Array:
    if not ready(dy):
        return reference.dropout_grad(dy, mask, keep, overwrite)
    dy, mask = contiguous(dy, mask)
    dx, scale = cupy.empty(dy.shape, dy.dtype), dy.dtype.type(1 / keep if keep else 0)
    launch_each("dropout.dropout_grad", dy.size, dy, mask, dx, scale, np.int32(dy.size), T=dy.dtype)
    return dx
