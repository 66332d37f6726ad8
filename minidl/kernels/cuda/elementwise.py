"""Activations, and bias with activation after a matrix product.

Gradients get memory of their own, whatever `overwrite` says: the kernels' pointers are ``__restrict__``.
"""

from __future__ import annotations

import cupy
import numpy as np

from ...backend import Array
from .. import reference
from .launching import contiguous, launch_column_sums, launch_each, ready


def leaky_relu(x: Array, slope: float) -> Array:
    if not ready(x):
        return reference.leaky_relu(x, slope)
    (x,) = contiguous(x)
    y, number = cupy.empty(x.shape, x.dtype), x.dtype.type
    launch_each("elementwise.leaky_relu", x.size, x, y, number(slope), np.int32(x.size), T=x.dtype)
    return y


def leaky_relu_grad(dy: Array, y: Array, slope: float, overwrite: bool = False) -> Array:
    if not ready(dy, y):
        return reference.leaky_relu_grad(dy, y, slope, overwrite)
    dy, y = contiguous(dy, y)
    dx, number = cupy.empty(dy.shape, dy.dtype), dy.dtype.type
    launch_each(
        "elementwise.leaky_relu_grad", dy.size, dy, y, dx, number(slope), np.int32(dy.size), T=dy.dtype
    )
    return dx


def elu(x: Array, alpha: float) -> Array:
    if not ready(x):
        return reference.elu(x, alpha)
    (x,) = contiguous(x)
    y = cupy.empty(x.shape, x.dtype)
    launch_each("elementwise.elu", x.size, x, y, x.dtype.type(alpha), np.int32(x.size), T=x.dtype)
    return y


def elu_grad(dy: Array, x: Array, y: Array, alpha: float, overwrite: bool = False) -> Array:
    if not ready(dy, x, y):
        return reference.elu_grad(dy, x, y, alpha, overwrite)
    dy, x, y = contiguous(dy, x, y)
    dx, number = cupy.empty(dy.shape, dy.dtype), dy.dtype.type
    launch_each("elementwise.elu_grad", dy.size, dy, x, y, dx, number(alpha), np.int32(dy.size), T=dy.dtype)
    return dx


def bias_activation(y: Array, b: Array | None, slope: float | None) -> None:
    if not y.flags.c_contiguous or not ready(y, y if b is None else b):
        reference.bias_activation(y, b, slope)
    elif b is not None or slope is not None:
        (bias,) = (None,) if b is None else contiguous(b)
        numbers = (
            y.dtype.type(slope or 0),
            np.bool_(slope is not None),
            np.int32(y.size),
            np.int32(y.shape[1]),
        )
        launch_each("elementwise.bias_activation", y.size, y, bias, *numbers, T=y.dtype)


def bias_activation_grad(
    dy: Array, y: Array, slope: float, into: Array | None = None, overwrite: bool = False
) -> tuple[Array, Array]:
    if not ready(dy, y):
        return reference.bias_activation_grad(dy, y, slope, into, overwrite)
    dy, y = contiguous(dy, y)
    g, db = cupy.empty(dy.shape, dy.dtype), cupy.empty(dy.shape[1], dy.dtype) if into is None else into
    arguments = dy, y, g, db, dy.dtype.type(slope)
    launch_column_sums("columns.bias_activation_grad", 1, *dy.shape, *arguments, T=dy.dtype)
    return g, db
