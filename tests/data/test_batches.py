"""Batches are permutations, the split is the published one, and pixels become 0..1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.data import batches, to_float, train_validation_split


@pytest.mark.scenario("N31")
@given(
    st.integers(0, 200),
    st.integers(1, 250),
    st.integers(0, 9),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
def test_each_epoch_is_a_permutation(n, batch_size, seed, epoch, shuffle, drop_last):
    made = list(batches(n, batch_size, seed=seed, epoch=epoch, shuffle=shuffle, drop_last=drop_last))
    sizes = [len(b) for b in made]
    whole, rest = divmod(n, batch_size)
    assert sizes == [batch_size] * whole + ([rest] if rest and not drop_last else [])
    seen = np.concatenate([np.arange(0), *made])
    assert len(set(seen.tolist())) == len(seen) == sum(sizes) and set(seen) <= set(range(n))
    assert seen.dtype == np.int64
    if not shuffle:
        np.testing.assert_array_equal(seen, np.arange(len(seen)))


def order(**changes):
    arguments = {"seed": 1, "epoch": 2} | changes
    return np.concatenate(list(batches(100, 7, **arguments))).tolist()


def test_order_depends_on_seed_and_epoch_only():
    assert order() == order()
    assert len({tuple(order(seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9
    assert order(shuffle=False) == list(range(100)) != order()


@pytest.mark.scenario("B74")
@pytest.mark.parametrize("bad", [(-1, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_bad_arguments_raise_at_once(bad):
    n, batch_size, epoch = bad
    with pytest.raises(ValueError, match="batches: needs n >= 0"):
        batches(n, batch_size, seed=0, epoch=epoch)


@pytest.fixture
def legacy_order():
    """0..59999 as the usual idiom shuffles it; NumPy's global state is put back."""
    state = np.random.get_state()  # noqa: NPY002
    indices = np.arange(60_000)
    np.random.seed(42)  # noqa: NPY002
    np.random.shuffle(indices)  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    return indices


def test_split_is_the_legacy_idiom_without_its_side_effect(legacy_order):
    x, y = np.arange(60_000) * 2, np.arange(60_000)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    (x_train, y_train), (x_validation, y_validation) = train_validation_split(x, y)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.testing.assert_array_equal(y_train, legacy_order[:48_000])
    np.testing.assert_array_equal(y_validation, legacy_order[48_000:])
    np.testing.assert_array_equal(x_train, y_train * 2)
    np.testing.assert_array_equal(x_validation, y_validation * 2)


@given(st.integers(2, 500), st.integers(1, 9))
def test_split_sizes(n, tenths):
    y = np.arange(n)
    (train, _), (validation, _) = train_validation_split(y, y, fraction=tenths / 10)
    assert len(train) == n * (10 - tenths) // 10
    assert sorted([*train, *validation]) == y.tolist()


def test_split_bad_arguments():
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
            train_validation_split(np.zeros(5), np.zeros(5), fraction)
    with pytest.raises(ValueError, match="same length, got 5 and 4"):
        train_validation_split(np.zeros(5), np.zeros(4))


def test_to_float_is_division_by_255():
    x = np.arange(256, dtype=np.uint8)
    out = to_float(x)
    np.testing.assert_array_equal(out, np.array([np.float32(v) / np.float32(255) for v in x]))
    assert out.dtype == np.float32 and out[255] == 1 and x[255] == 255


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float16, bool, np.float32])
def test_to_float_casts_everything_else_unscaled(dtype):
    out = to_float(np.array([0, 1, 200]).astype(dtype))
    assert out.dtype == np.float32 and out[1] == 1 and out[2] == (1 if dtype is bool else 200)
