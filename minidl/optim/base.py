"""Optimisers over one flat buffer: parameters, gradients and moments each in one contiguous array.

``Parameter.data`` and ``.grad`` are views of the buffers, so one kernel updates the whole model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import kernels
from ..backend import Array, array_module, device_of, return_freed_memory, to_device, to_numpy
from ..checks import number
from ..layers.base import Layer, Parameter
from ..layers.state import StateError, compare_state
from ..layers.tree import Tree
from .clip import clip_value, limit_norm
from .schedules import Constant, Schedule


class Optimizer:
    """What all optimisers share: the flat buffers, the learning rate, and the state by parameter name.

    Parameters
    ----------
    model : Layer or iterable of Parameter
        A model's trainable parameters are packed at the first step, and again when freezing, unfreezing,
        building or moving changes them; the state of each goes along.
    lr : float or Schedule
    weight_decay : float
        Coupled (L2): weight_decay * p is added to the gradient. AdamW decouples it.
    clip_norm, clip_value : float, optional
        Limit the norm of all gradients together, or each element, before the update.

    Attributes
    ----------
    epoch : float
        Where a schedule stands; `fit` sets it.
    """

    moments: tuple[str, ...] = ()

    def __init__(
        self,
        model: Layer | Iterable[Parameter],
        lr: float | Schedule,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ):
        self._model = model if isinstance(model, Layer) else None
        self._given = list(model) if isinstance(model, Iterable) and not isinstance(model, Layer) else []
        listed = isinstance(model, Iterable) and all(isinstance(p, Parameter) for p in self._given)
        if self._model is None and not listed:
            raise TypeError(f"{type(self).__name__}: needs a Layer or Parameters, got {model!r}")
        self.schedule = lr if isinstance(lr, Schedule) else Constant(self._check("lr", lr))
        self.weight_decay = self._check("weight_decay", weight_decay)
        self.clip_norm = None if clip_norm is None else self._check("clip_norm", clip_norm)
        self.clip_value = None if clip_value is None else self._check("clip_value", clip_value)
        self.epoch = 0.0
        self._names: list[str] = []
        self._parameters: list[Parameter] = []
        self._steps: list[int] = []
        self._slices: list[slice] = []
        self._slots: list[Any] = []
        self._flat: dict[str, Array] = {}  # "data", "grad" and the moments
        self._parked: dict[str, dict[str, Any]] = {}  # state of parameters that are not packed now
        self._packed_at = -1

    @property
    def lr(self) -> float:
        """The learning rate now; assigning a number replaces the schedule."""
        return self.schedule(self.epoch)

    @lr.setter
    def lr(self, value: float) -> None:
        self.schedule = Constant(self._check("lr", value))

    def zero_grad(self) -> None:
        """Forget all gradients: each becomes None."""
        if not self._is_packed() and self._trainable():
            self._pack()  # now, so that the first gradients are written where they belong
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every trainable parameter that has a gradient."""
        self._pack()
        self._take_assigned_gradients()
        if self.clip_norm is not None:
            limit_norm([p.grad for p in self._parameters if p.grad is not None], self.clip_norm)
        if self.clip_value is not None:
            clip_value(self._parameters, self.clip_value)
        for run, step in self._runs():
            arrays = [
                None if name not in self._flat else self._flat[name][run]
                for name in ("data", "grad", *self.moments)
            ]
            self._update(kernels.of(array_module(arrays[0])), arrays, step)
        for parameter in self._parameters:
            parameter.version += 1

    def _update(self, kernel: Any, arrays: list[Any], step: int) -> None:
        """Call the fused kernel on flat [data, grad, *moments]."""
        raise TypeError(f"{type(self).__name__} must define _update")

    # Packing ----------------------------------------------------------------------------------------

    def _trainable(self) -> dict[str, Parameter]:
        named = (
            self._model.named_parameters()
            if self._model
            else ((str(i), p) for i, p in enumerate(self._given))
        )
        return {name: p for name, p in named if p.requires_grad}

    def _is_packed(self) -> bool:
        """Whether the buffers still hold the model's trainable parameters (another optimiser may have them)."""
        return self._packed_at == Tree.structure and self._owns_slots()

    def _owns_slots(self) -> bool:
        return all(p.grad_slot is slot for p, slot in zip(self._parameters, self._slots, strict=True))

    def _pack(self) -> None:
        """Lay out the trainable parameters one after the other, unless nothing changed since."""
        if self._is_packed():
            return
        current = self._trainable()
        if not current:
            raise ValueError(
                f"{type(self).__name__}: there is nothing to train: all parameters are frozen, or none is built yet"
            )
        if list(map(id, current.values())) == list(map(id, self._parameters)) and self._owns_slots():
            self._packed_at = Tree.structure  # the change was in some other model
            return
        places = {(device_of(p._data), p.dtype) for p in current.values()}
        if len(places) > 1:
            raise ValueError(
                f"{type(self).__name__}: parameters must share device and dtype, got {sorted(map(str, places))}"
            )
        self._parked |= self._live()
        xp = array_module(next(iter(current.values()))._data)
        self._names, self._parameters = list(current), list(current.values())
        ends = np.cumsum([p.size for p in self._parameters]).tolist()
        self._slices = [slice(end - p.size, end) for p, end in zip(self._parameters, ends, strict=True)]
        self._flat = {
            key: xp.zeros(ends[-1], self._parameters[0].dtype) for key in ("data", "grad", *self.moments)
        }
        for parameter, place in zip(self._parameters, self._slices, strict=True):
            data, grad = (self._flat[key][place].reshape(parameter.shape) for key in ("data", "grad"))
            data[...] = parameter._data
            parameter._data, parameter.grad_slot = data, grad
            if parameter.grad is not None:
                grad[...] = parameter.grad
                parameter.grad = grad
        return_freed_memory()  # of the arrays that the parameters were in
        self._slots = [p.grad_slot for p in self._parameters]
        self._steps = [0] * len(self._parameters)
        self._unpark()
        self._packed_at = Tree.structure

    def _live(self) -> dict[str, dict[str, Any]]:
        """Step and moments of the packed parameters, by name."""
        packed = zip(self._names, self._parameters, self._slices, self._steps, strict=True)
        return {
            name: {"step": step, **{m: self._flat[m][place].reshape(p.shape).copy() for m in self.moments}}
            for name, p, place, step in packed
        }

    def _unpark(self) -> None:
        """Give the packed parameters the state kept under their names, if it is of their shape."""
        for i, (name, place) in enumerate(zip(self._names, self._slices, strict=True)):
            state, shape = self._parked.pop(name, None), self._parameters[i].shape
            if state is not None and all(state[m].shape == shape for m in self.moments):
                self._steps[i] = state["step"]
                for moment in self.moments:
                    target = self._flat[moment]
                    target[place] = to_device(to_numpy(state[moment]), device_of(target)).reshape(-1)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the state by name, not the buffers, which belong to these parameters."""
        empty: dict[str, Any] = {"_names": [], "_parameters": [], "_steps": [], "_slices": [], "_slots": []}
        return vars(self) | empty | {"_flat": {}, "_packed_at": -1, "_parked": self._parked | self._live()}

    def _take_assigned_gradients(self) -> None:
        """Copy gradients that the user assigned to where the kernel finds them."""
        for parameter in self._parameters:
            if parameter.grad is not None and parameter.grad is not parameter.grad_slot:
                parameter.grad_slot[...] = parameter.grad  # type: ignore[index]
                parameter.grad = parameter.grad_slot

    def _runs(self) -> Iterator[tuple[slice, int]]:
        """(part of the buffers, step) of neighbours that have a gradient and equally many steps."""
        start, stop, current = 0, 0, 0
        for i, (parameter, place) in enumerate(zip(self._parameters, self._slices, strict=True)):
            if parameter.grad is None:
                continue
            self._steps[i] += 1
            if place.start == stop and self._steps[i] == current:
                stop = place.stop
                continue
            if stop > start:
                yield slice(start, stop), current
            start, stop, current = place.start, place.stop, self._steps[i]
        if stop > start:
            yield slice(start, stop), current

    # State ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Steps and moments by "parameter name/moment", the epoch and the rate, as NumPy copies."""
        self._pack()
        state: dict[str, np.ndarray] = {"epoch": np.asarray(self.epoch), "lr": np.asarray(self.lr)}
        for name, values in (self._parked | self._live()).items():
            for key, value in values.items():
                state[f"{name}/{key}"] = np.array(to_numpy(value))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, all of it or nothing; StateError lists every difference.

        A constant learning rate is taken from the state; a schedule goes on by itself.
        """
        expected = {key: value.shape for key, value in self.state_dict().items()}
        stored = {key.rpartition("/")[0] for key in state}
        for name, p in self._model.named_parameters() if self._model else ():
            if name in stored:  # frozen now, but trained when the state was taken
                expected |= {f"{name}/step": (), **{f"{name}/{m}": p.shape for m in self.moments}}
        problems = compare_state(expected, state)
        if problems:
            raise StateError("optimizer state: nothing was loaded:\n  " + "\n  ".join(problems))
        self.epoch = float(state["epoch"])
        if isinstance(self.schedule, Constant):
            self.lr = float(state["lr"])
        self._parked = {}
        for key, value in state.items():
            name, _, field = key.rpartition("/")
            if name:
                self._parked.setdefault(name, {})[field] = int(value) if field == "step" else np.array(value)
        self._unpark()

    def has_gradients(self) -> bool:
        """Whether any trainable parameter has a gradient."""
        return any(p.grad is not None for p in self._trainable().values())

    def _check(self, argument: str, value: float, below: float | None = None) -> float:
        return number(type(self).__name__, argument, value, below=below)
