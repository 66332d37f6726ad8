"""Reference of a dense layer in training with what often follows it: batch norm, ELU and dropout in one piece."""

from __future__ import annotations

from ..backend import Array, array_module
from ..rng import Key, keep_mask


def block_pays(x: Array, w: Array) -> bool:
    """Whether `dense_block` takes less time than its operations one by one: never in plain array code."""
    return False


def dense_block(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    eps: float,
    averages: tuple[Array, Array] | None,
    momentum: float,
    alpha: float | None,
    keep: float,
    key: Key | None,
) -> tuple[Array, Array, Array, Array, Array]:
    """dropout(elu(batch_norm(x @ w + b))) of x (N, I), w (I, O), of the batch's mean and variance.

    `alpha` None is no ELU, `key` None no dropout. The bias moves nothing but the average of means.
    Returns y (N, O) and, for the gradient, dy / d(batch_norm) (N, O), x @ w, its mean and 1 / sqrt(var + eps) (O,).
    """
    xp = array_module(x)
    z = x @ w
    mean, var = z.mean(axis=0), z.var(axis=0)
    if averages is not None:
        running_mean, running_var = averages
        running_mean += momentum * (mean + (0 if b is None else b) - running_mean)
        running_var += momentum * (var * (len(z) / (len(z) - 1)) - running_var)
    inverse_std = 1 / xp.sqrt(var + eps)
    y = (z - mean) * (gamma * inverse_std) + beta
    slope = xp.ones_like(y)
    if alpha is not None:
        negative = alpha * xp.expm1(xp.minimum(y, 0))
        slope, y = xp.where(y > 0, slope, negative + alpha), xp.where(y > 0, y, negative)
    if key is not None:
        factor = keep_mask(y.shape, keep, key, xp) * y.dtype.type(1 / keep if keep else 0)
        slope, y = slope * factor, y * factor
    return y, slope, z, mean, inverse_std


def dense_block_grad(
    dy: Array,
    slope: Array,
    x: Array,
    w: Array,
    z: Array,
    mean: Array,
    inverse_std: Array,
    gamma: Array,
    needed: tuple[bool, bool] = (True, True),
    into: tuple[Array | None, Array | None, Array | None] = (None, None, None),
    overwrite: bool = False,
) -> tuple[Array | None, Array | None, Array, Array]:
    """Gradients of `dense_block` with respect to x and w, as far as `needed`, gamma and beta; that of b is zero.

    Those of w, gamma and beta are written to the arrays of `into`, where they are given.
    """
    g, normalised = dy * slope, (z - mean) * inverse_std
    dgamma, dbeta = (g * normalised).sum(axis=0), g.sum(axis=0)
    dz = gamma * inverse_std * (g - dbeta / len(g) - normalised * (dgamma / len(g)))
    dx, dw = dz @ w.T if needed[0] else None, x.T @ dz if needed[1] else None
    results = [dw, dgamma, dbeta]
    for i, place in enumerate(into):
        if place is not None and results[i] is not None:
            place[...] = results[i]
            results[i] = place
    return dx, *results
