"""Every kernel in the plainest array code: the specification that faster twins are tested against.

Arrays in, arrays out; NumPy or CuPy. The sliding windows have a file of their own, `windows`. Where gradients take
`overwrite`, the memory of the one that comes in may be used for the one that goes out.
"""

from __future__ import annotations

import numpy as np

from ..backend import Array, array_module
from ..rng import Key, keep_mask
from .blocks import block_pays, dense_block, dense_block_grad  # noqa: F401 - part of the specification
from .loops import add_to_average, next_batch  # noqa: F401 - part of the specification
from .special import erf  # noqa: F401 - part of the specification
from .updates import adam_step, rmsprop_step, sgd_step  # noqa: F401 - part of the specification
from .windows import (  # noqa: F401 - part of the specification
    avg_pool,
    avg_pool_grad,
    conv2d,
    conv2d_grad_input,
    conv2d_grad_weight,
    conv2d_max_pool,
    im2col,
    max_pool,
    max_pool_grad,
)


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


def matmul(a: Array, b: Array, into: Array | None = None) -> Array:
    """a @ b, written to `into` if given."""
    return array_module(a).matmul(a, b, out=into)


def sum_rows(x: Array, into: Array | None = None) -> Array:
    """Sum of (M, C) over M, written to `into` if given. BLAS is several times faster than ``x.sum(axis=0)``."""
    xp = array_module(x)
    return xp.matmul(xp.ones(len(x), dtype=x.dtype), x, out=into)  # (C,)


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


def bias_activation(y: Array, b: Array | None, slope: float | None) -> None:
    """What follows a matrix product, in place: y += b, then `leaky_relu` unless slope is None. (M, C), (C,)"""
    if b is not None:
        y += b
    if slope is not None:
        array_module(y).maximum(y, slope * y if slope else 0, out=y)


def dense(x: Array, w: Array, b: Array | None, slope: float | None) -> Array:
    """Matrix product of x (N, I) and w (I, O), and `bias_activation`."""
    y = matmul(x, w)
    bias_activation(y, b, slope)
    return y


def dense_affine(x: Array, w: Array, scale: Array, shift: Array, alpha: float | None) -> Array:
    """(x @ w) * scale + shift, with scale and shift (O,), and `elu` unless alpha is None."""
    y = matmul(x, w)
    y *= scale
    y += shift
    return y if alpha is None else elu(y, alpha)


def bias_activation_grad(
    dy: Array, y: Array, slope: float, into: Array | None = None, overwrite: bool = False
) -> tuple[Array, Array]:
    """Gradients of `bias_activation` with respect to the matrix product (M, C) and the bias (C,), into `into`."""
    g = leaky_relu_grad(dy, y, slope, overwrite)
    return g, sum_rows(g, into)


def dropout(x: Array, keep: float, key: Key) -> tuple[Array, Array]:
    """x / keep where a mask drawn for `key` is True, 0 elsewhere; and the mask."""
    mask = keep_mask(x.shape, keep, key, array_module(x))
    return dropout_grad(x, mask, keep), mask


def dropout_grad(dy: Array, mask: Array, keep: float, overwrite: bool = False) -> Array:
    """Gradient of `dropout`: the same map."""
    dx = array_module(dy).multiply(dy, mask, out=dy if overwrite else None)
    dx *= 1 / keep if keep else 0.0
    return dx


# Normalisation and loss -----------------------------------------------------------------------------


def long_rows(x: Array, *vectors: Array) -> tuple[Array, ...]:
    """(M, C) as (M / k, k C), and each (C,) k times: NumPy starts anew for each row, so few long ones are faster."""
    k = 1
    while x.size and k * x.shape[1] < 512 and len(x) % (2 * k) == 0:
        k *= 2
    return x.reshape(len(x) // k, k * x.shape[1]), *[array_module(x).tile(v, k) for v in vectors]


def batch_norm(
    x: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    averages: tuple[Array, Array] | None = None,
    momentum: float = 0.0,
) -> tuple[Array, Array, Array]:
    """Normalise each column of (M, C) by its mean and biased variance; `update_running` the averages, if given.

    Returns y (M, C), the mean and 1 / sqrt(var + eps) (C,).
    """
    mean = sum_rows(x) / len(x)
    wide, means = long_rows(x, mean)
    y = (wide - means).reshape(x.shape)
    var = sum_rows(y * y) / len(x)
    inverse_std = 1 / array_module(x).sqrt(var + eps)
    if averages is not None:
        update_running(*averages, mean, var, momentum, len(x))
    wide, scale, shift = long_rows(y, gamma * inverse_std, beta)
    wide *= scale
    wide += shift
    return y, mean, inverse_std


def normalise(x: Array, mean: Array, scale: Array, beta: Array) -> Array:
    """(x - mean) * scale + beta by column of (M, C): batch normalisation with given statistics."""
    wide, mean, scale, beta = long_rows(x, mean, scale, beta)
    y = wide - mean
    y *= scale
    y += beta
    return y.reshape(x.shape)


def batch_norm_grad(
    dy: Array,
    x: Array,
    mean: Array,
    inverse_std: Array,
    gamma: Array,
    into: tuple[Array | None, Array | None] = (None, None),
    overwrite: bool = False,
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm` with respect to x, gamma and beta, through mean and variance too.

    Those of gamma and beta are written to the arrays of `into`, where they are given.
    """
    wide, means = long_rows(x, mean)
    centred = (wide - means).reshape(x.shape)
    dbeta = sum_rows(dy, into[1])
    dgamma = sum_rows(dy * centred, into[0])
    dgamma *= inverse_std
    dx, slope, shift, scale = long_rows(
        centred, dgamma * inverse_std / len(dy), dbeta / len(dy), gamma * inverse_std
    )
    dx *= -slope
    dx += dy.reshape(dx.shape)
    dx -= shift
    dx *= scale
    return dx.reshape(dy.shape), dgamma, dbeta


def update_running(
    running_mean: Array, running_var: Array, mean: Array, var: Array, momentum: float, count: int
) -> None:
    """Move running averages (C,), in place, towards mean and unbiased variance of a batch of `count` rows."""
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)


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
