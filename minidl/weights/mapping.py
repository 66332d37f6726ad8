"""From the weights of another framework to a model's: names, layouts and orders, all of it or nothing.

Every difference between frameworks is here: Keras keeps filters as we do, (KH, KW, C, F) and (in, out), and
calls them "kernel"; PyTorch keeps (F, C, KH, KW) and (out, in), flattens images channel by channel, and calls
batch norm's gamma and beta "weight" and "bias".
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..layers.base import Layer
from ..layers.dense import Dense
from ..layers.shape import Flatten
from .errors import WeightsError

Names = Mapping[str, str] | Callable[[str], str | None] | None
LAYOUTS = "auto", "keras", "torch"

# What a value may be called elsewhere; digits are Keras 3's numbers of a layer's variables.
MATRIX = {"weight": ("weight", "kernel", "W", "0"), "bias": ("bias", "b", "1")}
NORM = {
    "gamma": ("gamma", "weight", "scale", "0"),
    "beta": ("beta", "bias", "1"),
    "running_mean": ("running_mean", "moving_mean", "mean", "2"),
    "running_var": ("running_var", "moving_variance", "variance", "3"),
}
IGNORED = ("num_batches_tracked",)


class Report(NamedTuple):
    """What `load` did not do: names of the model without a source, of the source without a place, and pairs
    whose shapes differ."""

    missing: list[str]
    surplus: list[str]
    mismatched: list[str]


def fit_to_model(
    model: Layer,
    source: Mapping[str, np.ndarray],
    mapping: Names = None,
    layout: str = "auto",
    exclude: Sequence[str] = (),
) -> tuple[dict[str, np.ndarray], Report]:
    """The values of `source` under the names and in the layout of `model`, and what does not fit.

    Parameters
    ----------
    mapping : dict or function, optional
        Our layer's path to the source's; where it is silent (None, or no such key) names decide, and if no
        name of a layer is known, the order.
    exclude : patterns of our paths
        Values that are not looked for, such as "head.*".
    """
    if layout not in LAYOUTS:
        raise ValueError(f"load: layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    own = {
        path: value
        for path, value in model.state_dict().items()
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude)
    }
    given = {name: value for name, value in source.items() if name.rpartition(".")[2] not in IGNORED}
    partner = _partners(_layers(own), _layers(given), mapping)
    pairs = {
        f"{path}.{key}" if path else key: name
        for path, keys in _layers(own).items()
        for key, name in _within_layer(keys, _layers(given).get(partner.get(path, "\0"), {}))
    }
    layout = _layout(own, given, pairs, layout, getattr(source, "origin", None))
    flattened = _flattened(model) if layout == "torch" else {}
    found: dict[str, np.ndarray] = {}
    mismatched = []
    for path, name in pairs.items():
        value = _converted(given[name], own[path].ndim, layout, flattened.get(path))
        if value.shape == own[path].shape:
            found[path] = value
        else:
            mismatched.append(f"{path} {own[path].shape}, but {name} {given[name].shape}")
    missing = [f"{path} {value.shape}" for path, value in own.items() if path not in pairs]
    used = set(pairs.values())
    surplus = [f"{name} {value.shape}" for name, value in given.items() if name not in used]
    return found, Report(missing, surplus, mismatched)


def _layers(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{layer: {last part of the name: name}}, in order."""
    layers: dict[str, dict[str, str]] = {}
    for name in values:
        path, _, leaf = name.replace("/", ".").rpartition(".")
        layers.setdefault(path, {})[leaf] = name
    return layers


def _partners(own: dict[str, Any], given: dict[str, Any], mapping: Names) -> dict[str, str]:
    """The source's layer for each of ours: as told, else by name; by order if names do not tell otherwise.

    Order decides if both have equally many layers and every name that both know is at the same place.
    """
    told = {path: _told(mapping, path) for path in own}
    partners = {path: name.replace("/", ".") for path, name in told.items() if name is not None}
    if partners:
        given = {name: keys for name, keys in given.items() if name not in partners.values()}
    rest = [path for path in own if path not in partners]
    plain = {_plain(name): name for name in given}
    by_name = {path: plain[_plain(path)] for path in rest if _plain(path) in plain}
    if len(by_name) < len(rest) == len(given):
        by_order = dict(zip(rest, given, strict=True))
        if all(by_order[path] == name for path, name in by_name.items()):
            return by_order | partners
    return by_name | partners


def _told(mapping: Names, path: str) -> str | None:
    if mapping is None:
        return None
    return mapping(path) if callable(mapping) else mapping.get(path)


def _plain(path: str) -> str:
    """A layer's path without what wrappers put before it."""
    for prefix in ("module.", "model."):
        path = path.removeprefix(prefix)
    return path


def _within_layer(keys: dict[str, str], given: dict[str, str]) -> list[tuple[str, str]]:
    """(our key, the source's full name) of the values of one layer."""
    words = NORM if "gamma" in keys or "running_mean" in keys else MATRIX
    pairs = []
    for key in keys:
        for word in (key, *words.get(key, ())):
            if word in given:
                pairs.append((key, given[word]))
                break
    if not pairs and len(keys) == len(given):  # names of Keras 1, such as "uniform3" and "conv1_b"
        return list(zip(keys, given.values(), strict=True))
    return pairs


def _layout(own: Any, given: Any, pairs: dict[str, str], layout: str, origin: str | None) -> str:
    if layout != "auto":
        return layout
    if origin in ("keras", "torch"):
        return str(origin)
    if all(path == name for path, name in pairs.items()):
        return "keras"  # our own file
    matrices = [path for path in pairs if own[path].ndim in (2, 4)]
    fits = {
        kind: all(_converted(given[pairs[p]], own[p].ndim, kind).shape == own[p].shape for p in matrices)
        for kind in ("keras", "torch")
    }
    if fits["keras"] and fits["torch"] and matrices:
        raise WeightsError(
            "load: shapes do not tell whether these weights are in Keras's or in PyTorch's order of axes; "
            "say layout='keras' or layout='torch'"
        )
    return "torch" if fits["torch"] and matrices else "keras"


def _converted(value: np.ndarray, ndim: int, layout: str, image: tuple[int, ...] | None = None) -> np.ndarray:
    """`value` with our order of axes; `image` (H, W, C) is what was flattened before a dense layer."""
    if layout == "torch" and value.ndim == ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if layout == "torch" and value.ndim == ndim == 2:
        matrix = value.T
        if image is not None and len(matrix) == np.prod(image):
            h, w, c = image
            matrix = matrix.reshape(c, h, w, -1).transpose(1, 2, 0, 3).reshape(matrix.shape)
        return matrix
    return value


def _flattened(model: Layer) -> dict[str, tuple[int, ...]]:
    """Shape of the image (H, W, C) that was flattened for the first dense layer after it, by weight."""
    found: dict[str, tuple[int, ...]] = {}
    image: tuple[int, ...] | None = None
    for path, layer in model.named_layers():
        if isinstance(layer, Flatten) and layer._input_shapes:
            image = layer._input_shapes[0]
        elif isinstance(layer, Dense):
            if image is not None and len(image) == 3:
                found[f"{path}.weight" if path else "weight"] = image
            image = None
    return found
