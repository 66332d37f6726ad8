"""Callbacks: what happens around the steps of `fit`. Names and arguments are Keras's."""

from .base import Callback, CSVLogger, History, Run
from .checkpoint import Checkpoint
from .monitor import EarlyStopping, LearningRate, ModelCheckpoint, ReduceLROnPlateau
from .progress import ProgressBar

__all__ = [
    "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "History", "LearningRate", "ModelCheckpoint", "ProgressBar",
    "ReduceLROnPlateau", "Run",
]  # fmt: skip
