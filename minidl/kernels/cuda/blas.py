"""Matrix products by cuBLAS, called directly.

CuPy refuses every call of cuBLAS while a stream is capturing (its issue 6290), though cuBLAS itself can be captured.
So the library that CuPy loads is called through ctypes, on a handle and a workspace of our own for each thread:
without a workspace given, cuBLAS would allocate memory within the graph.

Matrices are in C order here; cuBLAS reads them as transposed, so C = A B is asked for as C' = B' A'.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any, NamedTuple

import cupy

from ... import backend
from ...backend import Array

WORKSPACE = 32 * 2**20  # bytes, what cuBLAS recommends for its largest devices
_TYPES = {"f": 0, "d": 1}  # cudaDataType: CUDA_R_32F, CUDA_R_64F
_COMPUTE = {"fp32": 68, "tf32": 77}  # cublasComputeType: 32F, 32F_FAST_TF32
_COMPUTE_DOUBLE = 70
_DEFAULT_ALGORITHM = -1


class Operand(NamedTuple):
    """A matrix in memory: whether it is transposed, and the distance between rows and between matrices of a stack."""

    array: Array
    transposed: bool
    row: int
    stack: int = 0


def operand(x: Array) -> Operand:
    """A 2-D array as it lies in memory if rows or columns are contiguous, else a copy."""
    rows, columns = x.shape
    down, across = (s // x.itemsize for s in x.strides)
    if (across == 1 or columns == 1) and (down >= max(columns, 1) or rows == 1):
        return Operand(x, False, max(down if rows > 1 else columns, 1))
    if (down == 1 or rows == 1) and (across >= max(rows, 1) or columns == 1):
        return Operand(x, True, max(across if columns > 1 else rows, 1))
    return Operand(cupy.ascontiguousarray(x), False, max(columns, 1))


def multiply(a: Array, b: Array, into: Array, accumulate: bool = False) -> None:
    """into (M, N) = a (M, K) @ b (K, N), added to what is there if `accumulate`; all of one type, into in C order."""
    (m, k), n = a.shape, b.shape[1]
    if not m * n:
        return
    if not k:
        if not accumulate:
            into.fill(0)
        return
    left, right, number = operand(a), operand(b), _number(into.dtype.char)
    kind, beta = _TYPES[into.dtype.char], number(1.0 if accumulate else 0.0)
    library, handle = _ready()
    status = library.cublasGemmEx(
        handle, int(right.transposed), int(left.transposed), n, m, k, ctypes.byref(number(1.0)),
        right.array.data.ptr, kind, right.row, left.array.data.ptr, kind, left.row, ctypes.byref(beta),
        into.data.ptr, kind, n, _compute(into.dtype.char), _DEFAULT_ALGORITHM,
    )  # fmt: skip
    _check(status)


def multiply_stacks(a: Array, b: Array, into: Array) -> None:
    """into (S, M, N) = a (S, M, K) @ b (S, K, N), all in C order; a stack of distance 0 repeats its one matrix."""
    (count, m, k), n = a.shape, b.shape[2]
    number, kind = _number(into.dtype.char), _TYPES[into.dtype.char]
    (a_step, b_step), (library, handle) = (x.strides[0] // x.itemsize for x in (a, b)), _ready()
    status = library.cublasGemmStridedBatchedEx(
        handle, 0, 0, n, m, k, ctypes.byref(number(1.0)), b.data.ptr, kind, n, b_step, a.data.ptr, kind, k, a_step,
        ctypes.byref(number(0.0)), into.data.ptr, kind, n, m * n, count, _compute(into.dtype.char), _DEFAULT_ALGORITHM,
    )  # fmt: skip
    _check(status)


def _number(char: str) -> Any:
    """The type of alpha and beta, which cuBLAS reads before it returns."""
    return ctypes.c_float if char == "f" else ctypes.c_double


def _compute(char: str) -> int:
    return _COMPUTE[backend.precision()] if char == "f" else _COMPUTE_DOUBLE


def _ready() -> tuple[Any, Any]:
    """The library, and this thread's handle, working on the current stream of the current device."""
    stream, blas = cupy.cuda.get_current_stream().ptr, library()
    own = _handle(cupy.cuda.runtime.getDevice(), threading.get_ident())
    if own.stream != stream:
        _check(blas.cublasSetStream_v2(own.handle, stream))
        _check(
            blas.cublasSetWorkspace_v2(own.handle, own.workspace.ptr, WORKSPACE)
        )  # the line before resets it
        own.stream = stream
    return blas, own.handle


class _Handle:
    """A handle of cuBLAS with its workspace, and the stream that both are set to."""

    def __init__(self) -> None:
        self.handle, self.stream = ctypes.c_void_p(), -1
        _check(library().cublasCreate_v2(ctypes.byref(self.handle)))
        self.workspace = cupy.cuda.alloc(WORKSPACE)


@cache
def _handle(device: int, thread: int) -> _Handle:
    return _Handle()


@cache
def library() -> Any:
    """cuBLAS with the types of its arguments."""
    blas = ctypes.CDLL(_path())
    i, p, wide = ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong
    blas.cublasCreate_v2.argtypes = [p]
    blas.cublasSetStream_v2.argtypes = [p, p]
    blas.cublasSetWorkspace_v2.argtypes = [p, p, ctypes.c_size_t]
    blas.cublasGemmEx.argtypes = [p, i, i, i, i, i, p, p, i, i, p, i, i, p, p, i, i, i, i]
    matrix: list[Any] = [p, i, i, wide]
    blas.cublasGemmStridedBatchedEx.argtypes = [p, i, i, i, i, i, p, *matrix, *matrix, p, *matrix, i, i, i]
    return blas


def _path() -> str:
    """The cuBLAS of the CUDA version that CuPy was built for, wherever pip or the system put it."""
    from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

    return load_nvidia_dynamic_lib("cublas").abs_path


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS returned status {status}; see cublasStatus_t in its documentation")
