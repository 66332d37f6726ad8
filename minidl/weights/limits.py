"""How much a file may unpack to: what it says of its own size is believed up to a multiple of its bytes."""

from __future__ import annotations

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
