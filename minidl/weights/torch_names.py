"""The names that the pickle of a PyTorch state dict may use, and a plain stand-in for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import RefusedError

BFLOAT16 = "bfloat16"  # read as uint16, then widened: NumPy has no such type

STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Storage(NamedTuple):
    """One block of numbers; tensors are views of it."""

    key: str
    dtype: str
    size: int  # in elements


class View(NamedTuple):
    """A tensor: where it lies in its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


class Global(NamedTuple):
    """A name that the stream may use, and what calling it gives (None: it may not be called)."""

    name: str
    call: Callable[..., Any] | None = None
    dtype: str | None = None


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> View:
    whole = [offset, *shape, *strides]
    if not isinstance(storage, Storage) or not all(type(n) is int for n in whole):
        raise RefusedError("a tensor that is none of (storage, offset, shape, strides) in whole numbers")
    if min(whole) < 0:
        raise RefusedError(f"a tensor with offset {offset}, shape {shape}, strides {strides}")
    if len(shape) != len(strides):
        raise RefusedError(f"a tensor of shape {shape} with strides {strides}")
    count = 1
    for n in shape:
        count *= n
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if count and (last >= storage.size or count > storage.size):
        raise RefusedError(
            f"a tensor of shape {shape} with strides {strides} beyond its {storage.size} numbers"
        )
    return View(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *rest: Any) -> Any:
    return tensor


def _dict(*arguments: Any) -> dict[Any, Any]:
    if arguments not in ((), ([],)):
        raise RefusedError(f"an OrderedDict made from {type(arguments[0]).__name__}")
    return {}


GLOBALS = {
    "collections.OrderedDict": Global("OrderedDict", _dict),
    "torch._utils._rebuild_tensor": Global("tensor", _tensor),
    "torch._utils._rebuild_tensor_v2": Global("tensor", _tensor),
    "torch._utils._rebuild_parameter": Global("parameter", _parameter),
    "torch.Size": Global("Size", lambda sizes: tuple(sizes)),
    **{
        f"torch.{kind}": Global(kind)
        for kind in (
            "float32",
            "float64",
            "float16",
            "bfloat16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "bool",
        )
    },
    **{f"torch.{name}": Global(name, dtype=dtype) for name, dtype in STORAGES.items()},
}
