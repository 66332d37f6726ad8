"""Weights in files: the model's own, and those of Keras and PyTorch."""

from ..files import write_atomically
from .errors import WeightsError
from .mapping import Report
from .onnx_export import export_onnx
from .own import check_suffix, load, save
from .reading import Weights, read

__all__ = [
    "Report",
    "Weights",
    "WeightsError",
    "check_suffix",
    "export_onnx",
    "load",
    "read",
    "save",
    "write_atomically",
]
