"""Archives with members that would do harm if anything were extracted, or believed."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from minidl.data import DataError, archives
from tests.bad_files.bounds import peak_of

CONTENT = b"the numbers"


def tar(*members, kind=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=kind) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name, **attributes):
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


HARMLESS = {
    "setuid": [(member("a", mode=0o4777), CONTENT)],
    "another owner": [(member("a", uid=0, uname="root"), CONTENT)],
    "beside a path outside": [(member("../../canary"), b"x"), (member("a"), CONTENT)],
    "beside an absolute path": [(member("/tmp/minidl-canary"), b"x"), (member("a"), CONTENT)],
    "behind a link to its folder": [(member("d", type=tarfile.SYMTYPE, linkname="/tmp"), b""), (member("a"), CONTENT)],
}  # fmt: skip


@pytest.mark.scenario("B68")
@pytest.mark.parametrize("name", HARMLESS)
def test_b68_nothing_is_extracted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handle = io.BytesIO(tar(*HARMLESS[name]))
    assert archives.tar_members(handle, {"a": 100}, "here") == {"a": CONTENT}
    assert list(tmp_path.rglob("*")) == []


def sparse(name="a", real=2**40):
    """A member of GNU's old sparse format: one byte of content, a terabyte of holes."""
    info = member(name, type=tarfile.GNUTYPE_SPARSE, size=1)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = b"%011o\0" % (real - 1)  # where the byte lies
    block[398:410] = b"%011o\0" % 1
    block[483:495] = real.to_bytes(12, "big")
    block[483] |= 0x80
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return gzip.compress(bytes(block) + b"x".ljust(512, b"\0") + bytes(1024))


@pytest.mark.scenario("B68")
def test_b68_sparse_giant():
    data = sparse()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        info = archive.next()
    assert info.issparse() and info.size == 2**40

    def refused():
        with pytest.raises(DataError, match=r"here.*(sparse|too large)"):
            archives.tar_members(io.BytesIO(data), {"a": 2**41}, "here")

    assert peak_of(refused, len(data)) < 8 << 20


@pytest.mark.scenario("B68")
def test_b68_many_members_that_nobody_asked_for():
    """A long list is walked in little memory and ends."""
    data = tar(*((member(f"m{i}"), b"") for i in range(1000)), (member("a"), CONTENT))

    def read():
        assert archives.tar_members(io.BytesIO(data), {"a": 100}, "here") == {"a": CONTENT}

    assert peak_of(read, len(data)) < 32 << 20
