""".mat files whose sizes lie: SciPy would allocate what they ask for, or read beyond its own tables."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from minidl.data import DataError, formats
from tests.bad_files.bounds import peak_of

savemat = pytest.importorskip("scipy.io", reason="SVHN's .mat files need SciPy: minidl[svhn]").savemat
SMALL = 70 << 20


def file(compress=False, **arrays):
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=compress)
    return buffer.getvalue()


X, Y = np.arange(32 * 32 * 3 * 2).astype(np.uint8).reshape(32, 32, 3, 2), np.array([[10], [3]], np.uint8)
GOOD = file(X=X, y=Y)


def patched(place, number):
    return GOOD[:place] + struct.pack("<I", number) + GOOD[place + 4 :]


def packed(element):
    """`element` in a compressed one, after the header."""
    content = zlib.compress(element)
    return GOOD[:128] + struct.pack("<II", 15, len(content)) + content


# Where things are in GOOD: 132 size of X, 136 class, 152 sizes of the axes, 184 type and 188 size of the numbers
BAD = {
    "element beyond the file": patched(132, 2**31 - 1),
    "element of 4 GiB": patched(132, 2**32 - 1),
    "numbers beyond the element": patched(188, 1_500_000_000),
    "axes beyond the element": patched(156, 2**30),
    "more pixels than numbers": patched(160, 2**24),
    "numbers of no type": patched(184, 8),
    "numbers of a type beyond the table": patched(184, 99_999),
    "numbers that are a matrix": patched(184, 14),
    "a cell": patched(144, 1),
    "a structure": patched(144, 2),
    "an object": patched(144, 3),
    "a class beyond the table": patched(144, 250),
    "big-endian": GOOD[:126] + b"MI" + GOOD[128:],
    "version 7.3": GOOD[:124] + b"\0\2IM" + GOOD[128:],
    "a bomb": packed(GOOD[128:184] + struct.pack("<II", 2, 60_000_000) + bytes(60_000_000)),
    "compressed twice": packed(packed(GOOD[128:])[128:]),
    "no zlib": GOOD[:128] + struct.pack("<II", 15, 8) + b"notzlib!",
    "only the header": GOOD[:128],
    "half a tag": GOOD[:132],
}  # fmt: skip


@pytest.mark.scenario("B70")
@pytest.mark.parametrize("name", BAD)
def test_b70_sizes_that_lie(name):
    def refused():
        with pytest.raises(DataError, match=r"^here"):
            formats.svhn_mat(BAD[name], "here")

    assert peak_of(refused, len(BAD[name])) < SMALL


@pytest.mark.scenario("B70", "B72")
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("extra", [{}, {"a": np.arange(3.0)}])
def test_b70_sound_ones_are_read(compress, extra):
    x, y = formats.svhn_mat(file(compress, **extra, X=X, y=Y), "here")
    np.testing.assert_array_equal(x, X.transpose(3, 0, 1, 2))
    assert y.tolist() == [0, 3]
