"""Weights in files: the model's own, as safetensors or npz."""

from ..files import write_atomically
from .own import WeightsError, check_suffix, load, read, save

__all__ = ["WeightsError", "check_suffix", "load", "read", "save", "write_atomically"]
