"""Learning rates that change: functions of the epoch, a float that counts the steps within it too."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..checks import number


class Schedule:
    """A learning rate for each moment of training; ``schedule(epoch) -> lr``.

    `fit` passes epoch + step / steps_per_epoch. In a loop of your own set ``optimizer.epoch``.
    """

    def __call__(self, epoch: float) -> float:
        raise TypeError(f"{type(self).__name__} must define __call__(self, epoch)")

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Constant(Schedule):
    """The same rate always."""

    def __init__(self, lr: float):
        self.lr = number("Constant", "lr", lr)

    def __call__(self, epoch: float) -> float:
        return self.lr


class StepDecay(Schedule):
    """lr * gamma ** floor(epoch / every): PyTorch's StepLR."""

    def __init__(self, lr: float, every: int, gamma: float = 0.1):
        self.lr = number("StepDecay", "lr", lr)
        self.every = number("StepDecay", "every", every, above=0)
        self.gamma = number("StepDecay", "gamma", gamma)

    def __call__(self, epoch: float) -> float:
        return self.lr * self.gamma ** math.floor(epoch / self.every)


class CosineDecay(Schedule):
    """From lr down to `final` along half a cosine over `epochs` (Loshchilov and Hutter, ICLR 2017)."""

    def __init__(self, lr: float, epochs: float, final: float = 0.0):
        self.lr = number("CosineDecay", "lr", lr)
        self.epochs = number("CosineDecay", "epochs", epochs, above=0)
        self.final = number("CosineDecay", "final", final)

    def __call__(self, epoch: float) -> float:
        progress = min(epoch / self.epochs, 1.0)
        return self.final + (self.lr - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class WarmUp(Schedule):
    """Linear from 0 to the rate of `after` over `epochs`, then `after`, which starts at the same epoch 0."""

    def __init__(self, after: Schedule | float, epochs: float):
        self.after = after if isinstance(after, Schedule) else Constant(after)
        self.epochs = number("WarmUp", "epochs", epochs, above=0)

    def __call__(self, epoch: float) -> float:
        return self.after(epoch) * min(epoch / self.epochs, 1.0)


class EpochFunction(Schedule):
    """Any function of the whole epoch number 0, 1, 2, ..."""

    def __init__(self, function: Callable[[int], float]):
        self.function = function

    def __call__(self, epoch: float) -> float:
        return float(self.function(math.floor(epoch)))
