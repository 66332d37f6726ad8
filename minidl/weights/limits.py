"""How much a file may unpack to: what it says of its own size is believed up to a multiple of its bytes."""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO

from .errors import RefusedError

SMALL = 64 << 20  # bytes that any file may ask for
RATIO = 100  # beyond them, times its own size: weights do not compress so well


class Budget:
    """The memory that the arrays of one file may take, all together.

    Parameters
    ----------
    nbytes : int
        The size of the file.
    """

    def __init__(self, nbytes: int):
        self.limit = max(SMALL, RATIO * nbytes)
        self.spent = 0

    def spend(self, nbytes: int, name: str) -> None:
        """Count an array before it is allocated; RefusedError if the file cannot mean it."""
        self.spent += nbytes
        if self.spent > self.limit:
            raise RefusedError(
                f"{name!r}, with which the arrays would unpack to {self.spent} bytes; "
                f"at most {self.limit} belong into a file of this size"
            )


def file_size(file: BinaryIO) -> int:
    """How many bytes there are, whatever is written in them."""
    return os.fstat(file.fileno()).st_size


def check_members(archive: zipfile.ZipFile, nbytes: int) -> None:
    """Refuse members that claim to be packed in more bytes than the file has: reading would allocate those."""
    for member in archive.infolist():
        if member.compress_size > nbytes:
            raise RefusedError(
                f"{member.filename!r} packed in {member.compress_size} bytes, in a file of {nbytes}"
            )
