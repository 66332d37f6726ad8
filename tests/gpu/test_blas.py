"""The order of cuBLAS's arguments, against a library of the same symbols on host memory; and the choice of precision."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest

from minidl import backend
from tests.gpu.conftest import fake_cublas, on_host


def placed(cupy, shape, layout, dtype, seed):
    """A matrix on the device whose rows, or columns, are contiguous or lie apart; and its values."""
    values = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    if layout == "wide rows":
        whole = np.concatenate([values, values], axis=1)
        return cupy.asarray(whole)[:, : shape[1]], values
    if layout == "transposed":
        return cupy.asarray(np.ascontiguousarray(values.T)).T, values
    return cupy.asarray(values), values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("accumulate", [False, True])
def test_products_in_every_layout(cupy, dtype, accumulate):
    from minidl.kernels.cuda import blas

    layouts = ("plain", "transposed", "wide rows")
    for (m, n, k), one, other in itertools.product(
        [(5, 7, 3), (1, 4, 6), (4, 1, 6), (6, 5, 1)], layouts, layouts
    ):
        a, host_a = placed(cupy, (m, k), one, dtype, 0)
        b, host_b = placed(cupy, (k, n), other, dtype, 1)
        into, host = placed(cupy, (m, n), "plain", dtype, 2)
        blas.multiply(a, b, into, accumulate)
        np.testing.assert_allclose(
            on_host(into), host_a @ host_b + (host if accumulate else 0), rtol=1e-4, atol=1e-5
        )


def test_transposed_matrices_are_not_copied(cupy, device):
    from minidl.kernels.cuda import blas

    a, b = (placed(cupy, (6, 6), "transposed", np.float32, seed)[0] for seed in (0, 1))
    into = cupy.empty((6, 6), np.float32)
    device.forget()
    blas.multiply(a, b.T, into)
    assert device.launches == ["cublasGemmEx"]


def test_precision(cupy, device):
    from minidl.kernels import cuda

    asked_for = ctypes.c_int.in_dll(ctypes.CDLL(fake_cublas()), "last_compute_type")
    x, wide = (cupy.asarray(np.ones((8, 8), dtype)) for dtype in (np.float32, np.float64))
    assert backend.precision() == "fp32"
    cuda.matmul(x, x)
    assert asked_for.value == 68  # CUBLAS_COMPUTE_32F
    assert backend.precision("tf32") == "tf32"
    cuda.matmul(x, x)
    assert asked_for.value == 77  # CUBLAS_COMPUTE_32F_FAST_TF32
    cuda.matmul(wide, wide)
    assert asked_for.value == 70  # CUBLAS_COMPUTE_64F
    with pytest.raises(ValueError, match="'fp32' or 'tf32', got 'fp16'"):
        backend.precision("fp16")


def test_an_error_of_cublas_is_raised(cupy, device, monkeypatch):
    from minidl.kernels.cuda import blas

    x = cupy.asarray(np.ones((2, 2), np.float32))
    monkeypatch.setattr(blas, "_DEFAULT_ALGORITHM", 3)  # which the library refuses
    with pytest.raises(RuntimeError, match="cuBLAS status 15"):
        blas.multiply(x, x, cupy.empty((2, 2), np.float32))
    with pytest.raises(RuntimeError, match="returned status 13"):
        blas._check(13)
