"""What the command line needs to know and do about data sets: list, get, verify, path."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import fetch, places
from .registry import DATASETS, DataError, lookup


class Status(NamedTuple):
    """One line of the list of data sets; `where` is "here", "cached", "partly" or "missing"."""

    name: str
    title: str
    where: str
    path: Path


class FileCheck(NamedTuple):
    """The result of verifying one file; `problem` is "" when its bytes are the published ones."""

    file: str
    path: Path | None
    problem: str


def list_datasets() -> list[Status]:
    """Every data set with where it is: in MINIDL_DATA ("here"), "cached", "partly" there or "missing"."""
    return [status(name) for name in DATASETS]


def status(name: str) -> Status:
    """Where one data set is; looks for its files, does not read them."""
    dataset = lookup(name)
    found = [places.find(dataset, part) for part in dataset.parts]
    present = [location for location in found if location is not None]
    if not present:
        where = "missing"
    elif len(present) < len(found):
        where = "partly"
    else:
        where = "cached" if any(location.cached for location in present) else "here"
    return Status(dataset.name, dataset.title, where, path(name))


def path(name: str) -> Path:
    """The folder a data set is read from, or the one it would be downloaded to."""
    dataset = lookup(name)
    for part in dataset.parts:
        location = places.find(dataset, part)
        if location is not None:
            return location.path.parent
    return places.cache_folder() / dataset.folders[0]


def get(name: str) -> list[Path]:
    """Make sure that a data set is there and right, downloading what is missing; returns its files."""
    dataset = lookup(name)
    fetch.read(name)
    paths = [fetch.locate(name, part.name).path for part in dataset.parts]
    return list(dict.fromkeys(paths))


def verify(name: str) -> list[FileCheck]:
    """Check size and checksum of every file of a data set, one result each; downloads nothing."""
    dataset = lookup(name)
    results = []
    for part in dataset.parts:
        location = places.find(dataset, part)
        if location is None:
            results.append(FileCheck(part.name, None, "missing"))
            continue
        try:
            fetch.read_file(dataset, [(part, location)])
            results.append(FileCheck(part.name, location.path, ""))
        except DataError as error:
            results.append(FileCheck(part.name, location.path, str(error)))
    return results
