"""minidl: deep learning on NumPy and CuPy that can be read, checked and relied on."""

from . import callbacks, data, kernels, layers, models, ops, optim, plot, report, testing, weights
from ._version import __version__
from .anomaly import AnomalyError, detect_anomaly
from .autograd import Function, Tensor, no_grad
from .backend import DeviceError, resolve_device
from .caching import features
from .checkpoint import CheckpointError
from .data import DataError, MissingDataError
from .evaluation import evaluate, predict
from .inspect import summary
from .layers import Layer, Parameter, Sequential, StateError
from .shapes import ShapeError
from .train import fit
from .weights import WeightsError

__all__ = [
    "__version__", "AnomalyError", "CheckpointError", "DataError", "MissingDataError", "DeviceError", "Function", "Layer", "Parameter", "Sequential", "ShapeError", "StateError",
    "Tensor", "WeightsError", "callbacks", "data", "detect_anomaly", "evaluate", "features", "fit", "kernels", "layers", "models", "no_grad",
    "ops", "optim", "plot", "predict", "report", "resolve_device", "summary", "testing", "weights",
]  # fmt: skip
