"""Published files from their mirrors into the cache, through pooch: checked, then put in place whole."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from .places import Location, cache_folder, offline
from .registry import Blob, DataError, Dataset, MissingDataError, Part

_CONNECT_AND_READ_TIMEOUT_S = (10, 60)


def download(dataset: Dataset, part: Part) -> Location:
    """Fetch the file that serves `part` from the first mirror that has it, into the cache.

    pooch writes to a temporary file beside the final name, compares the checksum, then renames; so the
    final name never holds a part of a file, and two processes at once do no harm.

    Raises
    ------
    DataError
        Offline, no mirror gave the published bytes, or the cache cannot be written.
    """
    form, mirrors = next(
        (f, f.archive.mirrors if f.archive else part.mirrors) for f in part.forms if f.archive or part.mirrors
    )
    name, blob = (form.archive.name, form.archive.blob) if form.archive else (form.name, form.disk)
    folder = cache_folder() / dataset.folders[0]
    if offline():
        own = os.environ.get("MINIDL_DATA")
        looked = f"{own} (MINIDL_DATA) and {folder}" if own else f"{folder} (MINIDL_DATA is not set)"
        raise MissingDataError(
            f"{dataset.name}: {name} is not in {looked}, and MINIDL_OFFLINE forbids the download of "
            f"its {blob.nbytes} bytes ({blob.checksum}) from {mirrors[0]}{name}. Set MINIDL_DATA to a "
            f"folder that holds {dataset.folders[0]}/, or run 'python -m minidl datasets get "
            f"{dataset.name}' with a network"
        )
    _make_writable(folder)
    failures, wrong = [], False
    for mirror in mirrors:
        if wrong and mirror.startswith("http:"):  # whoever altered https will not be better on http
            failures.append(f"{mirror}{name}: not tried, because the mirror before gave wrong bytes")
            continue
        failure = _retrieve(mirror + name, blob, folder / name)
        if failure is None:
            return Location(folder / name, form, True)
        wrong |= isinstance(failure, ValueError) and mirror.startswith("https:")
        failures.append(f"{mirror}{name}: {' '.join(str(failure).split())}")
    raise (DataError if wrong else MissingDataError)(
        f"{dataset.name}: no mirror gave {name} ({blob.nbytes} bytes, {blob.checksum}):\n  "
        + "\n  ".join(failures)
        + f"\nPut the file into {folder}, or set MINIDL_DATA to a folder that holds "
        f"{dataset.folders[0]}/{name}"
    )


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"the cache folder {folder} cannot be written ({error}); set MINIDL_CACHE to one that can"
        ) from None


def _retrieve(url: str, blob: Blob, path: Path) -> Exception | None:
    """Download `url` to `path`; None when it is right, ValueError for wrong bytes, else what failed."""
    import pooch  # type: ignore[import-untyped, unused-ignore]
    import requests

    responses: list[Any] = []

    def inspect(response: Any, **_: Any) -> None:
        responses.append(response)
        refuse(response, blob)

    fetch = pooch.HTTPDownloader(
        progressbar=bool(sys.stderr and sys.stderr.isatty()),  # no control codes in log files
        timeout=_CONNECT_AND_READ_TIMEOUT_S,
        headers={"Accept-Encoding": "identity"},  # else a server may unzip our .gz on the way
        hooks={"response": inspect},
    )
    try:
        pooch.retrieve(url, blob.checksum, fname=path.name, path=path.parent, downloader=fetch)
        # Temporary files are private to the user; a cache may be shared, as its folder's mode says.
        path.chmod(path.parent.stat().st_mode & 0o666)
    except (requests.RequestException, ValueError) as error:
        return error
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}); set MINIDL_CACHE to a folder with room for "
            f"{blob.nbytes} bytes"
        ) from None
    finally:
        for response in responses:  # an unread answer would keep its connection open
            response.close()
    return None


def refuse(response: Any, blob: Blob) -> None:
    """Refuse a redirect that leaves https or http, and a body of the wrong length, before reading it."""
    import requests

    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        allowed = ("https:",) if response.url.startswith("https:") else ("https:", "http:")
        if not target.startswith(allowed):
            raise requests.exceptions.ConnectionError(f"it redirects to {target}")
        return
    offered = response.headers.get("content-length", "")
    if response.ok and blob.nbytes is not None and offered.isdigit() and int(offered) != blob.nbytes:
        raise ValueError(f"it offers {offered} bytes, expected {blob.nbytes}")
