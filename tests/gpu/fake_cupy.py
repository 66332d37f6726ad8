"""A strict stand-in for CuPy on a machine without a GPU: NumPy inside, CuPy's rules outside.

Its arrays are no NumPy arrays, on purpose: whatever crosses from host to device unasked must fail as it does in CuPy.
Names that CuPy 14.2 lacks are missing (cupy_names.json). Reductions give arrays, not numbers. Kernels of RawModule run
through g++. While a stream captures, whatever would wait or transfer raises, and so does CuPy's own cuBLAS.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np

from tests.gpu.cuda_on_cpu import Module
from tests.gpu.fake_device import Device, Stream, allocating_from

NAMES = {key: frozenset(names) for key, names in json.loads(Path(__file__).with_name("cupy_names.json").read_text()).items()}  # fmt: skip
PRODUCTS = frozenset(["matmul", "dot", "tensordot", "einsum", "inner", "outer", "vdot"])
device = Device()


class ndarray:  # noqa: N801 - CuPy's name
    __module__ = "cupy"
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray, place: int | None = None):
        self._values, self._device = values, device.current if place is None else place

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **named: Any) -> Any:
        if ufunc.__name__ not in NAMES["cupy"] or method != "__call__":
            return NotImplemented
        return _call(ufunc.__name__, ufunc, arguments, named)

    def __array_function__(self, function: Any, _: Any, arguments: Any, named: Any) -> Any:
        if function.__name__ not in NAMES["cupy"]:
            return NotImplemented
        return _call(function.__name__, function, arguments, named)

    device = property(lambda self: _CudaDevice(self._device))
    data = property(lambda self: types.SimpleNamespace(ptr=self._values.ctypes.data))
    T = property(lambda self: ndarray(self._values.T, self._device))

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        device.sync("get")
        return self._values.copy()

    def item(self) -> Any:
        device.sync("item")
        return self._values.item()

    def tolist(self) -> Any:
        device.sync("tolist")
        return self._values.tolist()

    def __float__(self) -> float:
        device.sync("float")
        return float(self._values)

    def __int__(self) -> int:
        device.sync("int")
        return int(self._values)

    def __bool__(self) -> bool:
        device.sync("bool")
        return bool(self._values)

    def __repr__(self) -> str:
        return f"fake_cupy.ndarray({self._values!r})"

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def set(self, values: np.ndarray) -> None:
        device.upload("set")
        np.copyto(self._values, values)

    def fill(self, value: Any) -> None:
        value = _plain(value)
        device.launch("fill", lambda: self._values.fill(value))

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> Any:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return _wrap(device.compute("astype", lambda: self._values.astype(dtype)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in NAMES["ndarray"]:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._values, name)
        if not callable(value):
            return ndarray(value, self._device) if isinstance(value, np.ndarray) else value
        method = getattr(np.ndarray, name)
        return lambda *arguments, **named: _call(name, method, (self, *arguments), named)

    def __getitem__(self, key: Any) -> Any:
        _look_at_key(key)
        plain, values = _plain(key, index=True), self._values
        result = values[plain]
        if isinstance(result, np.ndarray) and np.may_share_memory(result, values):
            return ndarray(result, self._device)
        return _wrap(device.compute("getitem", lambda: np.asarray(values[plain])))

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if not (isinstance(key, ndarray) and key.dtype == bool):  # a masked number needs no wait
            _look_at_key(key)
        plain, given = _plain(key, index=True), _plain(value)

        def assign() -> None:
            self._values[plain] = given

        device.launch("setitem", assign)


def _look_at_key(key: Any) -> None:
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, (list, np.ndarray)):
            device.upload("index array")
        elif isinstance(part, ndarray) and part.dtype == bool:
            device.sync("boolean mask")


def _operator(name: str, inplace: bool) -> Any:
    def method(self: ndarray, *others: Any) -> Any:
        if inplace:
            plain = [_plain(other) for other in others]
            device.launch(name, lambda: getattr(np.ndarray, name)(self._values, *plain))
            return self
        return _call(name, getattr(np.ndarray, name), (self, *others), {})

    return method


WORDS = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift"
for _word in WORDS.split():
    for _prefix in ("", "r", "i"):
        if _prefix + _word != "imatmul":  # which CuPy lacks
            setattr(ndarray, f"__{_prefix}{_word}__", _operator(f"__{_prefix}{_word}__", _prefix == "i"))
COMPARISONS = "lt le gt ge eq ne neg abs invert pos"
for _word in COMPARISONS.split():
    setattr(ndarray, f"__{_word}__", _operator(f"__{_word}__", False))


def _plain(value: Any, index: bool = False) -> Any:
    """NumPy's own arrays out of the fake's; a host array where a device array belongs is an error."""
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, np.ndarray) and not index:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v, index) for v in value)
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    return type(value)(map(_wrap, value)) if isinstance(value, (list, tuple)) else value


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    return [a for v in value for a in _arrays(v)] if isinstance(value, (list, tuple)) else []


def _devices(value: Any) -> set[int]:
    if isinstance(value, ndarray):
        return {value._device}
    return {d for v in value for d in _devices(v)} if isinstance(value, (list, tuple)) else set()


def _call(name: str, function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """One operation on the device: a view costs nothing, whatever else is a launch."""
    places = _devices(arguments)
    if len(places) > 1:
        raise ValueError(f"{name}: arrays of devices {sorted(places)}")
    if name.strip("_").lstrip("r") in PRODUCTS and device.recording is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    out = named.get("out")
    out = out[0] if isinstance(out, tuple) else out
    plain, extra = [_plain(a) for a in arguments], {k: _plain(v) for k, v in named.items() if k != "out"}
    if out is not None:
        target = out._values
        device.launch(name, lambda: np.copyto(target, function(*plain, **extra), casting="same_kind"))
        return out
    with np.errstate(all="ignore"):
        result = function(*plain, **extra)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result if result is NotImplemented or not isinstance(result, (list, tuple)) else _wrap(result)
    if isinstance(result, np.ndarray) and any(np.may_share_memory(result, a) for a in _arrays(plain)):
        return ndarray(result, *places)
    return _wrap(device.compute(name, lambda: function(*plain, **extra)))


class _Function:
    """A function of the module: ufuncs have ``at`` too."""

    def __init__(self, name: str, function: Any):
        self._name, self._function = name, function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _call(self._name, self._function, arguments, named)

    def at(self, array: ndarray, key: Any, values: Any) -> None:
        _look_at_key(key)
        plain = _plain(key, index=True), _plain(values)
        device.launch(f"{self._name}.at", lambda: self._function.at(array._values, *plain))


class _Names:
    """A NumPy module, as far as CuPy has its names."""

    def __init__(self, module: Any, names: frozenset[str], title: str):
        self._module, self._names, self._title = module, names, title

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"module {self._title!r} has no attribute {name!r}")
        value = getattr(self._module, name)
        if isinstance(value, type) or not callable(value):
            return value
        return _Function(name, value)


class _CudaDevice:
    compute_capability = "90"

    def __init__(self, number: int | None = None):
        self.id = device.current if number is None else number

    def __enter__(self) -> Any:
        self._before, device.current = device.current, self.id
        return self

    def __exit__(self, *error: object) -> None:
        device.current = self._before

    def synchronize(self) -> None:
        device.sync("device.synchronize")


class RawModule:
    """CUDA C, compiled by g++."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()):
        self._module = Module(code)

    def get_function(self, name: str) -> Any:
        def kernel(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            for argument in arguments:
                if isinstance(argument, np.ndarray) and argument.size > 1:
                    raise TypeError("a numpy.ndarray as an argument of a kernel")
            plain = tuple(_plain(a) for a in arguments)
            strided = [a for a in plain if isinstance(a, np.ndarray) and not a.flags.c_contiguous]
            if strided and name != "cross_entropy_grad":  # which is told the stride
                raise TypeError(f"{name}: a kernel sees memory, not strides: arrays must be contiguous")
            device.launch(name, lambda: self._module.run(name, grid, block[0], plain))

        return kernel


class _Memory:
    """Device memory without a type."""

    def __init__(self, size: int):
        self._bytes = np.zeros(size + 256, np.uint8)
        self.ptr = -(-self._bytes.ctypes.data // 256) * 256


def make() -> types.ModuleType:
    """A module to put into sys.modules as "cupy"; `device` counts."""
    names = _Names(np, NAMES["cupy"], "cupy")
    module = types.ModuleType("cupy")
    module.__getattr__ = lambda name: getattr(names, name)  # type: ignore[method-assign]

    def asarray(a: Any, dtype: Any = None, order: Any = None, **named: Any) -> ndarray:
        if isinstance(a, ndarray):
            return a if dtype is None or a.dtype == dtype else a.astype(dtype)
        if np.ndim(a):
            device.upload(f"asarray {np.shape(a)}")
            return ndarray(np.array(a, dtype=dtype, order=order or "C"))
        return ndarray(device.compute("fill", lambda: np.array(a, dtype=dtype)))

    def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
        values = np.empty(shape, dtype)
        if values.dtype.kind == "f":
            values.fill(np.nan)  # so that nobody relies on what is there
        device.allocate(values)
        return ndarray(values)

    def stream(null: bool = False, non_blocking: bool = False) -> Stream:
        Stream.count += 1
        return Stream(device, 0 if null else Stream.count)

    null = Stream(device, 0)
    module.ndarray, module.asarray, module.array, module.RawModule = ndarray, asarray, asarray, RawModule  # type: ignore[attr-defined]
    module.empty = empty  # type: ignore[attr-defined]
    module.empty_like = lambda a, dtype=None: empty(a.shape, dtype or a.dtype)  # type: ignore[attr-defined]
    module.ascontiguousarray = lambda a, dtype=None: (  # type: ignore[attr-defined]
        a if a.flags.c_contiguous else _wrap(device.compute("copy", lambda: np.ascontiguousarray(a._values)))
    )
    module.asnumpy = lambda a, **_: a.get()  # type: ignore[attr-defined]
    module.broadcast_shapes = np.broadcast_shapes  # type: ignore[attr-defined]
    module.is_available = lambda: True  # type: ignore[attr-defined]
    module.__version__ = "14.2.0"
    tricks = types.SimpleNamespace(
        sliding_window_view=_Function("view", np.lib.stride_tricks.sliding_window_view)
    )
    module.lib = types.SimpleNamespace(stride_tricks=tricks)  # type: ignore[attr-defined]
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 2, getDevice=lambda: device.current, memGetInfo=lambda: (2**33, 2**34),
        getDeviceProperties=lambda _: {"name": b"Fake", "totalGlobalMem": 2**34},
    )  # fmt: skip
    module.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
        runtime=runtime, Device=_CudaDevice, Stream=stream, alloc=_Memory,
        get_current_stream=lambda: device.stream or null,
        MemoryPool=lambda: types.SimpleNamespace(malloc=object()),
        Event=lambda: types.SimpleNamespace(record=lambda: None, synchronize=lambda: device.sync("event")),
        get_elapsed_time=lambda begin, end: 1.0,
        using_allocator=lambda malloc: allocating_from(device, malloc),
    )  # fmt: skip
    return module
