"""Where data files are: in MINIDL_DATA, else in the cache.

`MINIDL_DATA` is a folder of the user's, only ever read. The cache (`MINIDL_CACHE`, else
`$XDG_CACHE_HOME/minidl`, else `~/.cache/minidl`) is ours. `MINIDL_OFFLINE=1` forbids the network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from .registry import DataError, Dataset, Form, Part

_MEMBER_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "gzip")


class Location(NamedTuple):
    """A file that holds a part of a data set, not verified yet."""

    path: Path
    form: Form
    cached: bool


def data_folder() -> Path | None:
    """The folder that MINIDL_DATA names, or None if it is not set."""
    value = os.environ.get("MINIDL_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(f"MINIDL_DATA is {value!r}, which is no folder; correct it or unset it")
    return folder


def cache_folder() -> Path:
    """The folder that downloads and generated data go to; it need not exist yet."""
    own, xdg = os.environ.get("MINIDL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        if own:
            return Path(own).expanduser()
        return (Path(xdg) if xdg else Path.home() / ".cache") / "minidl"
    except RuntimeError as error:
        raise DataError(f"no home folder for the cache ({error}); set MINIDL_CACHE") from None


def offline() -> bool:
    """Whether MINIDL_OFFLINE forbids the network."""
    return os.environ.get("MINIDL_OFFLINE", "").lower() not in ("", "0", "false", "no")


def find(dataset: Dataset, part: Part) -> Location | None:
    """The first place that has `part` in some form; None if no place has."""
    own = data_folder()
    places = [(folder, False) for folder in _folders(own, dataset)] if own else []
    places += [(folder, True) for folder in _folders(cache_folder(), dataset)]
    for folder, cached in places:
        for form in part.forms:
            path = folder / (form.archive.name if form.archive else form.name)
            if os.path.lexists(path):  # a dangling link is an error to report, not a missing file
                return Location(path, form, cached)
    return None


def _folders(root: Path, dataset: Dataset) -> list[Path]:
    folders = [root / name for name in dataset.folders]
    return folders + [folder / inner for folder in folders for inner in _MEMBER_FOLDERS]
