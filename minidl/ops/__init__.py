"""Operations on tensors: one Function and one function each. They take arrays as well as tensors."""

from ..operators import OPERATORS
from .activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from .conv import conv2d
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    cast,
    divide,
    exp,
    log,
    multiply,
    negative,
    pow,
    sqrt,
    subtract,
)
from .linear import dense, matmul
from .loss import binary_cross_entropy, cross_entropy, cross_entropy_composed, mae, mse, nll
from .norm import batch_norm, batch_norm_composed
from .pool import avg_pool2d, global_avg_pool2d, global_max_pool2d, max_pool2d
from .reduce import logsumexp, max, mean, min, sum, var
from .resize import adaptive_avg_pool2d, resize
from .select import clip, maximum, minimum, where
from .shape import concatenate, flatten, getitem, pad, reshape, transpose

OPERATORS.update(
    add=add,
    subtract=subtract,
    multiply=multiply,
    divide=divide,
    pow=pow,
    matmul=matmul,
    negative=negative,
    abs=abs,
    getitem=getitem,
    sum=sum,
    mean=mean,
    max=max,
    min=min,
    reshape=reshape,
    transpose=transpose,
)

__all__ = [
    "abs", "adaptive_avg_pool2d", "add", "avg_pool2d", "batch_norm", "batch_norm_composed", "binary_cross_entropy", "cast", "clip",
    "concatenate", "conv2d", "cross_entropy", "cross_entropy_composed", "dense", "divide", "dropout",
    "elu", "exp", "flatten", "gelu", "getitem", "global_avg_pool2d", "global_max_pool2d", "leaky_relu",
    "log", "log_softmax", "logsumexp", "mae", "matmul", "max", "max_pool2d", "maximum", "mean", "min",
    "minimum", "mse", "multiply", "negative", "nll", "pad", "pow", "relu", "reshape", "resize", "sigmoid",
    "softmax", "softplus", "sqrt", "subtract", "sum", "tanh", "transpose", "var", "where",
]  # fmt: skip
