"""Numba twins of the kernels that benchmarks show to matter; every other name is the reference's."""

from pathlib import Path

from ..reference import *  # noqa: F403 - whatever has no twin below
from . import linear
from .block import block_pays, dense_block, dense_block_grad
from .compiling import discard_stale
from .conv import conv2d, conv2d_grad_input, conv2d_grad_weight, conv2d_max_pool
from .elementwise import (
    bias_activation,
    bias_activation_grad,
    elu,
    elu_grad,
    leaky_relu,
    leaky_relu_grad,
)
from .linear import dense, dense_affine, matmul, sum_rows
from .loss import cross_entropy, cross_entropy_grad
from .masks import dropout, dropout_grad
from .norm import batch_norm, batch_norm_grad, normalise
from .optim import adam_step, sgd_step
from .pool import max_pool, max_pool_grad

CACHE = Path(linear._sum_rows.stats.cache_path)  # where Numba keeps all of this
discard_stale(CACHE)

__all__ = [
    "adam_step", "batch_norm", "batch_norm_grad", "bias_activation", "bias_activation_grad", "block_pays", "conv2d",
    "conv2d_grad_input", "conv2d_grad_weight", "conv2d_max_pool", "cross_entropy", "cross_entropy_grad", "dense", "dense_affine", "dense_block", "dense_block_grad", "dropout", "dropout_grad", "elu", "elu_grad",
    "leaky_relu", "leaky_relu_grad", "matmul", "max_pool", "max_pool_grad", "normalise", "sgd_step", "sum_rows",
]  # fmt: skip
