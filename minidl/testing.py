"""Checking gradients and layers: shipped, so that you can test operations of your own.

``check_grad`` compares ``backward`` with central differences along random directions in float64: two
evaluations for each direction, whatever the number of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .autograd import Tensor
from .layers.base import Layer, Parameter, inference
from .layers.dropout import Dropout
from .rng import Key, keep_mask

__all__ = ["Key", "OpCase", "check_grad", "check_layer", "check_op", "keep_mask"]


def check_grad(
    fn: Callable[..., Tensor],
    *arrays: Any,
    rng: np.random.Generator | None = None,
    directions: int = 3,
    rtol: float = 1e-5,
    atol: float = 1e-8,
) -> None:
    """Raise AssertionError unless ``backward`` of `fn` agrees with finite differences.

    Parameters
    ----------
    fn : function
        Tensors to a Tensor; must give the same result each time (fix the key of dropout).
    *arrays : array
        Where to check, in any float dtype; they are copied as float64 and never written to.
    rng : Generator, optional
        Of the random directions.
    directions : int
        How many to try for each input.
    rtol, atol : float
        Allowed difference, relative to |gradient| |direction|. Steps of several lengths are tried, so a
        kink beside the point does no harm; a point on a kink is the caller's to avoid.
    """
    rng = rng or np.random.default_rng(0)
    points = [np.array(a, dtype=np.float64) for a in arrays]
    tensors = [Tensor(p.copy(), requires_grad=True) for p in points]
    out = fn(*tensors)
    again = fn(*[Tensor(p.copy()) for p in points])
    if not np.array_equal(out.data, again.data, equal_nan=True):
        raise AssertionError("check_grad: fn gives another result the second time; fix its random numbers")
    weights = rng.standard_normal(out.shape)
    out.backward(weights)
    for i, (tensor, point) in enumerate(zip(tensors, points, strict=True)):
        if not np.array_equal(tensor._data, point, equal_nan=True):
            raise AssertionError(f"check_grad: fn wrote to its input {i}")
        grad = np.zeros_like(point) if tensor.grad is None else tensor.grad
        if grad.shape != point.shape or grad.dtype != point.dtype:
            raise AssertionError(
                f"check_grad: gradient {i} is {grad.dtype}{grad.shape}, input {point.dtype}{point.shape}"
            )
        for _ in range(directions if point.size else 0):
            direction = rng.standard_normal(point.shape)
            expected = float((grad * direction).sum())
            allowed = atol + rtol * float(np.linalg.norm(grad) * np.linalg.norm(direction)) / np.sqrt(
                point.size
            )
            slopes = [_slope(fn, points, i, direction, weights, h) for h in (1e-4, 1e-5, 1e-6)]
            if not any(abs(slope - expected) <= allowed for slope in slopes):
                raise AssertionError(
                    f"check_grad: input {i} of shape {point.shape}: the slope is {slopes[1]:.9g}, backward "
                    f"says {expected:.9g} (allowed {allowed:.2g}); {_worst(fn, points, i, weights, grad)}"
                )


def _slope(
    fn: Callable[..., Tensor],
    points: list[np.ndarray],
    i: int,
    direction: np.ndarray,
    weights: np.ndarray,
    h: float,
) -> float:
    """Central difference of sum(weights * fn) along `direction` of input `i`."""
    values = []
    for sign in (1, -1):
        moved = [p + sign * h * direction if j == i else p for j, p in enumerate(points)]
        values.append(fn(*[Tensor(p) for p in moved]).data)
    return float(((values[0] - values[1]) * weights).sum() / (2 * h))


def _worst(
    fn: Callable[..., Tensor], points: list[np.ndarray], i: int, weights: np.ndarray, grad: np.ndarray
) -> str:
    """Where the gradient is most wrong, among the first 500 elements."""
    worst = (0.0, "")
    for flat in range(min(points[i].size, 500)):
        index = tuple(int(k) for k in np.unravel_index(flat, points[i].shape))
        unit = np.zeros_like(points[i])
        unit[index] = 1.0
        slope = _slope(fn, points, i, unit, weights, 1e-6)
        if abs(slope - grad[index]) >= worst[0]:
            worst = (abs(slope - grad[index]), f"worst at {index}: {slope:.6g} against {grad[index]:.6g}")
    return worst[1]


@dataclass
class OpCase:
    """One way to call an operation, from which `check_op` derives its tests.

    Parameters
    ----------
    name : str
        Shown by the test runner.
    fn : function
        Tensors to a Tensor, all other arguments bound.
    shapes : sequence of shapes
        Of the inputs.
    reference : function, optional
        The same in plain NumPy, for the values.
    low, high : float
        Inputs are drawn from U(low, high); choose them away from kinks and poles.
    batch_axis : bool
        Whether axis 0 of the first input may have length 0.
    """

    name: str
    fn: Callable[..., Tensor]
    shapes: Sequence[tuple[int, ...]]
    reference: Callable[..., Any] | None = None
    low: float = -2.0
    high: float = 2.0
    batch_axis: bool = True
    rtol: float = 1e-5
    seed: int = field(default=0, repr=False)

    def draw(self, dtype: Any = np.float64) -> list[np.ndarray]:
        """The inputs, the same each time."""
        rng = np.random.default_rng(self.seed)
        return [rng.uniform(self.low, self.high, shape).astype(dtype) for shape in self.shapes]


def check_op(case: OpCase) -> None:
    """Value, gradient, dtype, strided and read-only input, no mutation, empty batch of one operation."""
    arrays = case.draw()
    value = case.fn(*[Tensor(a) for a in arrays]).data
    if case.reference is not None:
        np.testing.assert_allclose(value, case.reference(*arrays), rtol=1e-10, atol=1e-12)
    check_grad(case.fn, *arrays, rtol=case.rtol)

    narrow = [Tensor(a, requires_grad=True) for a in case.draw(np.float32)]
    out = case.fn(*narrow)
    out.backward(np.ones(out.shape, np.float32))
    dtypes = {str(out.dtype), *[str(t.grad.dtype) for t in narrow if t.grad is not None]}
    if dtypes != {"float32"}:
        raise AssertionError(f"{case.name}: float32 inputs gave {dtypes}")
    np.testing.assert_allclose(out.data, value, rtol=1e-3, atol=1e-4)

    strided = [np.moveaxis(np.stack([a, a + 1], axis=-1), -1, 0)[0] for a in arrays]
    for a in strided:
        a.setflags(write=False)
    tensors = [Tensor(a, requires_grad=True) for a in strided]
    other = case.fn(*tensors)
    np.testing.assert_allclose(other.data, value, rtol=1e-10, atol=1e-12)
    other.backward(np.broadcast_to(np.float64(1.0), other.shape))
    grads = [t.grad for t in tensors if t.grad is not None]
    for a, b in ((a, b) for i, a in enumerate(grads) for b in grads[i + 1 :]):
        if np.shares_memory(a, b):
            raise AssertionError(f"{case.name}: two gradients share memory")

    if case.batch_axis:
        empty = [Tensor(arrays[0][:0], requires_grad=True), *[Tensor(a) for a in arrays[1:]]]
        none = case.fn(*empty)
        none.backward(np.ones(none.shape))


def check_layer(layer: Layer, input_shape: tuple[int, ...], batch: int = 3, rtol: float = 1e-5) -> None:
    """Gradients, modes, freezing and state of a layer or model.

    Parameters
    ----------
    layer : Layer
        Not used for anything else: its parameters change.
    input_shape : tuple of int
        Shape of one sample.
    """
    layer.to(dtype=np.float64)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *input_shape))
    with inference(layer):
        out = layer(x)
        if out.shape[0] != batch or layer(x[:1]).shape[1:] != out.shape[1:]:
            raise AssertionError(f"{layer!r}: output {out.shape} does not follow the batch of {batch}")
        np.testing.assert_array_equal(
            out.data, layer(x).data, err_msg=f"{layer!r}: inference is not repeatable"
        )
    named = dict(layer.named_parameters())
    start = {name: p.data.copy() for name, p in named.items()}
    owners = [
        (part, key, value)
        for _, part in layer.named_layers()
        for key, value in vars(part).items()
        if isinstance(value, Parameter)
    ]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        for _, part in layer.named_layers():
            if isinstance(part, Dropout):
                part.start_step(seed=0, stream="check", step=0)  # the same mask at every call
        for (part, key, _), value in zip(owners, values, strict=True):
            vars(part)[key] = value
        return layer(x)

    for training in (True, False):
        layer.train(training)
        check_grad(run, x, *[p.data for _, _, p in owners], rng=rng, rtol=rtol)
    for part, key, parameter in owners:
        vars(part)[key] = parameter

    state = layer.state_dict()
    for value in named.values():
        value.data[...] += 1.0
    layer.load_state_dict(state)
    for name, p in named.items():
        np.testing.assert_array_equal(p.data, start[name], err_msg=f"{name} is not restored")
    layer.freeze()
    frozen = layer(Tensor(x, requires_grad=True))
    frozen.backward(np.ones(frozen.shape))
    if any(p.grad is not None for p in named.values()):
        raise AssertionError(f"{layer!r}: a frozen parameter got a gradient")
    layer.unfreeze()
