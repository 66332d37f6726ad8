"""From arrays to batches: shuffled indices, a train/validation split, and pixels to floats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..backend import Array, array_module
from ..rng import generator


def batches(
    n: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Iterator[np.ndarray]:
    """Indices of the batches of one epoch, each of 0..n-1 once.

    The order is a function of (seed, epoch) alone, so that a resumed run sees what the uninterrupted
    one would have seen.

    Parameters
    ----------
    n : int
        Number of samples.
    batch_size : int
        Samples per batch; the last one is shorter if `n` is no multiple.
    shuffle : bool
        Permute; else in order.
    drop_last : bool
        Leave a shorter last batch out.

    Returns
    -------
    iterator of array, shape (batch_size,), int64

    Raises
    ------
    ValueError
        `n` or `epoch` is negative or `batch_size` is not positive.
    """
    if n < 0 or epoch < 0 or batch_size < 1:
        raise ValueError(
            f"batches: needs n >= 0, epoch >= 0 and batch_size >= 1, "
            f"got n={n}, epoch={epoch}, batch_size={batch_size}"
        )
    order = generator(seed, "shuffle", epoch).permutation(n) if shuffle else np.arange(n)
    stop = n - n % batch_size if drop_last else n
    return (order[start : min(start + batch_size, n)] for start in range(0, stop, batch_size))


def train_validation_split(
    x: Any, y: Any, fraction: float = 0.2, seed: int = 42
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Shuffle with NumPy's legacy generator and cut: the first part trains, the rest validates.

    The same samples as ``np.random.seed(seed); np.random.shuffle(indices)``, the usual idiom of
    published experiments, without touching NumPy's global state.

    Parameters
    ----------
    x, y : array, shape (N, ...)
        Samples and labels.
    fraction : float
        Part that validates, between 0 and 1.

    Returns
    -------
    (x_train, y_train), (x_validation, y_validation)

    Raises
    ------
    ValueError
        `fraction` is not between 0 and 1, or x and y differ in length.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, got {len(x)} and {len(y)}")
    indices = np.arange(len(x))
    np.random.RandomState(seed).shuffle(indices)
    # 10 * (1 - 0.9) is 0.9999999999999998: round that away before cutting off
    n_train = math.floor(round(len(x) * (1 - fraction), 6))
    train, validation = indices[:n_train], indices[n_train:]
    return (x[train], y[train]), (x[validation], y[validation])


def to_float(x: Array) -> Array:
    """Images as float32: uint8 becomes 0..1 by division by 255, every other dtype is cast as it is.

    Parameters
    ----------
    x : array, any shape

    Returns
    -------
    array of the same shape, float32
    """
    xp = array_module(x)
    if x.dtype == np.uint8:
        return xp.divide(x, xp.float32(255), dtype=xp.float32)
    return x.astype(xp.float32, copy=False)
