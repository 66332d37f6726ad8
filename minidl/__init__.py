"""minidl: deep learning on NumPy and CuPy that can be read, checked and relied on."""

from . import callbacks, data, kernels, layers, models, ops, optim, plot, report, testing, weights
from ._version import __version__
from .autograd import Function, Tensor, no_grad
from .backend import DeviceError, resolve_device
from .caching import features
from .data import DataError, MissingDataError
from .inspect import summary
from .layers import Layer, Parameter, Sequential, StateError
from .shapes import ShapeError
from .train import evaluate, fit, predict
from .weights import WeightsError

__all__ = [
    "__version__", "DataError", "MissingDataError", "DeviceError", "Function", "Layer", "Parameter", "Sequential", "ShapeError", "StateError",
    "Tensor", "WeightsError", "callbacks", "data", "evaluate", "features", "fit", "kernels", "layers", "models", "no_grad",
    "ops", "optim", "plot", "predict", "report", "resolve_device", "summary", "testing", "weights",
]  # fmt: skip
