"""safetensors files, by the library of that name, with two checks that it leaves out: names and numbers."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections import Counter
from typing import Any, BinaryIO

import numpy as np

from ..backend import checksum
from .errors import RefusedError

LONGEST = 100_000_000  # bytes of header, as in the library


def read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays in a file, by name. bfloat16 is widened to float32.

    Raises
    ------
    RefusedError, OSError, safetensors.SafetensorError
        Among others: a name given twice (the library takes the last), or numbers that are not those of the
        CRC-32 that `save` put into the metadata.
    """
    from safetensors import safe_open

    start, header = _header(file)
    arrays: dict[str, np.ndarray] = {}
    with safe_open(file.name, "np") as source:
        sums = json.loads((source.metadata() or {}).get("crc32", "{}"))
        for name in source.keys():  # noqa: SIM118 - no mapping
            kind = header[name]["dtype"]
            if kind == "BF16":
                arrays[name] = _bfloat16(file, start, header[name])
            elif kind.startswith("F8"):
                raise RefusedError(f"{name!r} of type {kind}, which NumPy does not have; convert it before")
            else:
                arrays[name] = source.get_tensor(name)
    if isinstance(sums, dict) and sums:
        if sums.keys() != arrays.keys():
            names = ", ".join(sorted(sums.keys() ^ arrays.keys()))
            raise RefusedError(f"other arrays than were written: {names}")
        for name, value in arrays.items():
            if sums[name] != fingerprint(value):
                raise RefusedError(f"other numbers in {name!r} than were written: its CRC-32 has changed")
    return arrays


def fingerprint(array: np.ndarray) -> int:
    """CRC-32 of the type, the shape and the numbers."""
    return zlib.crc32(f"{array.dtype.str} {array.shape}".encode(), checksum(array))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that `save` was given, by name."""
    from safetensors import safe_open

    with safe_open(path, "np") as source:
        return dict(source.metadata() or {})


def _header(file: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the numbers begin, and what the file says of each array."""
    size = file.seek(0, 2)
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if length > size - 8:
        raise RefusedError("a safetensors header longer than the file, or none of these kinds at all")
    if length > LONGEST:
        raise RefusedError(f"a safetensors header of {length} bytes, more than {LONGEST}")
    header = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise RefusedError(f"a safetensors header that is a {type(header).__name__}")
    return 8 + length, header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise RefusedError(f"{name[:100]!r} given twice in the header")
    return entries


def _bfloat16(file: BinaryIO, start: int, entry: dict[str, Any]) -> np.ndarray:
    """The upper halves of float32 numbers; the library has checked offsets and shape."""
    file.seek(start + entry["data_offsets"][0])
    halves = np.frombuffer(file.read(2 * math.prod(entry["shape"])), "<u2")
    return (halves.astype("<u4") << 16).view("<f4").reshape(entry["shape"])
