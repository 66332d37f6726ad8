"""Layers: Keras names and arguments, parameters made when the shapes are known."""

from .activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Softplus, Tanh
from .base import Layer, Parameter, inference
from .conv import Conv2D
from .dense import Dense
from .dropout import Dropout
from .norm import BatchNorm
from .pool import AdaptiveAvgPool2D, AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D
from .sequential import Sequential
from .shape import Flatten, Normalize, Reshape, Resize
from .state import StateError

__all__ = [
    "AdaptiveAvgPool2D", "AvgPool2D", "BatchNorm", "Conv2D", "Dense", "Dropout", "ELU", "Flatten", "GELU", "GlobalAvgPool2D",
    "GlobalMaxPool2D", "Layer", "LeakyReLU", "MaxPool2D", "Normalize", "Parameter", "ReLU", "Reshape",
    "Resize", "Sequential", "Sigmoid", "Softmax", "Softplus", "StateError", "Tanh", "inference",
]  # fmt: skip
