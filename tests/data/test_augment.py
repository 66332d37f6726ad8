"""Augmentations against plain loops, np.roll, np.rot90, Pillow and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.data import Compose, RandomCrop, RandomFlip, RandomRotation, RandomShift

EVERY = [
    RandomRotation(20),
    RandomRotation(20, order=1),
    RandomShift(3),
    RandomFlip(),
    RandomCrop(padding=2),
    Compose([RandomShift(1), RandomFlip()]),
]


def images(n=5, h=9, w=7, c=2, dtype=np.uint8, seed=0):
    x = np.random.default_rng(seed).integers(1, 256, (n, h, w, c))
    return x.astype(dtype)


def rng(seed=3):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("augment", EVERY, ids=lambda a: type(a).__name__)
def test_contract(augment, dtype):
    """New array, same dtype and shape, input kept, repeatable, no global random state."""
    x = images(dtype=dtype)
    x.flags.writeable = False
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    out = augment(x, rng())
    assert out.dtype == dtype and out.shape == x.shape and out.flags.writeable
    assert not np.shares_memory(out, x)
    np.testing.assert_array_equal(out, augment(x.copy(), rng()))
    assert (out != augment(x, rng(4))).any()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert augment(x[:0], rng()).shape == (0, 9, 7, 2)
    strided = np.repeat(x, 2, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(out, augment(strided, rng()))


class FixedAngle:
    """Stands in for a Generator and gives every image the same angle."""

    def __init__(self, degrees):
        self.degrees = degrees

    def uniform(self, low, high, n):
        return np.full(n, self.degrees)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("side", [6, 7])
def test_right_angles_are_rot90(turns, order, side):
    x = images(h=side, w=side)
    out = RandomRotation(180, order=order)(x, FixedAngle(90 * turns))
    np.testing.assert_array_equal(out, np.rot90(x, turns, axes=(1, 2)))


@pytest.mark.parametrize("angle", [-31.3, -7, 3.3, 7, 44])
@pytest.mark.parametrize("shape", [(28, 28), (27, 30)])
def test_nearest_rotation_is_pillows(angle, shape):
    image = pytest.importorskip("PIL.Image", reason="Pillow, the oracle, comes with minidl[plot]")
    x = images(1, *shape, 1)
    out = RandomRotation(45, fill=1)(x, FixedAngle(angle))[0, :, :, 0]
    turned = image.fromarray(x[0, :, :, 0]).rotate(angle, image.Resampling.NEAREST, fillcolor=1)
    # Pillow computes in 16-bit fixed point, so a pixel on the border between two may differ.
    assert (out != np.asarray(turned)).mean() < 0.005


@pytest.mark.parametrize("angle", [-31.3, 7])
def test_linear_rotation_is_scipys(angle):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy, the oracle, comes with minidl[svhn]")
    x = images(1, 12, 15, 1, np.float64)
    out = RandomRotation(45, fill=5, order=1)(x, FixedAngle(angle))[0, :, :, 0]
    t = np.deg2rad(angle)
    matrix = np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])
    centre = (np.array([12, 15]) - 1) / 2
    expected = ndimage.affine_transform(
        x[0, :, :, 0], matrix, centre - matrix @ centre, order=1, mode="grid-constant", cval=5
    )
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-9)
    rounded = RandomRotation(45, fill=5, order=1)(x.astype(np.uint8), FixedAngle(angle))
    assert abs(rounded[0, :, :, 0] - expected).max() <= 0.5 + 1e-9


def test_angles_are_uniform_between_the_bounds():
    class Spy:
        def uniform(self, *arguments):
            self.arguments = arguments
            return np.zeros(arguments[2])

    spy = Spy()
    RandomRotation(7)(images(), spy)
    assert spy.arguments == (-7, 7, 5)


def test_shift_is_roll_with_fill():
    x = images(200)
    out = RandomShift(2, fill=0)(x, rng())
    seen = set()
    for before, after in zip(x, out, strict=True):
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                moved = np.roll(before, (dy, dx), axis=(0, 1))
                moved[: max(dy, 0)] = 0
                moved[9 + min(dy, 0) :] = 0
                moved[:, : max(dx, 0)] = 0
                moved[:, 7 + min(dx, 0) :] = 0
                if (moved == after).all():
                    seen.add((dy, dx))
                    break
            else:
                continue
            break
        else:
            pytest.fail("an image was not merely shifted")
    assert len(seen) == 25


def test_flip_mirrors_about_half():
    x = images(1000, 2, 3, 1)
    out = RandomFlip()(x, rng())
    same = (out == x).all(axis=(1, 2, 3))
    mirrored = (out == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all() and 430 < mirrored.sum() < 570
    np.testing.assert_array_equal(RandomFlip(1)(x, rng()), x[:, :, ::-1])
    np.testing.assert_array_equal(RandomFlip(0)(x, rng()), x)


@pytest.mark.parametrize(("size", "padding"), [(None, 2), (5, 0), ((4, 7), 0), ((10, 8), 1)])
def test_crop_is_a_window_of_the_padded_image(size, padding):
    x = images(300)
    out = RandomCrop(size, padding, fill=9)(x, rng())
    h, w = {None: (9, 7), 5: (5, 5)}.get(size, size)
    assert out.shape == (300, h, w, 2)
    padded = np.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=9)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(1, 2))
    hits = (windows == out.transpose(0, 3, 1, 2)[:, None, None]).all(axis=(3, 4, 5))
    assert hits.any(axis=(1, 2)).all(), "an image is no window of its own"
    assert hits.any(axis=0).all(), "some window never comes up"


def test_compose_applies_in_order_with_one_generator():
    x = images()
    one, two = rng(), rng()
    first, second = RandomShift(2), RandomRotation(30)
    expected = second(first(x, one), one)
    np.testing.assert_array_equal(Compose([first, second])(x, two), expected)
    nothing = Compose([])(x, rng())
    np.testing.assert_array_equal(nothing, x)
    assert not np.shares_memory(nothing, x)


def test_fill_reaches_the_corners():
    x = images(50, 11, 11)
    assert (RandomRotation(180, fill=0)(x, FixedAngle(45))[:, 0, 0] == 0).all()
    shifted = RandomShift(3, fill=0.25)(images(50, dtype=np.float32), rng())
    assert (shifted == 0.25).any()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**32))
def test_any_shape(h, w, pixels, seed):
    x = images(3, h, w, 1)
    for augment in (RandomRotation(30), RandomShift(pixels), RandomCrop(padding=pixels)):
        out = augment(x, rng(seed))
        assert out.shape == x.shape
        for before, after in zip(x, out, strict=True):
            assert set(after.ravel()) <= set(before.ravel()) | {0}


@pytest.mark.scenario("B74")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RandomRotation(-1), "degrees must be in 0..180, got -1"),
        (lambda: RandomRotation(float("nan")), "degrees must be"),
        (lambda: RandomRotation(5, order=2), "order must be 0 or 1, got 2"),
        (lambda: RandomShift(-1), "pixels must be >= 0"),
        (lambda: RandomFlip(1.5), "probability must be in 0..1"),
        (lambda: RandomCrop(0), "positive integers"),
        (lambda: RandomCrop(padding=-1), "padding must be >= 0"),
        (lambda: RandomCrop(10)(images(), rng()), r"window of \(10, 10\) does not fit"),
        (lambda: RandomShift(1)(images()[0], rng()), r"needs a batch \(N, H, W, C\), got shape"),
        (lambda: RandomShift(1)(images(dtype=np.int64), rng()), "uint8 or float images, got int64"),
        (lambda: RandomShift(1, fill=256)(images(), rng()), "0..255 for uint8 images, got 256"),
        (lambda: RandomShift(1, fill=0.5)(images(), rng()), "0..255 for uint8 images, got 0.5"),
    ],
)
def test_bad_arguments(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
