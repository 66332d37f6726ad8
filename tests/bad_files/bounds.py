"""Reading with an eye on memory and on the folder."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from minidl.weights import WeightsError, read


def peak_of(read_it, nbytes):
    """The most memory, in bytes, that was taken beyond twice the file."""
    tracemalloc.start()
    try:
        read_it()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak - 2 * nbytes


def assert_refused(data: bytes, file: Path, message: str, memory: int = 8 << 20) -> None:
    """One WeightsError that names the file, little memory, and nothing written beside it."""
    file.write_bytes(data)

    def refused():
        with pytest.raises(WeightsError, match=message) as caught:
            read(file)
        assert str(file) in str(caught.value)

    assert peak_of(refused, len(data)) < memory
    assert [p.name for p in file.parent.iterdir()] == [file.name]
