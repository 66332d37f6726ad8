"""The model's own weights: written as safetensors or npz, read back strictly."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from ..layers.base import Layer


class WeightsError(ValueError):
    """A weights file cannot be read: the message names the file and the reason."""


def save(model: Layer | dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a model's parameters and buffers (or a dict of arrays) to `path`, atomically.

    The suffix decides: ``.safetensors`` or ``.npz``.
    """
    state = model.state_dict() if isinstance(model, Layer) else model
    # safetensors 0.8 writes strided arrays in memory order, that is transposed: make them contiguous
    arrays = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in state.items()}
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise TypeError(f"save: {name!r} must be an array of numbers, got dtype {value.dtype}")
    if check_suffix(path) == ".safetensors":
        from safetensors.numpy import save_file

        write_atomically(path, lambda temporary: save_file(arrays, temporary, {"format": "minidl"}))
    else:
        write_atomically(path, lambda temporary: _write_npz(temporary, arrays))


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of `path` if it names a format that `save` writes."""
    suffix = Path(path).suffix
    if suffix not in (".safetensors", ".npz"):
        raise WeightsError(f"save: the suffix must be .safetensors or .npz, got {os.fspath(path)!r}")
    return suffix


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays in a ``.safetensors`` or ``.npz`` file, by name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    WeightsError
        It is neither format, or damaged.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    try:
        if start in (b"PK\x03\x04", b"PK\x05\x06"):  # a zip with members, and one without
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        from safetensors.numpy import load_file

        return load_file(path)
    except Exception as error:
        raise WeightsError(
            f"cannot read weights from {os.fspath(path)}: expected a whole .safetensors or .npz file, "
            f"got {type(error).__name__}: {error}"
        ) from error


def load(model: Layer, source: str | os.PathLike[str] | dict[str, Any]) -> None:
    """Overwrite the model's parameters and buffers from a file or a dict, all of them or none."""
    model.load_state_dict(source if isinstance(source, dict) else read(source))


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What ``np.savez`` writes, but for any names: an array may be called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
