"""The model's own weights: written as safetensors or npz, read back strictly."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from ..layers.base import Layer
from .errors import WeightsError
from .mapping import Names, Report, fit_to_model
from .reading import read
from .safetensors_file import fingerprint


def save(
    model: Layer | dict[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model's parameters and buffers (or a dict of arrays) to `path`, atomically.

    The suffix decides: ``.safetensors`` or ``.npz``. Only the first can hold `metadata`, texts by name.
    """
    state = model.state_dict() if isinstance(model, Layer) else model
    # safetensors 0.8 writes strided arrays in memory order, that is transposed: make them contiguous
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in state.items()}
    arrays = {name: value.astype(value.dtype.newbyteorder("="), copy=False) for name, value in arrays.items()}
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise TypeError(f"save: {name!r} must be an array of numbers, got dtype {value.dtype}")
    if check_suffix(path) == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        def write(temporary: Path) -> None:
            try:
                save_file(arrays, temporary, texts)
            except SafetensorError as error:
                size = sum(value.nbytes for value in arrays.values())
                raise OSError(f"cannot write {size:,} bytes to {os.fspath(path)}: {error}") from error

        sums = json.dumps({name: fingerprint(value) for name, value in arrays.items()})
        texts = {"format": "minidl", "crc32": sums, **(metadata or {})}
        write_atomically(path, write)
    elif metadata:
        raise ValueError("save: an .npz file cannot hold metadata; use the suffix .safetensors")
    else:
        write_atomically(path, lambda temporary: _write_npz(temporary, arrays))


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of `path` if it names a format that `save` writes."""
    suffix = Path(path).suffix
    if suffix not in (".safetensors", ".npz"):
        raise WeightsError(f"save: the suffix must be .safetensors or .npz, got {os.fspath(path)!r}")
    return suffix


def load(
    model: Layer,
    source: str | os.PathLike[str] | Mapping[str, Any],
    strict: bool = True,
    mapping: Names = None,
    layout: str = "auto",
    exclude: Sequence[str] = (),
    skip_mismatch: bool = False,
) -> Report:
    """Overwrite the model's parameters and buffers from a file or a dict, all of them or none.

    Parameters
    ----------
    source : path, or dict of arrays
        See `read`. Values are found by the names of layers; if most are unknown, by their order.
    strict : bool
        Whether a value without a source, or a source without a place, is an error. False loads what there is.
    mapping : dict or function, optional
        The source's name for a layer's path, where names and order do not tell.
    layout : "auto", "keras" or "torch"
        The order of axes: filters (KH, KW, C, F) and (in, out) as here, or (F, C, KH, KW) and (out, in), with
        images flattened channel by channel.
    exclude : patterns of the model's paths, such as "head.*"
        Values that keep what they have.
    skip_mismatch : bool
        Whether a value of another shape is left out instead of being an error.

    Returns
    -------
    Report
        What was missing, surplus, or of another shape. Weights that are not finite are loaded, with a warning.

    Raises
    ------
    WeightsError
        The file cannot be read, or the values do not fit: one message lists every difference.
    """
    arrays = source if isinstance(source, Mapping) else read(source)
    found, report = fit_to_model(model, arrays, mapping, layout, exclude)
    problems = [f"wrong shape: {line}" for line in ([] if skip_mismatch else report.mismatched)]
    if strict:
        problems += [f"missing: {line}" for line in report.missing]
        problems += [f"surplus: {line}" for line in report.surplus]
    if problems:
        count = f"load: nothing was loaded, {len(problems)} difference(s):\n  "
        raise WeightsError(count + "\n  ".join(problems))
    broken = {path: int(value.size - np.isfinite(value).sum()) for path, value in found.items()}
    lines = [f"{count} of {found[path].size} numbers in {path}" for path, count in broken.items() if count]
    if lines:
        warnings.warn(f"load: some weights are not finite: {', '.join(lines)}", stacklevel=2)
    model.load_state_dict(model.state_dict() | found)
    return report


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What ``np.savez`` writes, but for any names: an array may be called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            if "\0" in name:  # where a zip archive would cut it off
                raise WeightsError(
                    f"save: the name {name!r} holds a NUL, which .npz cannot; use .safetensors"
                )
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
