"""What the frozen first layers of a model make of each sample: computed once, kept, and trained on."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from .autograd import Tensor
from .backend import Array, to_device, to_numpy
from .callbacks.base import say
from .checks import positive_integer
from .data.places import cache_folder
from .layers.base import Layer, inference
from .layers.dropout import Dropout
from .layers.norm import BatchNorm
from .layers.sequential import Sequential

IN_MEMORY = 2 << 30  # bytes; larger features of a data set lie in a temporary file


def features(
    model: Sequential, x: Any, upto: int | str | Layer | None = None, batch_size: int = 256, verbose: int = 0
) -> Array:
    """Outputs of the first layers in inference mode, sample by sample.

    Parameters
    ----------
    model : Sequential
    x : array, shape (N, ...)
    upto : int, str or Layer, optional
        The last layer that is applied, by place, name or itself; left out, the last of `frozen_prefix`.
    batch_size : int
        Samples at once.
    verbose : 0 or 1
        1 shows a progress bar.

    Returns
    -------
    array, shape (N, ...)
        On the CPU; in a temporary file (``numpy.memmap``) if larger than 2 GiB.

    Raises
    ------
    ValueError
        No such layer, or nothing is frozen.
    """
    batch_size = positive_integer("features", "batch_size", batch_size)
    count = frozen_prefix(model) if upto is None else _place(model, upto) + 1
    part, device = model[:count], next((p.device for p in model.parameters()), "cpu")
    x = x.data if isinstance(x, Tensor) else x if hasattr(x, "shape") else np.asarray(x)
    kept: Array | None = None
    starts = range(0, max(len(x), 1), batch_size)
    with inference(model):
        for start in tqdm(starts, "features", disable=None if verbose else True, leave=False):
            y = to_numpy(part(to_device(x[start : start + batch_size], device))._data)
            if kept is None:
                kept = _room((len(x), *y.shape[1:]), y.dtype)
            kept[start : start + batch_size] = y
    return kept


def frozen_prefix(model: Layer) -> int:
    """How many layers at the beginning give the same for a sample whenever it is seen.

    Raises
    ------
    ValueError
        None does: the message says which layer stands in the way, and why.
    """
    if not isinstance(model, Sequential):
        raise ValueError(f"frozen layers are found in a Sequential, not in a {type(model).__name__}")
    count = 0
    for place, layer in enumerate(model):
        reason = _changing(layer)
        if reason is None:
            count = place + 1 if layer.parameters() else count
            continue
        if not count:
            raise ValueError(
                f"no frozen layers to keep the features of: {layer.name!r} {reason}; freeze the first layers, "
                f"as in model[:4].freeze()"
            )
        break
    if not count:
        raise ValueError("no frozen layers to keep the features of: none of them has parameters")
    while count < len(model) and _changing(model[count]) is None:
        count += 1  # pooling, flattening and such that follow
    return count


def on_features(
    model: Layer,
    x: Array,
    validation_data: tuple[Array, Array] | None,
    epochs: int,
    batch_size: int,
    verbose: int,
) -> tuple[Layer, Array, tuple[Array, Array] | None]:
    """The layers that are left to train, and the features that take the place of the data."""
    count = frozen_prefix(model)
    chain = cast(Sequential, model)  # frozen_prefix has checked it
    last, start = chain[count - 1], time.perf_counter()
    kept = features(chain, x, last, batch_size, verbose)
    if validation_data is not None:
        validation_data = features(chain, validation_data[0], last, batch_size, verbose), validation_data[1]
    seconds = time.perf_counter() - start
    if verbose:
        say(
            f"The first {count} layers are frozen: their features took {seconds:.1f} s once, which saves "
            f"about {seconds * (epochs - 1):.0f} s in {epochs} epochs."
        )
    return chain[count:], kept, validation_data


def _changing(layer: Layer) -> str | None:
    """Why a layer's output may change from epoch to epoch; None if it cannot."""
    for path, part in layer.named_layers():
        name = f"its {path!r} " if path else ""
        if any(p.requires_grad for p in part.parameters()):
            return name + "is trained"
        if isinstance(part, Dropout) and part.rate:
            return name + "draws random numbers"
        if isinstance(part, BatchNorm) and not (part._frozen and part._frozen_norm == "inference"):
            return name + "uses the statistics of each batch"
    return None


def _place(model: Sequential, layer: int | str | Layer) -> int:
    if isinstance(layer, int):
        if not -len(model) <= layer < len(model):
            raise ValueError(f"features: upto={layer}, but there are {len(model)} layers")
        return layer % len(model)
    for place, other in enumerate(model):
        if other is layer or other.name == layer:
            return place
    raise ValueError(f"features: no layer {layer!r}; there are {', '.join(str(part.name) for part in model)}")


def _room(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array in memory, or in a file without a name that goes away with it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)
