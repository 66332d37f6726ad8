"""Training steps on a GPU: data that lives there, and a whole step as one CUDA graph.

Each replay is the same but for what it reads from the device's memory: the batch, the number of the step, and the
learning rate, all written by one kernel just before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from . import kernels
from .backend import Array, array_module, cupy_module, device_of, precision
from .data.batches import batches
from .evaluation import Loss
from .graphs import Graphs, resident
from .layers.base import Layer
from .layers.dropout import Dropout
from .layers.tree import Tree
from .metrics import Average
from .optim import Optimizer
from .optim.schedules import Schedule
from .rng import Counted


class DeviceRate(Schedule):
    """The learning rate that is in the device's memory when an update runs."""

    def __init__(self, rate: Counted):
        self.rate = rate

    def __call__(self, epoch: float) -> Any:
        return self.rate


class CapturedSteps:
    """The steps of `fit` on a GPU; entered, it makes its device and its stream current.

    The first steps with a batch size are eager, the next is captured, the others replay it. If something in the model
    cannot be captured, all steps are eager, and a warning says why. No step waits for the device.

    Parameters
    ----------
    model, optimizer, loss, batch_size, seed, drop_last
        As `fit` has them.
    x, y : array, shape (N, ...)
        On the device.
    """

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        loss: Loss,
        x: Array,
        y: Array,
        batch_size: int,
        seed: int,
        drop_last: bool,
    ):
        self.model, self.optimizer, self.loss, self.x, self.y = model, optimizer, loss, x, y
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.steps = len(x) // batch_size if drop_last else -(-len(x) // batch_size)
        self._cupy = cupy_module()
        self._layers = list(model.named_layers())
        self._dropouts = [(path, layer) for path, layer in self._layers if isinstance(layer, Dropout)]
        self._graphs = Graphs(device_of(x), "fit: a step of this model")
        self._batches: dict[int, tuple[Array, Array]] = {}
        self._average: Average | None = None

    def __enter__(self) -> CapturedSteps:
        self._graphs.__enter__()
        cupy = self._cupy
        self._clock, self._rate = cupy.zeros(1, np.int64), cupy.zeros(1, np.float64)
        self._totals = cupy.zeros(2, np.float64)
        self._kernels = kernels.of(cupy)
        return self

    def __exit__(self, *error: object) -> None:
        self._graphs.__exit__(*error)

    def step(self, epoch: int, step: int, average: Average) -> Mapping[str, float]:
        """One step of an epoch; the running averages, which wait for the device when they are read."""
        if average is not self._average:
            self._start_epoch(epoch, average)
        number, first = epoch * self.steps + step, step * self.batch_size
        size = min(self.batch_size, len(self.x) - first)
        batch, targets = self._batches.get(size) or self._room(size)
        places, lr = (batch, targets, self._clock, self._rate), float(self.optimizer.lr)
        self._kernels.next_batch(self.x, self.y, self._order, first, *places, number, lr)
        self._start_dropout(number)
        counted = average.samples
        _, updated = self._graphs.run(
            self._signature(size, number),
            lambda: self._update(batch, targets, average),
            lambda: self._counting_on_device(number),
        )
        average.samples = counted + size
        if updated is not None:
            self._count(updated)
        return average.later()

    def _start_epoch(self, epoch: int, average: Average) -> None:
        rows = batches(len(self.x), self.batch_size, seed=self.seed, epoch=epoch, drop_last=self.drop_last)
        order = np.concatenate(list(rows))
        self._order = self._cupy.asarray(order)
        self._average = average
        average.add_up_in(self._totals)

    def _room(self, size: int) -> tuple[Array, Array]:
        """Where batches of `size` are put: always the same memory."""
        kind = self.x.dtype if self.x.dtype.kind == "f" else np.float32
        empty = self._cupy.empty
        self._batches[size] = (
            empty((size, *self.x.shape[1:]), kind),
            empty((size, *self.y.shape[1:]), self.y.dtype),
        )
        return self._batches[size]

    def _start_dropout(self, step: Any) -> None:
        for path, layer in self._dropouts:
            layer.start_step(self.seed, path, step)

    def _update(self, batch: Array, targets: Array, average: Average) -> None:
        """Forward, backward and update, without a look at any number."""
        outputs = self.model(batch)
        value = self.loss(outputs, targets)
        average.add(value, outputs, targets)
        self.optimizer.zero_grad()
        value.backward()
        if not self.optimizer.has_gradients():
            raise ValueError(
                "fit: no parameter of the optimizer got a gradient; was it made for another model, or is all frozen?"
            )
        self.optimizer.step()

    # Capturing --------------------------------------------------------------------------------------

    def _signature(self, size: int, number: int) -> Hashable:
        """What a graph depends on: where one of these differs, another is captured."""
        settings = tuple([_numbers(layer) for _, layer in self._layers])
        counts = tuple([count - number for count in self.optimizer._steps])
        return size, Tree.structure, precision(), counts, _numbers(self.optimizer), settings

    def _count(self, updated: list[int]) -> None:
        """What a replay does not do on the host."""
        for i in updated:
            self.optimizer._steps[i] += 1
        for parameter in self.optimizer._parameters:
            parameter.version += 1

    @contextlib.contextmanager
    def _counting_on_device(self, number: int) -> Iterator[list[int]]:
        """Meanwhile steps and rate are those in the device's memory; then as before. Nothing runs in a capture.

        The list will hold the parameters that the step updates.
        """
        optimizer, clock, updated = self.optimizer, Counted(self._clock), list[int]()
        schedule, steps = optimizer.schedule, optimizer._steps
        versions = [parameter.version for parameter in optimizer._parameters]
        on_device = [clock + (count - number) for count in steps]
        optimizer.schedule, optimizer._steps = DeviceRate(Counted(self._rate)), list(on_device)  # type: ignore[arg-type]
        self._start_dropout(clock)
        try:
            yield updated
            counts = zip(on_device, optimizer._steps, strict=True)
            updated += [i for i, (before, after) in enumerate(counts) if before != after]
        finally:
            optimizer.schedule, optimizer._steps = schedule, steps
            for parameter, version in zip(optimizer._parameters, versions, strict=True):
                parameter.version = version
            self._start_dropout(number)


def captured_steps(
    model: Layer, optimizer: Optimizer, loss: Loss, device: str, x: Array, y: Array, *choices: Any
) -> CapturedSteps | None:
    """The steps of `fit` for a model on a GPU whose data fit there too; else None. The data are moved there."""
    if device == "cpu":
        return None
    data = resident((x, y), device)
    if data is None:
        return None
    x, y = data
    if y.dtype.kind in "iu":
        y = y.astype(array_module(y).int64, copy=False)  # as the losses want them, once
    return CapturedSteps(model, optimizer, loss, x, y, *choices)


_COUNTERS = frozenset(
    ["epoch", "_step", "_calls", "_packed_at", "_named_at"]
)  # they change from step to step


def _numbers(owner: Any) -> tuple[Any, ...]:
    """Settings of a layer or optimiser: rates, momenta, modes."""
    return tuple(
        [v for k, v in vars(owner).items() if isinstance(v, (int, float, str)) and k not in _COUNTERS]
    )
