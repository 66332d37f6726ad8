"""Unpacking in memory: bounded, strict, and never onto the disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidl.data import DataError, archives
from minidl.data.registry import Blob

TEXT = b"some bytes " * 50
PACKERS = {"gz": (archives.gunzip, gzip.compress), "xz": (archives.unxz, lzma.compress)}


@pytest.fixture(params=PACKERS)
def packer(request):
    return PACKERS[request.param]


def test_unpacks_up_to_the_limit(packer):
    unpack, pack = packer
    assert unpack(pack(TEXT), len(TEXT), "here") == TEXT
    assert unpack(pack(b""), 0, "here") == b""
    with pytest.raises(DataError, match="more than the 549 bytes"):
        unpack(pack(TEXT), len(TEXT) - 1, "here")


@pytest.mark.scenario("B64")
def test_refuses_what_is_not_one_whole_stream(packer):
    unpack, pack = packer
    packed = pack(TEXT)
    for data, reason in [
        (b"", "truncated"),
        (packed[:-1], "truncated"),
        (packed[:-8], "truncated"),
        (packed[: len(packed) // 2], "truncated"),
        (packed + b"x", "1 bytes after the end"),
        (packed + packed, "bytes after the end"),
        (b"<html>404</html>", "not a sound"),
        (packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:], "not a sound"),
    ]:
        with pytest.raises(DataError, match=f"^here.*{reason}"):
            unpack(data, 10**6, "here")


def test_bomb_is_stopped_before_it_fills_memory(packer):
    unpack, pack = packer
    import tracemalloc

    packed = pack(bytes(30_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than the 1000 bytes"):
        unpack(packed, 1000, "here")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000  # an xz decoder has a window of 8 MiB


def test_xz_that_asks_for_4_gib_of_memory_is_refused():
    packed = bytearray(lzma.compress(TEXT))
    header = packed[12 : 12 + (packed[12] + 1) * 4]  # the block header follows 12 bytes of stream header
    assert header[2:4] == b"\x21\x01", "LZMA2 with one byte of properties, the dictionary size"
    header[4] = 40
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    packed[12 : 12 + len(header)] = header
    with pytest.raises(DataError, match="here is not a sound xz file: Memory usage limit"):
        archives.unxz(bytes(packed), 1000, "here")


def test_check_names_expected_and_found():
    right = hashlib.sha256(TEXT).hexdigest()
    archives.check(TEXT, Blob(len(TEXT), f"sha256:{right}"), "here")
    archives.check(TEXT, Blob(), "here")
    with pytest.raises(DataError, match="here is truncated: expected 550 bytes, found 549"):
        archives.check(TEXT[:-1], Blob(len(TEXT)), "here")
    with pytest.raises(DataError, match="here is too long: expected 550 bytes, found 551"):
        archives.check(TEXT + b"x", Blob(len(TEXT)), "here")
    with pytest.raises(DataError, match=f"here is altered: expected sha256 {right}, found "):
        archives.check(b"X" + TEXT[1:], Blob(len(TEXT), f"sha256:{right}"), "here")


def make_tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return io.BytesIO(buffer.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o4755
    return info


@pytest.mark.scenario("B68")
def test_tar_gives_named_members_only():
    handle = make_tar(
        (member("../evil"), b"1"),
        (member("/etc/evil"), b"2"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("device", tarfile.CHRTYPE), b""),
        (member("d/a"), TEXT),
    )
    assert archives.tar_members(handle, {"d/a": 1000}, "here") == {"d/a": TEXT}


@pytest.mark.scenario("B68")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_tar_refuses_what_is_no_plain_file(kind):
    handle = make_tar((member("other"), TEXT), (member("a", kind, "other"), b""))
    with pytest.raises(DataError, match="here, member a is no plain file"):
        archives.tar_members(handle, {"a": 1000}, "here")


@pytest.mark.scenario("B68")
def test_tar_refuses_doubles_missing_large_and_damaged():
    with pytest.raises(DataError, match="occurs twice"):
        archives.tar_members(make_tar((member("a"), TEXT), (member("a"), TEXT)), {"a": 1000}, "here")
    with pytest.raises(DataError, match=r"lacks the member\(s\) b"):
        archives.tar_members(make_tar((member("a"), TEXT)), {"a": 1000, "b": 1}, "here")
    with pytest.raises(DataError, match="too large: 550 bytes, at most 549"):
        archives.tar_members(make_tar((member("a"), TEXT)), {"a": 549}, "here")
    whole = make_tar((member("a"), bytes(range(256)) * 50)).getvalue()
    for damaged in (b"", b"<html>", whole[:-30], whole[: len(whole) // 2]):
        with pytest.raises(DataError, match=r"^here"):
            archives.tar_members(io.BytesIO(damaged), {"a": 10**6, "b": 1}, "here")


@pytest.mark.scenario("B68")
def test_tar_refuses_huge_member_nobody_asked_for():
    info = member("huge")
    info.size = 2**40
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as stream:
        stream.write(info.tobuf())
        stream.write(bytes(1024))
    with pytest.raises(DataError, match="over 1 GiB"):
        archives.tar_members(io.BytesIO(buffer.getvalue()), {"a": 10}, "here")


def make_zip(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.scenario("B69")
def test_zip_gives_named_members_only():
    data = make_zip([("../evil", b"1"), ("gzip/a", TEXT)])
    assert archives.zip_members(io.BytesIO(data), {"gzip/a": 1000}, "h") == {"gzip/a": TEXT}


@pytest.mark.scenario("B69")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_refuses():
    good = make_zip([("a", TEXT)])
    encrypted = good.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    )
    crc = bytearray(good)
    crc[40] ^= 1
    for data, limits, reason in [
        (make_zip([("a", TEXT), ("a", TEXT)]), {"a": 1000}, "occurs twice"),
        (good, {"a": 1000, "b": 1}, r"lacks the member\(s\) b"),
        (good, {"a": 549}, "too large"),
        (encrypted, {"a": 1000}, "encrypted"),
        (bytes(crc), {"a": 1000}, "not a sound .zip"),
        (good[:-10], {"a": 1000}, "not a sound .zip"),
        (b"", {"a": 1000}, "not a sound .zip"),
    ]:
        with pytest.raises(DataError, match=f"^here.*{reason}"):
            archives.zip_members(io.BytesIO(data), limits, "here")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_archives_raise_only_data_error(data):
    unpack, good = data.draw(
        st.sampled_from(
            [
                (lambda b: archives.gunzip(b, 1000, "here"), gzip.compress(TEXT)),
                (lambda b: archives.unxz(b, 1000, "here"), lzma.compress(TEXT)),
                (
                    lambda b: archives.tar_members(io.BytesIO(b), {"a": 1000}, "here"),
                    make_tar((member("a"), TEXT)).getvalue(),
                ),
                (
                    lambda b: archives.zip_members(io.BytesIO(b), {"a": 1000}, "here"),
                    make_zip([("a", TEXT)]),
                ),
            ]
        )
    )
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bad)))
        bad[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        unpack(bytes(bad))
    except DataError as error:
        assert str(error).startswith("here")  # noqa: PT017 - it may also stay sound
