"""Training steps on a GPU: data that lives there, and a whole step as one CUDA graph.

A small network's step is dozens of launches of a few microseconds each; the time goes into making them. A graph is
captured from one step and launched as a whole. Each replay is the same but for what it reads from the device's memory:
the batch, the number of the step, and the learning rate, all written by one kernel just before.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np

from . import kernels
from .backend import Array, array_module, cupy_module, device_of, precision, to_device
from .data.batches import batches
from .evaluation import Loss
from .layers.base import Layer
from .layers.dropout import Dropout
from .layers.tree import Tree
from .metrics import Average
from .optim import Optimizer
from .optim.schedules import Schedule
from .rng import Counted

WARM_UP = 2  # steps before a capture: they compile kernels, and take all the memory that a step needs
SHARE_OF_MEMORY = 0.5  # of what is free: data sets up to this move to the device


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
        self._graphs: dict[Hashable, tuple[Any, list[int]]] = {}  # and the parameters that each updates
        self._seen: dict[Hashable, int] = {}
        self._batches: dict[int, tuple[Array, Array]] = {}
        self._average: Average | None = None
        self._capture_works = True
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> CapturedSteps:
        cupy, number = self._cupy, int(device_of(self.x).partition(":")[2])
        self._entered.enter_context(cupy.cuda.Device(number))
        cupy.cuda.Device(number).synchronize()  # the new stream does not wait for what others began
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._entered.enter_context(self._stream)
        # What a capture frees may only be used again by a capture: its replays write there.
        self._pool = cupy.cuda.MemoryPool()
        self._clock, self._rate = cupy.zeros(1, np.int64), cupy.zeros(1, np.float64)
        self._totals = cupy.zeros(2, np.float64)
        self._kernels = kernels.of(cupy)
        return self

    def __exit__(self, *error: object) -> None:
        self._graphs.clear()
        self._stream.synchronize()
        self._entered.close()

    def step(self, epoch: int, step: int, average: Average) -> Mapping[str, float]:
        """One step of an epoch; the running averages, which wait for the device when they are read."""
        if average is not self._average:
            self._start_epoch(epoch, average)
        number, first = epoch * self.steps + step, step * self.batch_size
        size = min(self.batch_size, len(self.x) - first)
        batch, targets = self._batches.get(size) or self._room(size)
        places, lr = (batch, targets, self._clock, self._rate), float(self.optimizer.lr)
        self._kernels.next_batch(self.x, self.y, self._order, first, *places, number, lr)
        signature = self._signature(size, number)
        graph = self._graphs.get(signature)
        if graph is not None:
            average.samples += size
            self._replay(*graph)
        elif not self._capture_works or self._seen.get(signature, 0) < WARM_UP:
            self._seen[signature] = self._seen.get(signature, 0) + 1
            self._start_dropout(number)
            with self._cupy.cuda.using_allocator(self._pool.malloc):
                self._update(batch, targets, average)
        else:
            self._capture(signature, number, batch, targets, average)
        return average.later()

    def _start_epoch(self, epoch: int, average: Average) -> None:
        choices: dict[str, Any] = {"seed": self.seed, "epoch": epoch, "drop_last": self.drop_last}
        order = np.concatenate(list(batches(len(self.x), self.batch_size, **choices)))
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

    def _capture(
        self, signature: Hashable, number: int, batch: Array, targets: Array, average: Average
    ) -> None:
        """Capture this step, and run it; if that fails, run it eagerly."""
        stream, counted = self._stream, average.samples
        try:
            with (
                self._counting_on_device(number) as updated,
                self._cupy.cuda.using_allocator(self._pool.malloc),
            ):
                stream.begin_capture()
                try:
                    self._update(batch, targets, average)
                except BaseException:
                    with contextlib.suppress(Exception):
                        stream.end_capture()  # or everything else on the stream would fail
                    raise
                graph = stream.end_capture()
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            self._capture_works = False
            first_line = str(error).partition("\n")[0]
            warnings.warn(
                f"fit: a step of this model cannot be captured as a CUDA graph, so each is launched operation by "
                f"operation ({type(error).__name__}: {first_line})",
                RuntimeWarning,
                stacklevel=5,
            )
            average.samples = counted
            self._update(batch, targets, average)
            return
        self._graphs[signature] = graph, updated
        self._replay(graph, updated)

    def _replay(self, graph: Any, updated: list[int]) -> None:
        graph.launch(self._stream)
        optimizer = self.optimizer
        for i in updated:
            optimizer._steps[i] += 1
        for parameter in optimizer._parameters:
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
        collecting = gc.isenabled()
        gc.collect()
        gc.disable()  # what it frees might wait for the device
        try:
            yield updated
            counts = zip(on_device, optimizer._steps, strict=True)
            updated += [i for i, (before, after) in enumerate(counts) if before != after]
        finally:
            if collecting:
                gc.enable()
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
    cupy = cupy_module()
    with cupy.cuda.Device(int(device.partition(":")[2])):
        free = cupy.cuda.runtime.memGetInfo()[0]
        if sum(a.nbytes for a in (x, y) if device_of(a) != device) > SHARE_OF_MEMORY * free:
            return None
        x, y = to_device(x, device), to_device(y, device)
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
