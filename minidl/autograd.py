"""The engine: Tensor, Function, and backward over a tape of Functions. First-order gradients only.

A Function instance is the node of the graph and its memory: ``forward`` keeps on ``self`` what
``backward`` needs. Both see plain arrays. The engine does, once for all operations: choosing the array
module, un-broadcasting, accumulating, ordering, freeing, and refusing what would give wrong gradients.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from operator import attrgetter
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import kernels
from .backend import (
    Array,
    checksum,
    common_module,
    device_of,
    from_python,
    is_array,
    to_numpy,
    unit_gradient,
)
from .backward import run_backward
from .grad_mode import grad_enabled, no_grad
from .operators import Operators, array_of

__all__ = ["Function", "Tensor", "grad_enabled", "no_grad"]

_creation = itertools.count()


class Tensor(Operators):
    """An array that remembers how it was made.

    Parameters
    ----------
    data : array_like
        An array is taken without a copy. Python floats, and lists of them, become float32.
    requires_grad : bool
        Whether ``backward`` leaves a gradient in ``grad``; needs a floating dtype.
    dtype : dtype, optional
        Cast to this type.

    Attributes
    ----------
    grad : array or None
        Sum of the gradients that reached this tensor; only tensors made by the user have one.
    version : int
        Goes up with every change of the values; a graph that saved older ones refuses ``backward``.
    """

    __array_ufunc__ = None  # so that ndarray + Tensor asks Tensor.__radd__
    grad: Array | None = None
    grad_slot: Array | None = None  # where an optimiser wants the gradient to land
    creator: Function | None = None
    version = 0
    _savers = 0  # live nodes that saved this array
    _seen: int | None = None  # checksum of a saved array that the user looked at

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None):
        if type(data) is not np.ndarray:
            data = data._data if isinstance(data, Tensor) else data if is_array(data) else from_python(data)
        if dtype is not None:
            data = data.astype(dtype, copy=False)
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"requires_grad needs a floating dtype, got {data.dtype}; pass dtype='float32'")
        self._data: Array = data
        self.requires_grad = requires_grad

    @property
    def data(self) -> Array:
        """The array itself. Changing it while a graph still needs it is noticed at ``backward``."""
        if self._savers and self._seen is None:
            self._seen = checksum(self._data)
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        self._data = value
        self.version += 1

    def refresh_version(self) -> int:
        """The version, after counting a change made through ``data[...] = value``."""
        if self._seen is not None and self._seen != (now := checksum(self._data)):
            self._seen = now
            self.version += 1
        return self.version

    shape = property(attrgetter("_data.shape"), doc="Lengths of the axes.")
    ndim = property(attrgetter("_data.ndim"), doc="Number of axes.")
    size = property(attrgetter("_data.size"), doc="Number of elements.")
    dtype = property(attrgetter("_data.dtype"), doc="Type of the elements.")
    device = property(lambda self: device_of(self._data), doc="'cpu' or 'cuda:N'.")

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array."""
        return to_numpy(self.data)

    def detach(self) -> Tensor:
        """A tensor on the same array that no gradient flows through."""
        return Tensor(self.data)

    def backward(self, grad: Any = None, *, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to ``grad`` of every leaf tensor that requires one.

        Parameters
        ----------
        grad : array, shape of self, optional
            Gradient of the result with respect to this tensor; only one element needs none.
        retain_graph : bool
            Keep what the nodes saved, so that ``backward`` can run again.

        Raises
        ------
        RuntimeError
            No graph, a freed graph, a missing or misshaped `grad`, or a saved array that was changed.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() on a tensor that depends on nothing with requires_grad=True")
        if grad is None and self.size != 1:
            raise RuntimeError(
                f"backward() on shape {self.shape} needs a gradient; or reduce it, as in y.sum()"
            )
        xp = common_module("backward", (self._data,))
        grad = unit_gradient(self._data) if grad is None else xp.asarray(array_of(grad), dtype=self.dtype)
        if grad.shape != self.shape:
            raise RuntimeError(f"backward() on shape {self.shape} got a gradient of shape {grad.shape}")
        run_backward(self, grad, retain_graph)

    def __repr__(self) -> str:
        body = np.array2string(to_numpy(self._data), separator=", ", prefix="Tensor(")
        return f"Tensor({body}{', requires_grad=True' if self.requires_grad else ''})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)


class Edge(NamedTuple):
    """What the graph needs of a tensor whose values no ``backward`` reads: they may be freed."""

    creator: Function | None
    shape: tuple[int, ...]
    dtype: Any


class Function:
    """One application of an operation: the node of the graph and its memory.

    Subclasses write ``forward(self, *arrays) -> array`` and ``backward(self, grad) -> array or tuple``,
    one gradient (or None) per input, broadcast or not. The incoming gradient must not be written to, unless
    `may_overwrite` says that nothing else can see it.

    Attributes
    ----------
    xp : module
        numpy or cupy, set before ``forward``.
    kernels : module
        The hot loops for these arrays.
    needs_grad : tuple of bool
        Which inputs need a gradient; costly ones are skipped when nobody asks.
    may_overwrite : bool
        During ``backward``: whether the memory of the incoming gradient may be used for another.
    retained : bool
        Whether ``backward`` may come again; if not, what it has used already may be dropped.
    """

    xp: ModuleType
    kernels: ModuleType
    needs_grad: tuple[bool, ...]
    inputs: tuple[Any, ...]
    saved: list[tuple[weakref.ref[Tensor], int]]
    order: int
    freed = False
    may_overwrite = False
    retained = True
    place = ""  # layer and line of code, noted by detect_anomaly
    # They see every application, and every step back with the gradient that arrived and those that leave.
    watch: ClassVar[Callable[[Function, tuple[Any, ...], Tensor], None] | None] = None
    watch_backward: ClassVar[Callable[[Function, Array, tuple[Any, ...]], None] | None] = None

    def forward(self, *arrays: Any) -> Array:
        raise TypeError(f"{type(self).__name__} must define forward(self, *arrays)")

    def backward(self, grad: Array) -> Any:
        raise TypeError(f"{type(self).__name__} must define backward(self, grad)")

    def __call__(self, *inputs: Any) -> Tensor:
        """Apply the operation to tensors, arrays or Python numbers."""
        arrays, needs_grad, record = [], [], grad_enabled()
        for x in inputs:
            tensor = isinstance(x, Tensor)
            arrays.append(x._data if tensor else array_of(x))
            needs_grad.append(record and tensor and x.requires_grad)
        xp = self.xp = common_module(type(self).__name__, arrays)
        self.kernels, self.needs_grad = kernels.of(xp), tuple(needs_grad)
        y = self.forward(*arrays)
        out = Tensor(y if type(y) is np.ndarray else xp.asarray(y))
        if True in needs_grad:
            out.requires_grad, out.creator = True, self
            kept, saved, sources = set(map(id, vars(self).values())), [], []
            for tensor in (*inputs, out):
                source = tensor
                if not isinstance(tensor, Tensor):
                    source = None
                elif id(tensor._data) in kept:
                    tensor._savers += 1
                    saved.append((weakref.ref(tensor), tensor.refresh_version()))
                elif tensor.creator is not None and tensor is not out:
                    source = Edge(tensor.creator, tensor._data.shape, tensor._data.dtype)
                sources.append(source)
            self.saved, self.inputs, self.order = saved, tuple(sources[:-1]), next(_creation)
        if Function.watch is not None:
            Function.watch(self, inputs, out)
        return out

    def slot(self, index: int) -> Array | None:
        """Memory of an optimiser where ``backward`` may write the gradient of this input, if it is free."""
        x = self.inputs[index]
        return x.grad_slot if x.creator is None and x.grad is None else None

    def check_saved(self) -> None:
        """Refuse to go backward through an array that was changed since ``forward``."""
        for ref, version in self.saved:
            tensor = ref()
            if tensor is not None and tensor.refresh_version() != version:
                raise RuntimeError(
                    f"{type(self).__name__}.backward needs the values of shape {tensor.shape} that forward "
                    f"saw (version {version}), but they were changed since (version {tensor.version}); "
                    f"call backward() before changing them, or change a copy"
                )

    def release(self) -> None:
        """Drop the inputs and everything that ``forward`` kept."""
        for ref, _ in self.saved:
            tensor = ref()
            if tensor is not None:
                tensor._savers -= 1
                if not tensor._savers:
                    tensor._seen = None
        vars(self).clear()
        self.freed = True
