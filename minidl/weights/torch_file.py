"""PyTorch's files of weights, ``.pth`` or ``.pt``: the zip archive of today and the stream of before 1.6.

Read without PyTorch and without executing anything in them (see `torch_pickle`).
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any, BinaryIO

import numpy as np

from .errors import RefusedError
from .limits import check_members, file_size
from .torch_names import BFLOAT16, Storage, View
from .torch_pickle import array_of, load

MAGIC = 0x1950A86A20F9469CFC6C  # the first object of a stream
OVERLAP = 4  # tied weights are shared twice; a small file must not become large arrays
MOST = 1_000_000  # values in a state dict: a list may hold another many times, and so on
LONGEST = 1_000  # characters of a name: keys of nested dicts add up
WRAPPERS = "state_dict", "model_state_dict", "model"  # under which training scripts keep the weights


def read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors in an archive that ``torch.save`` wrote, by name.

    Raises
    ------
    RefusedError, zipfile.BadZipFile, OSError
    """
    with zipfile.ZipFile(file) as archive:
        check_members(archive, file_size(file))
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise RefusedError("two members of one name")
        for member in archive.infolist():
            if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
                raise RefusedError(f"{member.filename!r} encrypted or compressed; torch.save does neither")
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RefusedError(f"{len(pickles)} members named data.pkl; a state dict has one")
        folder = pickles[0].removesuffix("data.pkl")
        order = archive.read(folder + "byteorder") if folder + "byteorder" in names else b"little"
        if order not in (b"little", b"big"):
            raise RefusedError(f"the byte order {order[:20]!r}")
        content = load(archive.read(pickles[0]))

        def numbers(storage: Storage) -> np.ndarray:
            return _numbers(archive.read(f"{folder}data/{storage.key}"), storage, order.decode())

        try:
            return _arrays(content, numbers)
        except KeyError as error:
            raise RefusedError(f"no member for a storage ({error.args[0]})") from error


def read_stream(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors in a file that ``torch.save(..., _use_new_zipfile_serialization=False)`` wrote, by name.

    Raises
    ------
    RefusedError, OSError
    """
    whole = file.read()
    stream = io.BytesIO(whole)  # reads no more than there is, whatever the file says
    if load(stream) != MAGIC:
        raise RefusedError("a pickle that torch.save did not write")
    load(stream)  # the protocol's version
    system = load(stream)
    little = system.get("little_endian", True) if isinstance(system, dict) else True
    content, keys = load(stream), load(stream)
    storages = {view.storage for _, view in _named_views(content)}
    sizes = {storage.key: storage for storage in storages}
    if len(sizes) != len(storages):
        raise RefusedError("one storage with two sizes or types")
    blocks: dict[str, np.ndarray] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = sizes.get(key) if type(key) is str else None
        count = int.from_bytes(stream.read(8), "little", signed=True)
        if storage is None or count != storage.size:
            raise RefusedError(f"a storage of {count} numbers, which no tensor expects")
        start = stream.tell()
        end = stream.seek(count * _dtype(storage).itemsize, io.SEEK_CUR)
        blocks[key] = _numbers(memoryview(whole)[start:end], storage, "little" if little else "big")
    missing = sorted(set(sizes) - set(blocks))
    if missing:
        raise RefusedError(f"no numbers for the storages {', '.join(missing[:5])}")
    return _arrays(content, lambda storage: blocks[storage.key])


def _numbers(data: bytes | memoryview, storage: Storage, order: str) -> np.ndarray:
    dtype = _dtype(storage).newbyteorder("<" if order == "little" else ">")
    if len(data) < storage.size * dtype.itemsize:
        raise RefusedError(
            f"a storage of {len(data)} bytes for {storage.size} numbers of {dtype.itemsize} bytes"
        )
    return np.frombuffer(data, dtype, storage.size)


def _dtype(storage: Storage) -> np.dtype:
    return np.dtype("u2" if storage.dtype == BFLOAT16 else storage.dtype)


def _arrays(content: Any, numbers: Any) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of the part of a checkpoint that is one; names are joined by dots."""
    if isinstance(content, dict):
        for key in WRAPPERS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if isinstance(content, View) or not isinstance(content, (dict, list, tuple)):
        raise RefusedError(
            f"a {type(content).__name__} where a state dict was expected; save model.state_dict()"
        )
    named = _named_views(content)
    views = dict.fromkeys(view for _, view in named)
    storages = dict.fromkeys(view.storage for view in views)
    if sum(math.prod(view.shape) for view in views) > OVERLAP * sum(s.size for s in storages):
        raise RefusedError(f"tensors that share their numbers more than {OVERLAP} times over")
    blocks = {storage: numbers(storage) for storage in storages}
    arrays = {view: array_of(view, blocks[view.storage]) for view in views}
    result: dict[str, np.ndarray] = {}
    for name, view in named:
        if name in result:
            raise RefusedError(f"two tensors called {name!r}")
        result[name] = arrays[view]
    return result


def _named_views(content: Any) -> list[tuple[str, View]]:
    """(name, tensor) of all tensors in nested dicts and lists, in order. A container in itself is refused."""
    found: list[tuple[str, View]] = []
    seen = 0
    stack: list[tuple[str, Any, tuple[int, ...]]] = [("", content, ())]
    while stack:
        name, value, above = stack.pop()
        if isinstance(value, View):
            found.append((name, value))
        elif type(value) in (dict, list, tuple):
            if id(value) in above or len(above) > 50:
                raise RefusedError("containers nested in themselves, or more than 50 deep")
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in reversed(list(pairs)):
                path = f"{name}.{key}" if name else str(key)
                seen += 1 + len(path) // 100
                if seen > MOST or len(path) > LONGEST:
                    raise RefusedError(f"more than {MOST} values, or names of more than {LONGEST} characters")
                stack.append((path, item, (*above, id(value))))
    return found
