"""Moved."""

from ..files import write_atomically  # noqa: F401
