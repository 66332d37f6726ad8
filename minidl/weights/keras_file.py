"""Keras's files of weights: ``.h5`` of Keras 1 to 3, ``.weights.h5`` and ``.keras``. Needs h5py.

For files that you trust: the HDF5 library itself has had errors that a prepared file can use. Convert once, to
safetensors. What a file says about layers is not executed; only arrays are read, and those that point outside
the file are refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from .errors import RefusedError
from .limits import Budget, check_members, file_size

MEMBER = "model.weights.h5"  # in a .keras archive


def read_archive(file: BinaryIO) -> dict[str, np.ndarray]:
    """The weights in a ``.keras`` file, by name.

    Raises
    ------
    RefusedError, zipfile.BadZipFile, OSError
    """
    nbytes = file_size(file)
    budget = Budget(nbytes)
    with zipfile.ZipFile(file) as archive:
        check_members(archive, nbytes)
        member = archive.getinfo(MEMBER)
        budget.spend(member.file_size, MEMBER)
        with archive.open(member) as inner:
            return read_h5(inner, budget)  # type: ignore[arg-type]


def read_h5(file: BinaryIO, budget: Budget | None = None) -> dict[str, np.ndarray]:
    """The weights in an HDF5 file, by "layer/variable" without ``:0``, in the order of the layers.

    Raises
    ------
    RefusedError, OSError
    """
    import h5py

    budget = budget or Budget(file_size(file))
    arrays: dict[str, np.ndarray] = {}
    seen: set[Any] = set()
    with h5py.File(file, "r") as root:
        groups = _group(root, "model_weights") if "model_weights" in root else root
        found = _by_attributes(groups) if "layer_names" in groups.attrs else _by_tree(root, seen)
        for name, dataset in found:
            if name in arrays:
                raise RefusedError(f"two layers of one name, {name!r}")
            if dataset.id in seen:
                raise RefusedError(f"{name!r}, which is another array once more")
            seen.add(dataset.id)
            arrays[name] = _numbers(dataset, budget)
    if not arrays:
        raise RefusedError("no layers and no variables in this HDF5 file")
    return arrays


def _by_attributes(groups: Any) -> Iterator[tuple[str, Any]]:
    """The older layout: attributes list the layers, and the variables of each."""
    for layer in _names(groups, "layer_names"):
        group = _group(groups, layer)
        for variable in _names(group, "weight_names"):
            short = variable.removesuffix(":0").rpartition("/")[2]
            yield f"{layer}/{short}", _dataset(group, variable)


def _by_tree(group: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """The layout of Keras 3: groups by class, each with ``vars/0``, ``vars/1``, ... and the layer's name."""
    if group.id in seen:  # hard links may lead in circles, or ten at a time to the next group of ten
        raise RefusedError(f"{group.name!r} in two places")
    seen.add(group.id)
    for name in sorted(group, key=_natural):
        if name in ("optimizer", "metrics"):
            continue
        inside = _group(group, name)
        if name != "vars":
            yield from _by_tree(inside, seen)
            continue
        layer = inside.attrs.get("name", group.name.rpartition("/")[2])
        for number in sorted(inside, key=_natural):
            yield f"{layer}/{number}", _dataset(inside, number)


def _natural(name: str) -> list[Any]:
    """dense_2 before dense_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras splits into ``attribute0``, ``attribute1``, ... where it is long."""
    keys = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(keys)}" in group.attrs:
        keys.append(f"{attribute}{len(keys)}")
    if not keys:
        raise RefusedError(f"a group {group.name!r} without {attribute}")
    values = [value for key in keys for value in np.atleast_1d(group.attrs[key])]
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _group(parent: Any, path: str) -> Any:
    item = _inside(parent, path)
    if not hasattr(item, "keys"):
        raise RefusedError(f"{path!r} is no group")
    return item


def _dataset(parent: Any, path: str) -> Any:
    item = _inside(parent, path)
    if hasattr(item, "keys"):
        raise RefusedError(f"{path!r} is a group, not an array")
    if item.external or item.is_virtual:
        raise RefusedError(f"{path!r} keeps its numbers in another file")
    return item


def _numbers(dataset: Any, budget: Budget) -> np.ndarray:
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > 1000 * max(stored, 1):
        raise RefusedError(f"{dataset.name!r} declares {dataset.nbytes} bytes and stores {stored}")
    if dataset.dtype.kind not in "fiub":
        raise RefusedError(f"{dataset.name!r} has numbers of type {dataset.dtype}")
    budget.spend(dataset.nbytes, dataset.name)
    return np.asarray(dataset[()]).astype(dataset.dtype.newbyteorder("="), copy=False)


def _inside(parent: Any, path: str) -> Any:
    """What `path` leads to, step by step through hard links only."""
    import h5py

    for name in filter(None, path.split("/")):
        if name not in parent:
            raise RefusedError(f"nothing called {path!r}")
        link = parent.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise RefusedError(f"{name!r} is a {type(link).__name__}, which leads elsewhere")
        parent = parent[name]
    return parent
