"""The published files themselves, if MINIDL_DATA holds them."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from minidl import data

REAL = os.environ.get("MINIDL_DATA")
pytestmark = pytest.mark.skipif(not REAL, reason="MINIDL_DATA is not set: no published files here")


@pytest.fixture
def real(places, monkeypatch):
    monkeypatch.setenv("MINIDL_DATA", REAL)

    def need(name):
        if data.status(name).where != "here":
            pytest.skip(f"{name} is not in MINIDL_DATA")
        return name

    return need


def first(x: np.ndarray) -> str:
    return hashlib.sha256(x[0].tobytes()).hexdigest()[:16]


def check(splits, shapes, histograms, sums, checksums):
    for (x, y), shape, histogram, total, checksum in zip(
        splits, shapes, histograms, sums, checksums, strict=True
    ):
        assert x.shape == shape and x.dtype == np.uint8 and x.flags.c_contiguous
        assert y.dtype == np.int64 and np.bincount(y).tolist() == histogram
        assert int(x.sum(dtype=np.int64)) == total and first(x) == checksum


def test_mnist(real):
    real("mnist")
    check(
        data.mnist(),
        [(60000, 28, 28, 1), (10000, 28, 28, 1)],
        [
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ],
        [1567298545, 264923200],
        ["23ceaef5eb61f0e7", "8f6a418c9a639f9e"],
    )


def test_fashion_mnist(real):
    real("fashion_mnist")
    check(
        data.fashion_mnist(),
        [(60000, 28, 28, 1), (10000, 28, 28, 1)],
        [[6000] * 10, [1000] * 10],
        [3431114169, 573469082],
        ["5bd44e331a6d6998", "ffc7351ed0f8bae5"],
    )


def test_emnist_letters(real):
    real("emnist")
    check(
        data.emnist("letters"),
        [(124800, 28, 28, 1), (20800, 28, 28, 1)],
        [[0] + [4800] * 26, [0] + [800] * 26],
        [4297073983, 715955627],
        ["368e2e727d377c7e", "7239cd10daa9b5fa"],
    )
    (x, y), (x_test, _) = data.emnist("letters", transpose=True)
    assert (first(x), first(x_test)) == ("357c88c609fb1775", "137e13ff1d88c460")
    # Upright, a capital L (label 12) has its bar at the bottom: more ink in the lower half.
    ink = x[y == 12, :, :, 0].mean(axis=0)
    assert y[:5].tolist() == [23, 7, 16, 15, 23] and ink[14:].sum() > 1.2 * ink[:14].sum()


def test_cifar10(real):
    real("cifar10")
    (x, y), (x_test, y_test) = data.cifar10()
    assert x.shape == (50000, 32, 32, 3) and x_test.shape == (10000, 32, 32, 3)
    assert np.bincount(y).tolist() == [5000] * 10 and np.bincount(y_test).tolist() == [1000] * 10
    assert y[:5].tolist() == [6, 9, 9, 4, 1] and y_test[:5].tolist() == [3, 8, 8, 0, 6]
    assert (first(x), first(x_test)) == ("7cbda40c52a00fdb", "af12e1241a1e7a0c")
    assert int(x[:10000].sum(dtype=np.int64)) == 3718380578
    assert int(x_test.sum(dtype=np.int64)) == 3733375634
    # The channel means that publications normalise by: 0.4914, 0.4822, 0.4465 in red, green, blue.
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)


def test_svhn(real):
    real("svhn")
    (x, y), (x_test, y_test) = data.svhn()
    assert x.shape == (73257, 32, 32, 3) and x_test.shape == (26032, 32, 32, 3)
    assert set(y) == set(y_test) == set(range(10)) and np.bincount(y)[0] == 4948


def test_verify(real):
    for name in ("mnist", "fashion_mnist"):
        assert [check.problem for check in data.verify(real(name))] == [""] * 4
