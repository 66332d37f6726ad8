"""Reference kernels of a training loop: the next batch, and the running averages of loss and accuracy."""

from __future__ import annotations

from ..backend import Array, array_module


def add_to_average(sums: Array, loss: Array, outputs: Array, targets: Array) -> None:
    """sums[0] += N * loss;  sums[1] += how many of the outputs (N, C) are largest at their class number (N,).

    One-hot targets (N, C) are class numbers too. Where this is no classification, sums[1] becomes nan.
    """
    xp = array_module(outputs)
    sums[0] += len(targets) * loss
    if outputs.ndim == 2 and targets.ndim == 1 and targets.dtype.kind in "iu":
        sums[1] += (outputs.argmax(axis=1) == targets).sum()
    elif outputs.ndim == 2 and outputs.shape == targets.shape and outputs.shape[1] > 1:
        one_hot = ((targets == 0) | (targets == 1)).all() & (targets.sum(axis=1) == 1).all()
        right = (outputs.argmax(axis=1) == targets.argmax(axis=1)).sum()
        sums[1] += xp.where(one_hot, right, xp.nan)
    else:
        sums[1] = xp.nan


def next_batch(
    x: Array,
    y: Array,
    order: Array,
    first: int,
    batch: Array,
    targets: Array,
    clock: Array,
    rate: Array,
    step: int,
    lr: float,
) -> None:
    """Rows order[first], order[first + 1], ... of x and y, as many as `batch` and `targets` take.

    Pixels become 0..1 as in every model. `step` and `lr` are noted in clock (1,) and rate (1,) for a captured step.
    """
    rows = order[first : first + len(batch)]
    batch[...] = x[rows]
    if x.dtype == array_module(x).uint8:
        batch *= 1 / 255
    targets[...] = y[rows]
    clock[...] = step
    rate[...] = lr
