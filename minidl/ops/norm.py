"""Batch normalisation (Ioffe and Szegedy, ICML 2015), over every axis but the last."""

from __future__ import annotations

from typing import Any

from ..autograd import Function, Tensor
from ..backend import Array
from ..shapes import bind
from .elementwise import sqrt
from .reduce import mean, var


class BatchNorm(Function):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with mean and variance of this batch

    n = (x - mean) / sqrt(var + eps)        dgamma = sum dy n        dbeta = sum dy
    dx = gamma / sqrt(var + eps) (dy - dbeta / M - n dgamma / M)

    The averages (mean and variance over batches), if there are any, move towards this batch's.
    """

    def __init__(self, eps: float, momentum: float, averages: tuple[Array, Array] | None):
        self.eps, self.momentum, self.averages = eps, momentum, averages

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:  # (..., C), (C,), (C,)
        rows = x.reshape(-1, x.shape[-1])  # (M, C)
        if len(rows) < 2:
            raise ValueError(
                f"batch_norm: training needs more than 1 value for each channel, got x of shape {x.shape}; "
                f"use a larger batch, fit(drop_last=True) if the last one is short, or model.eval()"
            )
        rows, gamma, beta = map(self.kernels.widened, (rows, gamma, beta))
        rest = self.eps, self.averages, self.momentum
        y, self.mean, self.inverse_std = self.kernels.batch_norm(rows, gamma, beta, *rest)
        self.x, self.gamma = x, gamma
        return self.kernels.narrowed(y, x).reshape(x.shape)

    def backward(self, dy: Array) -> Any:
        rows = self.kernels.widened(dy.reshape(-1, dy.shape[-1]))
        x = self.kernels.widened(self.x.reshape(rows.shape))
        into = tuple([self.slot(i) if self.needs_grad[i] else None for i in (1, 2)])
        rest = self.mean, self.inverse_std, self.gamma, into, self.may_overwrite
        dx, dgamma, dbeta = self.kernels.batch_norm_grad(rows, x, *rest)
        return dx.reshape(dy.shape), dgamma, dbeta


class BatchNormInference(Function):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with given mean and variance

    dx = dy gamma / sqrt(var + eps)        dgamma = sum dy (x - mean) / sqrt(var + eps)        dbeta = sum dy
    """

    def __init__(self, mean: Array, var: Array, eps: float):
        self.mean, self.var, self.eps = mean, var, eps

    def forward(self, x: Array, gamma: Array, beta: Array) -> Array:
        self.x, self.inverse_std = x, 1 / self.xp.sqrt(self.var + self.eps)
        self.scale = gamma * self.inverse_std
        rows = x.reshape(-1, x.shape[-1])
        return self.kernels.normalise(rows, self.mean, self.scale, beta).reshape(x.shape)

    def backward(self, dy: Array) -> Any:
        dgamma = dbeta = None
        if self.needs_grad[1] or self.needs_grad[2]:
            rows = dy.reshape(-1, dy.shape[-1])
            normalised = ((self.x - self.mean) * self.inverse_std).reshape(rows.shape)
            dgamma = self.kernels.sum_rows(rows * normalised)
            dbeta = self.kernels.sum_rows(rows)
        return dy * self.scale, dgamma, dbeta


def batch_norm(
    x: Any,
    gamma: Any,
    beta: Any,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel, then scale by gamma and shift by beta.

    Parameters
    ----------
    x : Tensor, shape (N, C) or (N, H, W, C)
    gamma, beta : Tensor, shape (C,)
    running_mean, running_var : array, shape (C,), optional
        Averages over batches: updated in place when training, used instead of the batch's otherwise.
    training : bool
        Use the statistics of this batch.
    momentum : float
        Weight of the *new* value in the running averages (PyTorch's convention; Keras's 0.99 is 0.01 here).
    eps : float
        Added to the variance.

    Raises
    ------
    ShapeError
        The channels do not fit.
    ValueError
        Training on a single value per channel, or inference without running statistics.

    Notes
    -----
    The biased variance normalises (divided by M); the unbiased one (M - 1) enters the running variance,
    as in PyTorch. Keras accumulates the biased one.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    bind(
        "batch_norm",
        x=("N H W C" if x.ndim == 4 else "N C", x),
        gamma=("C", gamma),
        beta=("C", beta),
        running_mean=("C", running_mean),
        running_var=("C", running_var),
    )
    given = None if running_mean is None or running_var is None else (running_mean, running_var)
    if training:
        return BatchNorm(eps, momentum, given)(x, gamma, beta)
    if given is None:
        raise ValueError("batch_norm: inference needs running_mean and running_var, got None")
    return BatchNormInference(*given, eps)(x, gamma, beta)


def batch_norm_composed(x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Tensor:
    """`batch_norm` in training, in primitive operations: the explanation and the oracle of its tests."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    axes = tuple(range(x.ndim - 1))
    centred = x - mean(x, axis=axes, keepdims=True)
    return gamma * (centred / sqrt(var(x, axis=axes, keepdims=True) + eps)) + beta
