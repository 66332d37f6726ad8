"""Where the first NaN or infinity comes from: the operation, the layer and your line of code."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from .autograd import Function, Tensor
from .backend import Array, array_module, is_array
from .layers.base import Layer

PACKAGE = Path(__file__).parent


class AnomalyError(FloatingPointError, ValueError):
    """An operation made a number that is not finite, forward or backward."""


class detect_anomaly(contextlib.ContextDecorator):  # noqa: N801 - used like a function, as elsewhere
    """Context or decorator that raises `AnomalyError` where the first NaN or infinity is made.

    Every result of every operation is looked at, and every gradient on its way back: training takes about twice as
    long, on a GPU much longer. It concerns all threads. Examples::

        with dl.detect_anomaly():
            dl.fit(model, x, y, epochs=1, batch_size=128, optimizer=optimizer)
    """

    def __enter__(self) -> None:
        self._before = Function.watch, Function.watch_backward
        Function.watch, Function.watch_backward = self._forward, _backward

    def __exit__(self, *exc: object) -> None:
        Function.watch, Function.watch_backward = self._before

    def _recreate_cm(self) -> detect_anomaly:
        return detect_anomaly()  # a decorated function may call itself

    def _forward(self, node: Function, inputs: tuple[Any, ...], out: Tensor) -> None:
        if self._before[0] is not None:
            self._before[0](node, inputs, out)
        place = _place()
        found = _count(out._data)
        if found:
            arrays = [x._data if isinstance(x, Tensor) else x for x in inputs]
            guilty = [
                f"input {i} had {_count(a)} already"
                for i, a in enumerate(arrays)
                if is_array(a) and _count(a)
            ]
            cause = "; ".join(guilty) if guilty else "all inputs were finite"
            raise AnomalyError(f"{type(node).__name__}.forward{place} made {found}, {cause}")
        if out.creator is node:
            node.place = place


def _backward(node: Function, arrived: Array, grads: tuple[Any, ...]) -> None:
    for i, grad in enumerate(grads):
        found = _count(grad) if is_array(grad) else ""
        if found:
            cause = (
                f"the gradient that arrived had {_count(arrived)} already"
                if _count(arrived)
                else "from a finite one"
            )
            raise AnomalyError(
                f"{type(node).__name__}.backward{node.place} made {found} in the gradient of input {i}, {cause}"
            )


def _count(array: Array) -> str:
    """Such as "3 nan and 1 inf of 40 numbers"; "" if all are finite."""
    xp = array_module(array)
    if array.dtype.kind != "f" or bool(xp.isfinite(array).all()):
        return ""
    counts = {"nan": int(xp.isnan(array).sum()), "inf": int(xp.isinf(array).sum())}
    words = " and ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{words} of {array.size} numbers {array.shape}"


def _place() -> str:
    """The layer whose `forward` is running, and the first line outside minidl that led to it."""
    layer, frame = "", sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if not layer and frame.f_code.co_name == "forward" and isinstance(owner, Layer):
            layer = f" in layer {owner._path or owner.name or type(owner).__name__!r}"
        file = Path(frame.f_code.co_filename)
        if PACKAGE not in file.parents:
            return f"{layer} at {file.name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return layer
