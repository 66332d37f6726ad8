"""The drawn data set: what it looks like, that it repeats, and its cache."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from minidl import data
from minidl.data import DataError
from minidl.rng import generator

pytest.importorskip("matplotlib", reason="glyphs are drawn from its fonts: minidl[plot]")
glyphs_module = sys.modules["minidl.data.glyphs"]


@pytest.fixture(scope="module")
def digits():
    return glyphs_module.draw("0123456789")


@pytest.fixture(scope="module")
def letters():
    return glyphs_module.draw("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def make(drawings, n, *names, seed=0):
    return glyphs_module.make(drawings, n, generator(seed, *names))


def test_shapes_types_and_even_classes(places):
    (x, y), (x_test, y_test) = data.glyphs("letters", n_train=260, n_test=53)
    assert x.shape == (260, 28, 28, 1) and x_test.shape == (53, 28, 28, 1)
    assert x.dtype == np.uint8 and y.dtype == np.int64 and x.flags.c_contiguous
    assert np.bincount(y).tolist() == [10] * 26
    assert set(np.bincount(y_test, minlength=26)) == {2, 3}
    assert not (np.diff(y) == 1).all(), "the classes come in random order"


def test_same_seed_same_bits_and_other_seed_other_images(digits):
    x, y = make(digits, 1500, "train")
    again_x, again_y = make(digits, 1500, "train")
    np.testing.assert_array_equal(x, again_x)
    np.testing.assert_array_equal(y, again_y)
    other = make(digits, 1500, "train", seed=1)[0]
    assert (x != other).any(axis=(1, 2, 3)).all()


def test_train_and_test_share_no_image():
    (x, _), (x_test, _) = data.glyphs("digits", n_train=400, n_test=400)
    train = {image.tobytes() for image in x}
    assert len(train) == 400 and not train & {image.tobytes() for image in x_test}


@pytest.mark.parametrize("kind", ["digits", "letters"])
def test_characters_are_whole_centred_and_of_the_right_size(kind, request):
    x, _ = make(request.getfixturevalue(kind), 2000, "train")
    ink = x[..., 0] > 100
    assert ink.any(axis=(1, 2)).all(), "an image without a character"
    edges = [ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]]
    clipped = np.concatenate(edges, axis=1).any(axis=1)
    assert clipped.mean() < 0.03
    rows = ink.any(axis=2)
    height = 28 - rows.argmax(axis=1) - rows[:, ::-1].argmax(axis=1)
    assert 17 < np.median(height) < 22
    mass = x[..., 0].astype(float)
    for axis in (1, 2):
        profile = mass.sum(axis=3 - axis)
        centre = (profile * np.arange(28)).sum(axis=1) / profile.sum(axis=1)
        assert abs(np.median(centre) - 13.5) < 1 and np.std(centre) < 3


@pytest.mark.parametrize(("kind", "at_least"), [("digits", 0.93), ("letters", 0.85)])
def test_it_can_be_learned(kind, at_least, request):
    """Nearest neighbour on blurred pixels: far above chance, below perfect."""
    drawings = request.getfixturevalue(kind)
    (x, y), (x_test, y_test) = make(drawings, 4000, "train"), make(drawings, 300, "test")

    def features(images):
        small = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
        small = small.reshape(len(images), -1)
        return small / np.linalg.norm(small, axis=1, keepdims=True)

    nearest = (features(x_test) @ features(x).T).argmax(axis=1)
    accuracy = (y[nearest] == y_test).mean()
    assert at_least < accuracy


def test_every_font_draws_every_character_apart(letters):
    flat = letters[:, :, 0].reshape(26, len(glyphs_module.FONTS), -1).astype(np.float32)
    assert (flat.max(axis=2) > 150).all()
    for font in range(flat.shape[1]):
        shapes = flat[:, font] / np.linalg.norm(flat[:, font], axis=1, keepdims=True)
        likeness = shapes @ shapes.T - np.eye(26)
        assert likeness.max() < 0.985, glyphs_module.FONTS[font]


def test_cache_is_read_back_and_a_damaged_one_replaced(places, monkeypatch):
    first = data.glyphs("digits", n_train=50, n_test=10)
    (path,) = (places.cache / "glyphs").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(glyphs_module, "draw", lambda characters: pytest.fail("drawn again"))
        for (x, y), (cached_x, cached_y) in zip(
            first, data.glyphs("digits", n_train=50, n_test=10), strict=True
        ):
            np.testing.assert_array_equal(x, cached_x)
            np.testing.assert_array_equal(y, cached_y)
    good = path.read_bytes()
    for bad in (b"", good[:1000], b"PK" + good[500:], good[:500] + b"\xff\xff" + good[502:]):
        path.write_bytes(bad)
        again = data.glyphs("digits", n_train=50, n_test=10)
        np.testing.assert_array_equal(first[0][0], again[0][0])
        assert path.read_bytes() == good
    np.savez(path, x_train=np.zeros(3), y_train=1, x_test=2, y_test=3)
    np.testing.assert_array_equal(first[0][0], data.glyphs("digits", n_train=50, n_test=10)[0][0])
    assert len(list((places.cache / "glyphs").iterdir())) == 1, "no temporary file is left"


def test_unwritable_cache_only_costs_time(places):
    places.cache.write_text("a file where the folder should be")
    assert data.glyphs("digits", n_train=20, n_test=10)[0][0].shape == (20, 28, 28, 1)


def test_full_disk_leaves_no_temporary_file(places, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(data.glyphs("digits", n_train=20, n_test=10)[0][0]) == 20
    assert list((places.cache / "glyphs").iterdir()) == []


def test_bad_arguments():
    with pytest.raises(ValueError, match="kind must be 'digits' or 'letters', got 'digit'"):
        data.glyphs("digit")
    with pytest.raises(ValueError, match="must be >= 0, got -1, 20000, 4000"):
        data.glyphs(seed=-1)
    with pytest.raises(ValueError, match="must be >= 0"):
        data.glyphs(n_test=-1)


def test_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.ft2font", None)
    with pytest.raises(DataError, match=r"minidl\[plot\]"):
        data.glyphs("digits", seed=99)
