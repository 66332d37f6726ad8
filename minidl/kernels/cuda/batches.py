"""The next batch, from a data set that lives on the device."""

from __future__ import annotations

import numpy as np

from ...backend import Array
from .. import reference
from .launching import NAMES, THREADS, launch

MOST = 65535  # blocks along the second axis of a grid


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
    if x.dtype.char not in NAMES or y.dtype.char not in NAMES or y.dtype != targets.dtype:
        reference.next_batch(x, y, order, first, batch, targets, clock, rate, step, lr)
        return
    rows, width, target_width = len(batch), *(a.size // max(len(a), 1) for a in (batch, targets))
    sizes = np.int64(first), np.int32(rows), np.int32(width), np.int32(target_width)
    pixels = (("PIXELS", int(x.dtype == np.uint8)),)
    grid = max(-(-max(width, target_width) // THREADS), 1), min(max(rows, 1), MOST)
    launch(
        "batches.next_batch", grid, x, y, order, batch, targets, *sizes, clock, rate, np.int64(step), np.float64(lr),
        constants=pixels, S=x.dtype, L=y.dtype, R=batch.dtype,
    )  # fmt: skip
