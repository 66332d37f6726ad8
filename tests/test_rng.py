"""Counter-based random numbers: Philox against NumPy's, streams, masks, stability."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl import rng
from minidl.rng import Key, generator, keep_mask, philox4x64, random_bits, stream_id

words = st.integers(0, 2**64 - 1)
keys = st.builds(
    Key,
    seed=st.integers(0, 2**40),
    stream=st.text(max_size=8),
    step=st.integers(-1, 2**30),
    call=st.integers(0, 99),
)


@given(st.integers(0, 50), words, words, words, words, words)
def test_philox_is_numpys(count, k0, k1, c1, c2, c3):
    """The array code that runs on a GPU draws what NumPy's C code draws."""
    counter = (0, c1, c2, c3)
    bits = np.random.Philox(counter=np.array(counter, np.uint64), key=np.array([k0, k1], np.uint64))
    expected = bits.random_raw(count) if count else np.empty(0, np.uint64)
    drawn = philox4x64(count, (k0, k1), counter, np)
    assert drawn.dtype == np.uint64
    np.testing.assert_array_equal(drawn, expected)


def test_philox_known_answers():
    """Vectors of the Random123 distribution (its counter is one more than ours, which counts first)."""
    zeros = philox4x64(4, (0, 0), (2**64 - 1, 0, 0, 0), np)
    expected = (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)
    assert tuple(int(word) for word in zeros) == expected


@given(keys, st.integers(0, 65))
def test_bits_are_the_same_from_either_source(key, count):
    class Other:
        """NumPy under another name: takes the path of the array code."""

        def __getattr__(self, name):
            return getattr(np, name)

    np.testing.assert_array_equal(random_bits(count, key), random_bits(count, key, Other()))
    assert random_bits(count, key).shape == (count,) and random_bits(count, key).dtype == np.uint32


@given(keys, st.integers(1, 40), st.integers(1, 40))
def test_a_longer_draw_begins_with_the_shorter(key, a, b):
    np.testing.assert_array_equal(random_bits(a, key)[: min(a, b)], random_bits(b, key)[: min(a, b)])


@given(keys)
def test_every_part_of_the_key_counts(key):
    drawn = random_bits(16, key)
    np.testing.assert_array_equal(drawn, random_bits(16, Key(*key)))
    for other in (
        key._replace(seed=key.seed + 1),
        key._replace(stream=key.stream + "x"),
        key._replace(step=key.step + 1),
        key._replace(call=key.call + 1),
    ):
        assert not np.array_equal(drawn, random_bits(16, other))


def test_streams_are_independent():
    """No two of many streams agree in a word, and neighbours are not correlated."""
    streams = [Key(seed, name, step, call) for seed in (0, 1) for name in ("dropout", "dropout_1", "body.dropout") for step in (0, 1, 2) for call in (0, 1)]  # fmt: skip
    drawn = np.stack([random_bits(2000, key) for key in streams])
    assert len(np.unique(drawn[:, :4], axis=0)) == len(streams)
    uniform = drawn / 2**32
    correlation = np.corrcoef(uniform) - np.eye(len(streams))
    assert abs(correlation).max() < 5 / math.sqrt(2000)


def test_bits_are_uniform():
    drawn = random_bits(200_000, Key(7, "uniform"))
    counts = np.bincount(drawn >> 24, minlength=256)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert 150 < chi_square < 375  # 255 degrees of freedom: five sigma either way
    for bit in range(32):
        assert abs(((drawn >> bit) & 1).mean() - 0.5) < 5 * 0.5 / math.sqrt(200_000), bit


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.5, 0.93, 1.0])
def test_keep_mask_share(keep):
    mask = keep_mask((400, 500), keep, Key(1, "mask"))
    assert mask.dtype == bool and mask.shape == (400, 500)
    assert abs(mask.mean() - keep) <= 5 * math.sqrt(keep * (1 - keep) / mask.size)


def test_masks_of_two_rates_are_nested():
    """The same numbers against two thresholds."""
    few, many = (keep_mask((1000,), keep, Key(1, "nested")) for keep in (0.2, 0.6))
    assert not (few & ~many).any() and many.sum() > few.sum()


@given(st.floats(0, 1), st.lists(st.integers(0, 4), max_size=3).map(tuple), keys)
def test_keep_mask_for_any_rate_and_shape(keep, shape, key):
    mask = keep_mask(shape, keep, key)
    assert mask.shape == shape and mask.dtype == bool
    np.testing.assert_array_equal(mask, keep_mask(shape, keep, key))
    if keep in (0.0, 1.0):
        assert (mask == bool(keep)).all()


@pytest.mark.parametrize("keep", [1 - 1e-12, np.nextafter(1.0, 0.0), 1e-12])
def test_keep_mask_close_to_the_ends(keep):
    assert keep_mask((100,), keep, Key(0, "edge")).mean() == round(keep)


def test_stream_ids_do_not_change():
    """Every published result depends on them: CRC-32, not Python's hash."""
    assert stream_id("") == 0 and stream_id("dropout_1") == 128537145
    assert stream_id("123456789") == 0xCBF43926  # the check value of CRC-32


def test_generators_do_not_change():
    """The first numbers of known generators: initial weights of all published results depend on them."""
    reference = np.random.default_rng(
        np.random.SeedSequence(3, spawn_key=(stream_id("init"), stream_id("dense"), 4))
    )
    np.testing.assert_array_equal(generator(3, "init", "dense", 4).random(5), reference.random(5))
    assert generator(0, "shuffle", 0).permutation(8).tolist() == [0, 3, 6, 4, 5, 7, 1, 2]
    np.testing.assert_allclose(
        generator(1, "init", "dense", "weight").random(2), [0.83888878609, 0.16056420248]
    )


def test_bits_do_not_change():
    assert random_bits(3, Key(5, "dropout", 2, 1)).tolist() == [517706524, 3166521057, 2252083067]


def test_generators_differ_by_seed_and_name():
    draws = {
        tuple(generator(*key).integers(0, 2**62, 2))
        for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", 1), (0, "a", "b"), (0, "b", "a")]
    }
    assert len(draws) == 7


def test_fresh_keys_never_repeat():
    assert len({rng.fresh_key("x") for _ in range(100)}) == 100
