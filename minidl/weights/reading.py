"""Weights from a file of any known kind, told apart by content, not by suffix."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from .errors import RefusedError, WeightsError

KINDS = "safetensors, npz, Keras .h5, .weights.h5 or .keras, PyTorch .pth or .pt"


class Weights(dict[str, np.ndarray]):
    """Arrays by name, and where they come from: "torch", "keras" or None. It decides the layout of axes."""

    def __init__(self, arrays: dict[str, np.ndarray], origin: str | None = None):
        super().__init__(arrays)
        self.origin = origin


def read(path: str | os.PathLike[str]) -> Weights:
    """The arrays in a weights file, by the names they have there.

    Nothing in the file is executed. HDF5 files (``.h5``, ``.keras``) should be ones that you trust: convert
    them once, with ``minidl convert``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    WeightsError
        It is none of the known kinds, or damaged, or holds something else than arrays.
    """
    with open(path, "rb") as file:
        try:
            origin, reader = _kind(file)
            file.seek(0)
            return Weights(reader(file), origin)
        except ImportError as error:
            raise WeightsError(f"cannot read {os.fspath(path)}: {error}") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, RefusedError) else str(error)
            raise WeightsError(
                f"cannot read weights from {os.fspath(path)}: expected a whole file of {KINDS}; found {reason}"
            ) from error


def _kind(file: BinaryIO) -> tuple[str | None, Callable[[Any], dict[str, np.ndarray]]]:
    """(origin, reader) by the first bytes, and for zip archives by their members."""
    start = file.read(512)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        _need_h5py()
        from .keras_file import read_h5

        return "keras", read_h5
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(file)
    if start.startswith(b"\x80\x02\x8a\x0a"):
        from .torch_file import read_stream

        return "torch", read_stream
    if start[257:262] == b"ustar":
        raise ValueError("a tar archive of PyTorch 0.1: load it there and torch.save it again")
    from .safetensors_file import read_safetensors

    return None, read_safetensors


def _archive(file: BinaryIO) -> tuple[str | None, Callable[[Any], dict[str, np.ndarray]]]:
    import zipfile

    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.endswith("/data.pkl") for name in names):
        from .torch_file import read_zip

        return "torch", read_zip
    if "model.weights.h5" in names:
        _need_h5py()
        from .keras_file import read_archive

        return "keras", read_archive
    from .npz_file import read_npz

    return None, read_npz


def _need_h5py() -> None:
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise ImportError("Keras's files need h5py: pip install 'minidl[keras]'") from error
