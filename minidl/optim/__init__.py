"""Optimisers, learning-rate schedules and gradient clipping."""

from .base import Optimizer
from .clip import clip_norm, clip_value
from .rules import SGD, Adam, AdamW, RMSprop
from .schedules import Constant, CosineDecay, EpochFunction, Schedule, StepDecay, WarmUp

__all__ = [
    "SGD", "Adam", "AdamW", "Constant", "CosineDecay", "EpochFunction", "Optimizer", "RMSprop", "Schedule",
    "StepDecay", "WarmUp", "clip_norm", "clip_value",
]  # fmt: skip
