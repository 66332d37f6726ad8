"""The verified bytes of a data set: found, or downloaded, then checked on every read.

A wrong file in MINIDL_DATA is an error. A wrong file in the cache is downloaded again.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

from . import archives
from .download import download
from .places import Location, find, offline
from .registry import DataError, Dataset, Form, Part, lookup


class Content(NamedTuple):
    """The verified, unpacked bytes of a part, how they are encoded, and their origin for messages."""

    data: bytes
    form: Form
    origin: str


def locate(name: str, part_name: str) -> Location:
    """Find a file of a data set, downloading it if it is nowhere.

    Raises
    ------
    DataError
        It is nowhere, and offline or on no mirror.
    """
    dataset = lookup(name)
    for part in dataset.parts:
        if part.name == part_name:
            return find(dataset, part) or download(dataset, part)
    names = ", ".join(part.name for part in dataset.parts)
    raise ValueError(f"{dataset.name} has no file {part_name!r}; it has {names}")


def read(name: str) -> list[Content]:
    """All parts of a data set, verified and unpacked, in the order of the registry.

    Raises
    ------
    DataError
        A file is missing, truncated, altered or cannot be read.
    """
    dataset = lookup(name)
    groups: dict[Path, list[tuple[Part, Location]]] = {}
    for part in dataset.parts:
        location = locate(dataset.name, part.name)
        groups.setdefault(location.path, []).append((part, location))
    # Hashing and unpacking release the interpreter lock, so files are read side by side.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda group: _read_or_replace(dataset, group), groups.values())
        contents = {part: content for group in found for part, content in group.items()}
    return [contents[part.name] for part in dataset.parts]


def _read_or_replace(dataset: Dataset, group: Sequence[tuple[Part, Location]]) -> dict[str, Content]:
    part, location = group[0]
    try:
        return read_file(dataset, group)
    except DataError as error:
        if not location.cached or offline():
            raise DataError(f"{error}. {_advice(dataset)}") from None
        warnings.warn(f"{error}; downloading it again", stacklevel=2)
    fresh = download(dataset, part)
    if fresh.path == location.path:
        return read_file(dataset, group)
    # The wrong file was of a form that no mirror serves (such as .xz): take each part from what came.
    location.path.rename(location.path.with_name(location.path.name + ".wrong"))
    return {p.name: read_file(dataset, [(p, locate(dataset.name, p.name))])[p.name] for p, _ in group}


def read_file(dataset: Dataset, group: Sequence[tuple[Part, Location]]) -> dict[str, Content]:
    """Verify one file and take the parts in `group` out of it."""
    path, form = group[0][1].path, group[0][1].form
    origin = f"{dataset.name}: {path}"
    if not path.is_file():
        raise DataError(f"{origin} is not a regular file")
    try:
        with open(path, "rb") as handle:
            if form.archive is None:
                packed = {form.name: _read_whole(handle, form, origin)}
            else:
                packed = _read_archive(handle, [at.form for _, at in group], origin)
    except OSError as error:
        raise DataError(f"{origin} cannot be read: {error}") from None
    contents = {}
    for part, at in group:
        where = f"{origin}, member {at.form.name}" if at.form.archive else origin
        contents[part.name] = Content(_unpack(packed[at.form.name], at.form, where), at.form, where)
    return contents


def _limit(form: Form) -> int:
    """The most bytes a file of this form can have: compression adds next to nothing at worst."""
    return form.disk.nbytes or (form.content.nbytes or 2**31) + 2**16


def _read_whole(handle: BinaryIO, form: Form, origin: str) -> bytes:
    nbytes = os.fstat(handle.fileno()).st_size
    archives.check_size(nbytes, form.disk, origin)
    if nbytes > _limit(form):
        raise DataError(f"{origin} is too long: expected at most {_limit(form)}, found {nbytes}")
    data = handle.read(nbytes)
    archives.check(data, form.disk, origin)
    return data


def _read_archive(handle: BinaryIO, forms: Sequence[Form], origin: str) -> dict[str, bytes]:
    archive = forms[0].archive
    if archive is None:
        raise ValueError(f"{origin}: {forms[0].name} lies in no archive")
    archives.check_file(handle, archive.blob, os.fstat(handle.fileno()).st_size, origin)
    members = archives.zip_members if archive.name.endswith(".zip") else archives.tar_members
    return members(handle, {form.name: _limit(form) for form in forms}, origin)


def _unpack(data: bytes, form: Form, origin: str) -> bytes:
    if form.packing:
        unpack = archives.gunzip if form.packing == "gz" else archives.unxz
        data = unpack(data, form.content.nbytes or 2**31, origin)
    if form.archive is not None or form.packing == "xz" or not form.disk.checksum:
        archives.check(data, form.content, f"{origin}, unpacked" if form.packing else origin)
    return data


def _advice(dataset: Dataset) -> str:
    return (
        f"Replace or delete it, or set MINIDL_DATA to a folder that holds {dataset.folders[0]}/; "
        f"'python -m minidl datasets get {dataset.name}' downloads into MINIDL_CACHE"
    )
