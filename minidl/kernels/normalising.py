"""Reference kernels of batch normalisation, over the columns of (M, C). Each thread takes its share of the rows."""

from __future__ import annotations

from ..backend import Array, array_module
from .matrices import delivered, sum_rows, sums_of
from .threads import over_rows


def long_rows(x: Array, *vectors: Array) -> tuple[Array, ...]:
    """(M, C) as (M / k, k C), and each (C,) k times: NumPy starts anew for each row, so few long ones are faster."""
    k = 1
    while x.size and k * x.shape[1] < 512 and len(x) % (2 * k) == 0:
        k *= 2
    return x.reshape(len(x) // k, k * x.shape[1]), *[array_module(x).tile(v, k) for v in vectors]


def dots(x: Array, y: Array, columns: int) -> Array:
    """Sums of x * y over all rows, of (M / k, k C)."""
    return array_module(x).einsum("ij,ij->j", x, y).reshape(-1, columns).sum(axis=0)


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
    y = array_module(x).empty(x.shape, dtype=x.dtype)
    mean = sum_rows(x) / len(x)

    def centre(rows: slice) -> Array:
        """Returns the sums of squares."""
        wide, means = long_rows(x[rows], mean)
        centred = long_rows(y[rows])[0]
        array_module(x).subtract(wide, means, out=centred)
        return dots(centred, centred, len(mean))

    var = delivered(over_rows(centre, x, 2 * x.size), None) / len(x)
    inverse_std = 1 / array_module(x).sqrt(var + eps)
    if averages is not None:
        update_running(*averages, mean, var, momentum, len(x))

    def scale(rows: slice) -> None:
        wide, slope, shift = long_rows(y[rows], gamma * inverse_std, beta)
        wide *= slope
        wide += shift

    over_rows(scale, y, y.size)
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
    dx = array_module(x).empty(x.shape, dtype=x.dtype)

    def centre(rows: slice) -> tuple[Array, Array]:
        """Returns the sums that the gradients of gamma and beta are made of."""
        wide, means = long_rows(x[rows], mean)
        centred = long_rows(dx[rows])[0]
        array_module(x).subtract(wide, means, out=centred)
        return dots(long_rows(dy[rows])[0], centred, len(mean)), sums_of(dy[rows])

    sums = over_rows(centre, x, 2 * x.size)
    dgamma, dbeta = (
        delivered(list(parts), out) for parts, out in zip(zip(*sums, strict=True), into, strict=True)
    )
    dgamma *= inverse_std

    def share(rows: slice) -> None:
        wide, slope, shift, scale = long_rows(
            dx[rows], dgamma * inverse_std / len(dy), dbeta / len(dy), gamma * inverse_std
        )
        wide *= -slope
        wide += dy[rows].reshape(wide.shape)
        wide -= shift
        wide *= scale

    over_rows(share, dx, 2 * dx.size)
    return dx, dgamma, dbeta


def update_running(
    running_mean: Array, running_var: Array, mean: Array, var: Array, momentum: float, count: int
) -> None:
    """Move running averages (C,), in place, towards mean and unbiased variance of a batch of `count` rows."""
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * (count / (count - 1)) - running_var)
