"""Packed bytes to plain bytes, in memory, with a limit: checksums, gzip, xz, members of tar and zip.

Nothing is ever extracted to disk, so a hostile name, link or device in an archive has nothing to act on.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

from .registry import Blob, DataError


def check(data: bytes, blob: Blob, origin: str) -> None:
    """Raise DataError unless `data` has the size and checksum of `blob`."""
    check_size(len(data), blob, origin)
    if blob.checksum:
        algorithm, _, expected = blob.checksum.partition(":")
        _compare(hashlib.new(algorithm, data).hexdigest(), algorithm, expected, origin)


def check_file(handle: BinaryIO, blob: Blob, nbytes: int, origin: str) -> None:
    """`check` for an open file that is too large to hold; the handle is left at the start."""
    check_size(nbytes, blob, origin)
    if blob.checksum:
        algorithm, _, expected = blob.checksum.partition(":")
        digest = hashlib.file_digest(handle, algorithm).hexdigest()  # type: ignore[arg-type]
        _compare(digest, algorithm, expected, origin)
    handle.seek(0)


def check_size(nbytes: int, blob: Blob, origin: str) -> None:
    """Raise DataError unless `nbytes` is the published size (or none is known)."""
    if blob.nbytes is not None and nbytes != blob.nbytes:
        what = "truncated" if nbytes < blob.nbytes else "too long"
        raise DataError(f"{origin} is {what}: expected {blob.nbytes} bytes, found {nbytes}")


def _compare(found: str, algorithm: str, expected: str, origin: str) -> None:
    if found != expected:
        raise DataError(f"{origin} is altered: expected {algorithm} {expected}, found {found}")


def gunzip(data: bytes, limit: int, origin: str) -> bytes:
    """The one gzip member that `data` consists of, at most `limit` bytes of content."""
    return _zlib(data, limit, 31, "gzip", origin)


def inflate(data: bytes, limit: int, origin: str) -> bytes:
    """The one zlib stream that `data` consists of, at most `limit` bytes of content."""
    return _zlib(data, limit, 15, "zlib", origin)


def _zlib(data: bytes, limit: int, wbits: int, kind: str, origin: str) -> bytes:
    unpacker = zlib.decompressobj(wbits)
    try:
        out = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise DataError(f"{origin} is not a sound {kind} file: {error}") from None
    return _finished(out, limit, unpacker.eof, unpacker.unused_data, kind, origin)


def unxz(data: bytes, limit: int, origin: str) -> bytes:
    """The one xz stream that `data` consists of, at most `limit` bytes of content."""
    try:
        # The dictionary size is the file's own word: 256 MiB is four times what `xz -9` asks for.
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2**28)
        out = unpacker.decompress(data, limit + 1)
        # The check at the end of the stream is read only when asked for more output.
        while not unpacker.eof and not unpacker.needs_input and len(out) <= limit:
            out += unpacker.decompress(b"", limit + 1 - len(out))
    except lzma.LZMAError as error:
        raise DataError(f"{origin} is not a sound xz file: {error}") from None
    return _finished(out, limit, unpacker.eof, unpacker.unused_data, "xz", origin)


def _finished(out: bytes, limit: int, eof: bool, rest: bytes, kind: str, origin: str) -> bytes:
    if len(out) > limit:
        raise DataError(f"{origin} unpacks to more than the {limit} bytes that belong in it")
    if not eof:
        raise DataError(f"{origin} is truncated: its {kind} stream has no end")
    if rest:
        raise DataError(f"{origin} has {len(rest)} bytes after the end of its {kind} stream")
    return out


def tar_members(handle: BinaryIO, limits: Mapping[str, int], origin: str) -> dict[str, bytes]:
    """The named members of a .tar.gz, each a plain file of at most limits[name] bytes.

    Raises
    ------
    DataError
        A member is missing, doubled, a link, device or sparse file, or too large; or the archive is
        damaged, or the members that nobody asked for are suspiciously large.
    """
    found: dict[str, bytes] = {}
    skipped = 0
    try:
        with tarfile.open(fileobj=handle, mode="r:gz") as archive:
            for member in archive:
                if member.name not in limits:
                    skipped += member.size
                    if skipped > 2**30:  # reading past them costs time, so a bomb ends here
                        raise DataError(f"{origin} holds over 1 GiB of members that are not data")
                    continue
                where = f"{origin}, member {member.name}"
                if member.name in found:
                    raise DataError(f"{where} occurs twice")
                if not member.isreg() or member.issparse():
                    raise DataError(f"{where} is no plain file but a link, device or sparse file")
                if member.size > limits[member.name]:
                    raise DataError(_too_large(where, member.size, limits[member.name]))
                stream = archive.extractfile(member)
                data = b"" if stream is None else stream.read()
                if len(data) != member.size:
                    raise DataError(f"{where} is truncated: {len(data)} of {member.size} bytes")
                found[member.name] = data
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(f"{origin} is not a sound .tar.gz archive: {error}") from None
    return _complete(found, limits, origin)


def zip_members(handle: BinaryIO, limits: Mapping[str, int], origin: str) -> dict[str, bytes]:
    """The named members of a .zip, each a plain file of at most limits[name] bytes.

    Raises
    ------
    DataError
        A member is missing, doubled, encrypted or too large, or the archive is damaged.
    """
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(handle) as archive:
            for member in archive.infolist():
                name = member.filename
                if name not in limits:
                    continue
                where = f"{origin}, member {name}"
                if name in found:
                    raise DataError(f"{where} occurs twice")
                # deflate adds next to nothing at worst; reading allocates what the directory says
                largest = max(member.file_size, member.compress_size - limits[name] // 1000 - 1024)
                if largest > limits[name]:
                    raise DataError(_too_large(where, largest, limits[name]))
                with archive.open(member) as stream:
                    found[name] = stream.read(limits[name] + 1)
                if len(found[name]) != member.file_size:
                    raise DataError(f"{where} is not as long as the archive's directory says")
    except DataError:
        raise
    # RuntimeError: encrypted; NotImplementedError: a method or version that zipfile does not know
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{origin} is not a sound .zip archive: {error}") from None
    return _complete(found, limits, origin)


def _too_large(where: str, nbytes: int, limit: int) -> str:
    return f"{where} is too large: {nbytes} bytes, at most {limit} belong in it"


def _complete(found: dict[str, bytes], wanted: Mapping[str, int], origin: str) -> dict[str, bytes]:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{origin} lacks the member(s) {', '.join(missing)}")
    return found
