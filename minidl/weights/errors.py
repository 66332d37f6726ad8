"""What can go wrong with weights."""

from __future__ import annotations


class WeightsError(ValueError):
    """Weights cannot be read or do not fit: the message names the file, every difference and what to do."""


class RefusedError(ValueError):
    """A file holds something that weights do not need, or is damaged; `read` says where, as a WeightsError."""
