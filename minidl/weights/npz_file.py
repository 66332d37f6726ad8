"""NumPy's archives, ``.npz``: each member is checked against its header before anything is allocated."""

from __future__ import annotations

import math
import zipfile
from typing import BinaryIO

import numpy as np

from .errors import RefusedError
from .limits import Budget, check_members, file_size

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays in a file that ``np.savez`` or `save` wrote, by name.

    Raises
    ------
    RefusedError, zipfile.BadZipFile, ValueError
        Among others: objects or text in place of numbers, a name given twice, or more bytes than there are.
    """
    nbytes = file_size(file)
    budget = Budget(nbytes)
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        check_members(archive, nbytes)
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise RefusedError(f"{name!r} given twice")
            budget.spend(member.file_size, name)
            with archive.open(member) as stream:
                arrays[name] = _array(stream, member.file_size, name)  # type: ignore[arg-type]
    return arrays


def _array(stream: BinaryIO, nbytes: int, name: str) -> np.ndarray:
    """One member of `nbytes` bytes: a header, then the numbers that it promises and nothing else."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise RefusedError(f"{name!r} in version {version} of the npy format, which numbers do not need")
    shape, fortran, dtype = HEADERS[version](stream)  # no more than 10,000 characters
    if dtype.kind not in "fiub":
        raise RefusedError(f"{name!r} with elements of type {dtype}, which are no numbers")
    expected = math.prod(shape) * dtype.itemsize  # Python's integers do not wrap around
    if min(shape, default=0) < 0 or expected != nbytes - stream.tell():
        raise RefusedError(
            f"{name!r} with {nbytes - stream.tell()} bytes for shape {shape} and {dtype}, that is {expected}"
        )
    data = stream.read()  # to the end, where the checksum is compared
    if len(data) != expected:
        raise RefusedError(f"{name!r} cut off: {len(data)} of {expected} bytes")
    array = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=False)
