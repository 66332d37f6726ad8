"""The outer structure of MATLAB files, checked before SciPy allocates what they ask for.

A file is a header of 128 bytes, then one element for each variable: a type, a size in bytes, the content. A
compressed element holds another; a matrix holds smaller ones: its class, its shape, its name, its numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .archives import inflate
from .registry import DataError

_HEADER = 128
_VERSION_5 = b"\x00\x01IM"  # little-endian
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = range(6, 16)  # classes: from double to uint64, but no cells, structures, objects, text
# Types of a matrix's parts. At any other SciPy reads beyond its own table of types, and crashes.
_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13}


def variables(data: bytes, origin: str) -> Iterator[bytes]:
    """A small file of its own for each variable in a .mat file of version 5, unpacked.

    Raises
    ------
    DataError
        Another version, another class than numbers, or sizes that do not lie within each other.
    """
    header = data[:_HEADER]
    if header[124:] != _VERSION_5:
        raise DataError(f"{origin} is no .mat file of version 5; save it again with MATLAB's '-v7'")
    limit = max(2**25, 10 * len(data))
    place = _HEADER
    while place < len(data):
        kind, nbytes = _tag(data, place, len(data), origin)
        if kind == _COMPRESSED:
            element = inflate(data[place + 8 : place + 8 + nbytes], limit, origin)
        else:
            element = data[place : place + 8 + nbytes]
        place += 8 + nbytes
        _check_matrix(element, origin)
        yield header + element


def _check_matrix(element: bytes, origin: str) -> None:
    kind, nbytes = _tag(element, 0, len(element), origin)
    if kind != _MATRIX or 8 + nbytes != len(element) or nbytes < 16:
        raise DataError(f"{origin} holds an element of type {kind}, which is no matrix")
    if element[16] not in _NUMBERS:
        raise DataError(f"{origin} holds a variable of class {element[16]}, which is none of numbers")
    place = 8
    while place < len(element):
        kind, size = _tag(element, place, len(element), origin)
        if kind not in _TYPES:
            raise DataError(f"{origin} holds a part of type {kind}, which is none of numbers")
        place += 8 + size + -size % 8


def _tag(data: bytes, place: int, end: int, origin: str) -> tuple[int, int]:
    """(type, bytes that follow) of an element; up to four bytes may lie within the tag itself."""
    if place + 8 > end:
        raise DataError(f"{origin} is truncated: it ends inside an element's tag")
    kind, nbytes = struct.unpack_from("<II", data, place)
    if 1 <= kind >> 16 <= 4:
        return kind & 0xFFFF, 0
    if nbytes > end - place - 8:
        raise DataError(f"{origin}: an element of {nbytes} bytes where {end - place - 8} are left")
    return kind, nbytes
