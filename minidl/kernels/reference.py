"""Every kernel in the plainest array code: the specification that faster twins are tested against.

Arrays in, arrays out; NumPy or CuPy. Convolution, pooling and batch normalisation have files of their own,
`convolution`, `windows` and `normalising`. Where gradients take `overwrite`, the memory of the one that comes in may be
used for the one that goes out. Large work on NumPy's arrays is shared among threads, row by row or image by image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backend import Array, array_module
from ..rng import Key, keep_mask
from .blocks import block_pays, dense_block, dense_block_grad  # noqa: F401 - part of the specification
from .convolution import (  # noqa: F401 - part of the specification
    conv2d,
    conv2d_grad_input,
    conv2d_grad_weight,
    conv2d_max_pool,
)
from .loops import add_to_average, next_batch  # noqa: F401 - part of the specification
from .matrices import (  # noqa: F401 - part of the specification
    bias_activation,
    delivered,
    matmul,
    sum_rows,
    sums_of,
)
from .normalising import (  # noqa: F401 - part of the specification
    batch_norm,
    batch_norm_grad,
    normalise,
    update_running,
)
from .special import erf  # noqa: F401 - part of the specification
from .threads import over_rows
from .updates import adam_step, rmsprop_step, sgd_step  # noqa: F401 - part of the specification
from .windows import (  # noqa: F401 - part of the specification
    avg_pool,
    avg_pool_grad,
    max_pool,
    max_pool_grad,
)

Affine = tuple[Array, Array | None, Array | None, float | None]  # a layer of `dense_affine`


def total(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Sum over `axis`; of float16 it is float32, for its own numbers end at 65,504 and thin out before."""
    return x.sum(axis=axis, keepdims=keepdims, dtype=np.float32 if x.dtype == np.float16 else None)


def widened(x: Array) -> Array:
    """float16 as float32, which is what its statistics are computed in."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def narrowed(y: Array, x: Array) -> Array:
    """`y`, computed of the widened `x`, in the dtype of x."""
    return y.astype(x.dtype) if x.dtype == np.float16 else y


def sum_to_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum `x` over the axes along which an array of `shape` was repeated."""
    if x.shape == shape:
        return x
    extra = x.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(shape) if size == 1 and x.shape[i + extra] != 1
    )
    return total(x, axes, keepdims=True).reshape(shape)


# Activations and dropout ----------------------------------------------------------------------------


def leaky_relu(x: Array, slope: float) -> Array:
    """x where positive, slope * x elsewhere; ReLU is slope 0."""
    xp = array_module(x)
    if 0 <= slope <= 1:
        return xp.maximum(x, slope * x if slope else 0)  # five times faster than a choice between two arrays
    return xp.where(x <= 0, slope * x, x)


def leaky_relu_grad(dy: Array, y: Array, slope: float, overwrite: bool = False) -> Array:
    """Gradient of `leaky_relu`, from its result: the sign of y is that of x."""
    factor = y > 0
    if slope:
        factor = factor.astype(dy.dtype)
        factor *= 1 - slope
        factor += slope
    return array_module(dy).multiply(dy, factor, out=dy if overwrite else None)


def elu(x: Array, alpha: float) -> Array:
    """x where positive, alpha (e^x - 1) elsewhere."""
    xp = array_module(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


def elu_grad(dy: Array, x: Array, y: Array, alpha: float, overwrite: bool = False) -> Array:
    """Gradient of `elu`: alpha e^x = y + alpha."""
    return array_module(dy).where(x > 0, dy, dy * (y + alpha))


def dense(x: Array, w: Array, b: Array | None, slope: float | None) -> Array:
    """Matrix product of x (N, I) and w (I, O), and `bias_activation`."""
    y = matmul(x, w)
    bias_activation(y, b, slope)
    return y


def dense_affine(x: Array, layers: Sequence[Affine]) -> Array:
    """x = x @ w * scale + shift, and `elu` unless alpha is None, for each (w, scale, shift, alpha); x is (N, I).

    Scale and shift are (O,), or None where there is none.
    """
    for w, scale, shift, alpha in layers:
        x = matmul(x, w)
        if scale is not None:
            x *= scale
        if shift is not None:
            x += shift
        x = x if alpha is None else elu(x, alpha)
    return x


def bias_activation_grad(
    dy: Array, y: Array, slope: float, into: Array | None = None, overwrite: bool = False
) -> tuple[Array, Array]:
    """Gradients of `bias_activation` with respect to the matrix product (M, C) and the bias (C,), into `into`."""
    g = dy if overwrite else dy.copy()

    def share(rows: slice) -> Array:
        return sums_of(leaky_relu_grad(g[rows], y[rows], slope, overwrite=True))

    return g, delivered(over_rows(share, g, g.size), into)


def dropout(x: Array, keep: float, key: Key) -> tuple[Array, Array]:
    """x / keep where a mask drawn for `key` is True, 0 elsewhere; and the mask."""
    mask = keep_mask(x.shape, keep, key, array_module(x))
    return dropout_grad(x, mask, keep), mask


def dropout_grad(dy: Array, mask: Array, keep: float, overwrite: bool = False) -> Array:
    """Gradient of `dropout`: the same map."""
    dx = array_module(dy).multiply(dy, mask, out=dy if overwrite else None)
    dx *= 1 / keep if keep else 0.0
    return dx


# Loss ------------------------------------------------------------------------------------------


def cross_entropy(x: Array, labels: Array, divisor: int | None = None) -> tuple[Array, Array]:
    """-log softmax(x)[n, labels[n]] of (N, C) and class numbers (N,); the losses (N,) and softmax(x).

    With a `divisor` the losses are added up and divided by it.
    """
    log_p = log_softmax(x)
    xp = array_module(x)
    losses = -log_p[xp.arange(len(x)), labels]
    return losses if divisor is None else losses.sum() / divisor, xp.exp(log_p)


def cross_entropy_grad(p: Array, labels: Array, dlosses: Array, divisor: int = 1) -> Array:
    """Gradient of `cross_entropy`: p minus 1 at the label, times the gradient of each loss (N,) / divisor."""
    dlosses = dlosses / divisor
    dx = p * dlosses[:, None]
    dx[array_module(p).arange(len(p)), labels] -= dlosses
    return dx


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log(sum(exp(x))) over `axis`, shifted by the maximum so that nothing overflows."""
    xp = array_module(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return narrowed(shifted - xp.log(total(xp.exp(shifted), axis, keepdims=True)), x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), from exponentials of negative numbers only: no overflow, no cancellation."""
    xp = array_module(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1, small) / (1 + small)
