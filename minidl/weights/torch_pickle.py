"""The pickle of a PyTorch state dict, read by an own loop over a closed set of opcodes. Nothing is executed.

Python's pickle may call any function that the file names. Here a name is looked up in a table of the few that
state dicts need, each with a plain stand-in; every other name and every other opcode is an error.
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import numpy as np

from .errors import RefusedError
from .torch_names import BFLOAT16, GLOBALS, Global, Storage, View

MOST = 2_000_000  # opcodes, of which a state dict needs about 40 for each tensor
_MARK = object()
_PLAIN = {b"N"[0]: None, 0x88: True, 0x89: False}
_NUMBERS = {b"J"[0]: "<i", b"K"[0]: "<B", b"M"[0]: "<H", b"G"[0]: ">d"}
_TUPLES = {0x85: 1, 0x86: 2, 0x87: 3}
_PUTS, _GETS = {b"q"[0]: "<B", b"r"[0]: "<I"}, {b"h"[0]: "<B", b"j"[0]: "<I"}
_TEXTS = {b"X"[0]: "<I", b"U"[0]: "<B", b"T"[0]: "<I"}  # utf-8; and byte strings of Python 2


def load(file: BinaryIO | bytes) -> Any:
    """The object that one pickle describes, of dicts, lists, tuples, numbers, strings and `View`.

    Raises
    ------
    RefusedError
        For whatever a state dict does not need, and for every kind of damage.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        return _Machine(stream).run()
    except RefusedError:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise RefusedError(f"a damaged pickle ({type(error).__name__}: {error})") from error


class _Machine:
    """A stack, a memo, and one method for each group of opcodes."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self) -> Any:
        if self.take(1) != b"\x80" or self.number("<B") not in (2, 3):
            raise RefusedError("a pickle that is not of protocol 2, which torch.save writes")
        while (opcode := self.take(1)[0]) != b"."[0]:
            self.steps += 1
            if self.steps > MOST:  # each may leave a container, which takes more memory than its byte
                raise RefusedError(f"a pickle of more than {MOST} opcodes")
            if opcode in _PLAIN:
                self.stack.append(_PLAIN[opcode])
            elif opcode in _NUMBERS:
                self.stack.append(self.number(_NUMBERS[opcode]))
            elif opcode in _TEXTS:
                self.stack.append(self.take(self.number(_TEXTS[opcode])).decode("utf-8"))
            elif opcode in _PUTS:
                self.memo[self.number(_PUTS[opcode])] = self.stack[-1]
            elif opcode in _GETS:
                self.stack.append(self.memo[self.number(_GETS[opcode])])
            elif opcode in _TUPLES:
                self.push_tuple(_TUPLES[opcode])
            else:
                self.other(opcode)
        (result,) = self.stack
        return result

    def other(self, opcode: int) -> None:
        match bytes([opcode]):
            case b"(":
                self.stack.append(_MARK)
            case b")":
                self.stack.append(())
            case b"}":
                self.stack.append({})
            case b"]":
                self.stack.append([])
            case b"t":
                self.stack.append(tuple(self.since_mark()))
            case b"\x8a":
                self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
            case b"c":
                self.find()
            case b"Q":
                self.find_storage()
            case b"R":
                self.call()
            case b"b":
                self.stack.pop()  # attributes of an OrderedDict: PyTorch's _metadata, not needed
                if type(self.stack[-1]) is not dict:
                    raise RefusedError(f"attributes of a {type(self.stack[-1]).__name__}")
            case b"a":
                value = self.stack.pop()
                self.container(list).append(value)
            case b"e":
                values = self.since_mark()
                self.container(list).extend(values)
            case b"s":
                value, key = self.stack.pop(), self.stack.pop()
                self.set_items([key, value])
            case b"u":
                self.set_items(self.since_mark())
            case other:
                raise RefusedError(f"the pickle opcode {other!r}, which no state dict has")

    def find(self) -> None:
        """Push what two lines of text name, if it is in the table."""
        name = ".".join(self.line() for _ in range(2))
        if name not in GLOBALS:
            raise RefusedError(f"an object of {name}, that is code; save model.state_dict() instead")
        self.stack.append(GLOBALS[name])

    def find_storage(self) -> None:
        """Push the storage that a tuple ("storage", type, key, device, size) stands for."""
        kind, storage_type, key, _, size, *part = self.stack.pop()
        known = isinstance(storage_type, Global) and storage_type.dtype is not None
        if (
            kind != "storage"
            or part not in ([], [None])
            or not known
            or type(key) is not str
            or type(size) is not int
            or size < 0
        ):
            raise RefusedError("a storage that is none of (kind, type, key, device, size)")
        self.stack.append(Storage(key, storage_type.dtype, size))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or function.call is None or type(arguments) is not tuple:
            raise RefusedError(f"a call of {getattr(function, 'name', type(function).__name__)}")
        self.stack.append(function.call(*arguments))

    def push_tuple(self, count: int) -> None:
        values = self.stack[-count:]
        if len(values) != count or any(value is _MARK for value in values):
            raise RefusedError("a tuple of more than the stack holds")
        self.stack[-count:] = [tuple(values)]

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise RefusedError("a list without a beginning")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def container(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"items for a {type(self.stack[-1]).__name__}, which is no {kind.__name__}")
        return self.stack[-1]

    def set_items(self, values: list[Any]) -> None:
        target = self.container(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise RefusedError(f"a key that is a {type(key).__name__}")
            target[key] = value

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            raise RefusedError("a file that ends too early")
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        data = self.stream.readline(200)
        if not data.endswith(b"\n"):
            raise RefusedError("a name without an end")
        return data[:-1].decode("ascii")


def array_of(view: View, numbers: np.ndarray) -> np.ndarray:
    """The tensor as an array of its own; `numbers` are those of its storage (bfloat16 as uint16)."""
    strides = tuple(s * numbers.itemsize for s in view.strides)
    seen = np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, strides, writeable=False)
    if view.storage.dtype == BFLOAT16:
        return (seen.astype("<u4") << 16).view("<f4").reshape(view.shape)
    return np.array(seen, dtype=seen.dtype.newbyteorder("="), order="C")
