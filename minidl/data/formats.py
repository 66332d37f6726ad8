"""Strict readers: bytes of a published format to arrays, or one DataError that says what is wrong."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

from .mat import variables
from .registry import DataError

_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR_RECORD = 1 + 3 * 32 * 32


def idx(data: bytes, origin: str) -> np.ndarray:
    """Read an IDX file: two zero bytes, a type code, the number of axes, big-endian sizes, the numbers.

    Raises
    ------
    DataError
        Wrong magic number or type code, or not exactly as many bytes as the header promises.

    References
    ----------
    LeCun, Cortes, Burges, "The MNIST database", section "File formats".
    """
    if len(data) < 4 or data[0] or data[1]:
        start = data[:4].hex(" ") or "nothing"
        raise DataError(f"{origin} is no IDX file: expected 00 00 <type> <axes>, found {start}")
    code, ndim = data[2], data[3]
    if code not in _IDX_DTYPES:
        raise DataError(f"{origin}: IDX type code 0x{code:02x} is none of 08 09 0b 0c 0d 0e")
    if ndim == 0 or len(data) < 4 + 4 * ndim:
        raise DataError(f"{origin}: IDX header promises {ndim} axes but the file ends inside it")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
    dtype = np.dtype(_IDX_DTYPES[code])
    # Python integers: a count of 2**32 - 1 must not wrap around into something that fits
    expected = 4 + 4 * ndim + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"{origin}: IDX header promises shape {shape}, that is {expected} bytes, found {len(data)}"
        )
    array = np.frombuffer(data, dtype, offset=4 + 4 * ndim).reshape(shape)
    return array.astype(dtype.newbyteorder("="))  # a copy: writable and in native byte order


def cifar_binary(data: bytes, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR-10 records of 3073 bytes: the label, then the red, green and blue planes.

    Returns
    -------
    x : array, shape (N, 32, 32, 3), uint8
    y : array, shape (N,), int64

    Raises
    ------
    DataError
        The length is no multiple of 3073 or a label is above 9.
    """
    if not data or len(data) % _CIFAR_RECORD:
        raise DataError(f"{origin}: {len(data)} bytes are no whole number of {_CIFAR_RECORD}-byte records")
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    return _planes_to_pixels(records[:, 1:]), labels(records[:, 0], 0, 9, origin)


def cifar_pickle(data: bytes, md5: str, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a CIFAR-10 batch of the Python archive, a pickle, whose md5 must be the published one.

    A pickle can run code when loaded. So nothing is unpickled before the checksum fits, and then only
    with the three names that a NumPy array needs.

    Raises
    ------
    DataError
        The checksum differs or the dictionary does not hold images and labels.
    """
    found = hashlib.md5(data).hexdigest()
    if found != md5:
        raise DataError(
            f"{origin} is a pickle with md5 {found}, expected {md5}; it was not opened, "
            f"because an altered pickle can run any code"
        )
    try:
        _check_memo(data)
        batch = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
        pixels, numbers = batch["data"], np.asarray(batch["labels"])
    except Exception as error:  # whatever an odd pickle runs into
        raise DataError(f"{origin} is no CIFAR-10 batch: {error!r}") from None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise DataError(f"{origin}: 'data' is not a two-dimensional uint8 array")
    if pixels.shape[1] != _CIFAR_RECORD - 1:
        raise DataError(f"{origin}: 'data' has shape {pixels.shape}, expected (N, 3072)")
    y = labels(numbers, 0, 9, origin)
    same_count(pixels, y, origin)
    return _planes_to_pixels(pixels), y


def _check_memo(data: bytes) -> None:
    """Refuse a place in the memo beyond the file's length: unpickling makes the list as long at once."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"place {argument} in a memo that cannot be so long")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows how to build a NumPy array and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return "ndarray"  # a word for `_empty`; the class itself could be asked for any shape
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        modules = ("numpy.core.multiarray", "numpy._core.multiarray")
        if name == "_reconstruct" and module in modules:
            return _empty
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a data file")


def _empty(kind: str, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What NumPy's pickles begin an array with; shape and numbers follow together."""
    if kind != "ndarray" or shape != (0,):
        raise pickle.UnpicklingError(f"an array of shape {shape} before its numbers")
    return np.zeros(0, np.uint8)


def _planes_to_pixels(planes: np.ndarray) -> np.ndarray:
    """(N, 3 * 32 * 32) colour planes to (N, 32, 32, 3) pixels."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def svhn_mat(data: bytes, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """Read an SVHN .mat file: X (32, 32, 3, N) and y (N, 1) with the digit 0 stored as 10.

    Returns
    -------
    x : array, shape (N, 32, 32, 3), uint8
    y : array, shape (N,), int64, the digit itself

    Raises
    ------
    DataError
        SciPy is missing, or the file does not hold these two arrays.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise DataError(
            "svhn: its files are MATLAB .mat files, which need SciPy. Install 'minidl[svhn]'."
        ) from error
    content: dict[str, Any] = {}
    try:
        for file in variables(data, origin):
            content |= loadmat(io.BytesIO(file), variable_names=("X", "y"))
        pixels, numbers = content["X"], content["y"]
    except DataError:
        raise
    except Exception as error:  # SciPy lets through whatever its parser runs into
        raise DataError(f"{origin} is no SVHN .mat file (version 5): {error!r}") from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise DataError(f"{origin}: X is {pixels.dtype} {pixels.shape}, expected uint8 (32, 32, 3, N)")
    y = labels(numbers.reshape(-1), 1, 10, origin)
    same_count(np.moveaxis(pixels, 3, 0), y, origin)
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), y % 10


def labels(numbers: np.ndarray, low: int, high: int, origin: str) -> np.ndarray:
    """`numbers` as int64 labels, checked to be whole numbers from `low` to `high`."""
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(
            f"{origin}: labels must be one row of integers, found {numbers.dtype} {numbers.shape}"
        )
    if numbers.size and not (low <= numbers.min() and numbers.max() <= high):
        raise DataError(f"{origin}: labels must lie in {low}..{high}, found {numbers.min()}..{numbers.max()}")
    return numbers.astype(np.int64)


def same_count(x: np.ndarray, y: np.ndarray, origin: str) -> None:
    """Raise DataError unless there are as many images as labels."""
    if len(x) != len(y):
        raise DataError(f"{origin}: {len(x)} images but {len(y)} labels")
