"""Writing files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file beside `path`, flush it to the disk, and rename it to `path`.

    A crash leaves the old file or the new one, never a part. The permissions follow the umask, or those
    of the file that is replaced; a symbolic link is followed.

    Raises
    ------
    OSError
        The folder is missing or not writable, the disk is full, or `path` is not a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {target}: it exists and is not a regular file")
    if not target.parent.is_dir():
        raise OSError(f"cannot write {target}: the folder {target.parent} does not exist")
    umask = os.umask(0)
    os.umask(umask)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.tmp-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make `folder` if it is not there, and see that files can be written to it.

    Raises
    ------
    OSError
        They cannot: better to know before hours of training than after.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"minidl")
            file.flush()
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {os.fspath(folder)}: {error.strerror or error}; choose another one, or make it writable"
        ) from error
