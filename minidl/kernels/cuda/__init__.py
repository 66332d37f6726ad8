"""CUDA twins of the kernels, for CuPy arrays; every other name is the reference's.

The kernels themselves are CUDA C in the ``.cu`` files beside. CuPy compiles each at its first use and keeps the result
on disk. What is not float32 or float64, or has 2^31 numbers, goes to the reference. Nothing here waits for the
device, and no sum depends on timing: the same program gives the same bits.
"""

from ..reference import *  # noqa: F403 - whatever has no twin below
from .batches import next_batch
from .conv import conv2d, conv2d_grad_input, conv2d_grad_weight, conv2d_max_pool
from .elementwise import bias_activation, bias_activation_grad, elu, elu_grad, leaky_relu, leaky_relu_grad
from .linear import dense, matmul, sum_rows
from .loss import add_to_average, cross_entropy, cross_entropy_grad
from .masks import dropout, dropout_grad
from .norm import batch_norm, batch_norm_grad, normalise
from .optim import adam_step, rmsprop_step, sgd_step
from .pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad

__all__ = [
    "adam_step", "add_to_average", "avg_pool", "avg_pool_grad", "batch_norm", "batch_norm_grad", "bias_activation", "bias_activation_grad", "conv2d",
    "conv2d_grad_input", "conv2d_grad_weight", "conv2d_max_pool", "cross_entropy", "cross_entropy_grad", "dense", "dropout", "dropout_grad", "elu", "elu_grad",
    "leaky_relu", "leaky_relu_grad", "matmul", "max_pool", "max_pool_grad", "next_batch", "normalise", "rmsprop_step", "sgd_step",
    "sum_rows",
]  # fmt: skip
