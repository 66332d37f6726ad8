"""Callbacks: what happens around the steps of `fit`. Names and arguments are Keras's."""

from .base import Callback, CSVLogger, History, Run, TerminateOnNaN
from .monitor import Checkpoint, EarlyStopping, LearningRate, ReduceLROnPlateau
from .progress import ProgressBar

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "History", "LearningRate", "ProgressBar",
    "ReduceLROnPlateau", "Run", "TerminateOnNaN",
]  # fmt: skip
