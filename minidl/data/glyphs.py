"""Printed digits and letters in many fonts, warped at random: a data set that needs no download.

Each character of each font is drawn once, large, in four stroke weights. An image is then one gather:
its 28x28 pixels are looked up in such a drawing through a random affine map with a smooth wobble.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from ..rng import generator
from .places import cache_folder
from .registry import DataError

KINDS = {"digits": "0123456789", "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmtt10",
)

_VERSION = 1  # raise it when the same seed gives other images, so that no old cache is read
_ZOOM = 4  # pixels of a drawing per pixel of an image
_SIDE = 28 * _ZOOM
_BOX = 20 * _ZOOM  # a character fits a box of 20 pixels, as in MNIST
_WEIGHTS = (0, 1, 2, 3)  # strokes thicker by so many pixels of the drawing at each edge
_CHUNK = 1000  # images made at a time: keeps the working set within the cache of the CPU

Split = tuple[np.ndarray, np.ndarray]


def glyphs(
    kind: str = "digits", seed: int = 0, n_train: int = 20_000, n_test: int = 4_000
) -> tuple[Split, Split]:
    """Printed characters in 18 fonts, rotated, sheared, scaled, wobbled, thickened and with noise.

    The first call draws them with matplotlib (``minidl[plot]``) in a few seconds; the result is kept in
    the cache folder if that can be written. The same seed gives the same images bit for bit (for one
    version of matplotlib, whose FreeType draws the outlines).

    Parameters
    ----------
    kind : str
        "digits" (10 classes) or "letters" (A..Z, labels 0..25).
    seed : int
        Of all random draws; train and test are drawn apart.
    n_train, n_test : int
        Number of images; the classes are as even as the number allows.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        x uint8 (N, 28, 28, 1), light strokes on black; y int64 (N,).

    Raises
    ------
    ValueError
        `kind` is neither "digits" nor "letters", or a number is negative.
    DataError
        Not cached, and matplotlib is not installed.
    """
    if kind not in KINDS:
        raise ValueError(f"glyphs: kind must be 'digits' or 'letters', got {kind!r}")
    if min(seed, n_train, n_test) < 0:
        raise ValueError(f"glyphs: seed, n_train and n_test must be >= 0, got {seed}, {n_train}, {n_test}")
    path = cache_folder() / "glyphs" / f"{kind}-{seed}-{n_train}-{n_test}-v{_VERSION}.npz"
    cached = _load(path, n_train, n_test, len(KINDS[kind]))
    if cached is not None:
        return cached
    drawings = draw(KINDS[kind])
    train = make(drawings, n_train, generator(seed, "glyphs", kind, "train"))
    test = make(drawings, n_test, generator(seed, "glyphs", kind, "test"))
    _save(path, train, test)
    return train, test


def draw(characters: str) -> np.ndarray:
    """Draw each character in each font and weight.

    Returns
    -------
    array, shape (len(characters), fonts, weights, 112, 112), uint8
        Centred by bounding box, its longer side 80 pixels, blurred just enough for 28x28 sampling.
    """
    try:
        import matplotlib
        from matplotlib.ft2font import FT2Font
    except ImportError as error:
        raise DataError(
            "glyphs are drawn with matplotlib's fonts. Install 'minidl[plot]', or use another data set."
        ) from error
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [FT2Font(str(folder / f"{name}.ttf")) for name in FONTS]
    plain = np.stack([[_draw_one(font, c) for font in fonts] for c in characters])
    weighted = np.stack([_thicken(plain, edge) for edge in _WEIGHTS], axis=2)
    return _blur(weighted)


def _draw_one(font: Any, character: str) -> np.ndarray:
    """One character, white on black, (112, 112) uint8, scaled so that its longer side is _BOX pixels."""
    from matplotlib.ft2font import LoadFlags

    size = float(_BOX)
    for _ in range(3):  # the size at which the box fits: outlines scale, so two steps are enough
        font.set_size(size, 72)
        font.set_text(character, 0.0, flags=LoadFlags.NO_HINTING)
        font.draw_glyphs_to_bitmap(antialiased=True)
        image = np.array(font.get_image(), np.uint8)
        rows, columns = (np.flatnonzero(image.max(axis=axis) > 127) for axis in (1, 0))
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if max(image.shape) == _BOX:
            break
        size *= _BOX / max(image.shape)
    canvas = np.zeros((_SIDE, _SIDE), np.uint8)
    top, left = (_SIDE - image.shape[0]) // 2, (_SIDE - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _thicken(images: np.ndarray, edge: int) -> np.ndarray:
    """Grow strokes by `edge` pixels: the maximum over a small disc."""
    out = images.copy()
    for dy in range(-edge, edge + 1):
        for dx in range(-edge, edge + 1):
            if dy * dy + dx * dx <= edge * edge + 1:
                np.maximum(out, np.roll(images, (dy, dx), axis=(-2, -1)), out=out)
    return out


def _blur(images: np.ndarray) -> np.ndarray:
    """Average over _ZOOM pixels along both axes, so that sampling every _ZOOM-th pixel does not alias."""
    wide = images.astype(np.uint16)
    for axis in (-2, -1):
        shifts = range(-(_ZOOM // 2), _ZOOM - _ZOOM // 2)
        wide = np.sum([np.roll(wide, s, axis) for s in shifts], axis=0, dtype=np.uint16)
    return (wide // _ZOOM**2).astype(np.uint8)


def make(drawings: np.ndarray, n: int, rng: np.random.Generator) -> Split:
    """`n` random images of the drawings, classes evenly spread, in random order."""
    classes = len(drawings)
    y = rng.permutation(np.arange(n) % classes)
    x = np.empty((n, 28, 28, 1), np.uint8)
    for start in range(0, n, _CHUNK):
        x[start : start + _CHUNK, :, :, 0] = _make_chunk(drawings, y[start : start + _CHUNK], rng)
    return x, y.astype(np.int64)


def _make_chunk(drawings: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(len(y), 28, 28) uint8 images of the classes `y`."""
    n = len(y)
    font = rng.integers(0, drawings.shape[1], n)
    weight = rng.integers(0, drawings.shape[2], n)
    source_y, source_x = _map(n, rng)
    top, left = np.floor(source_y).astype(np.int32), np.floor(source_x).astype(np.int32)
    down, right = source_y - top, source_x - left
    flat = drawings.reshape(-1)
    first = ((y * drawings.shape[1] + font) * drawings.shape[2] + weight)[:, None, None]
    corner = first * _SIDE**2 + top * _SIDE + left
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + _SIDE] * (1 - right) + flat[corner + _SIDE + 1] * right
    light = upper * (1 - down) + lower * down  # (N, 28, 28)
    light *= rng.uniform(0.75, 1, (n, 1, 1)).astype(np.float32)
    spread = rng.uniform(0, 14, (n, 1, 1)).astype(np.float32)
    light += spread * rng.standard_normal(light.shape, dtype=np.float32)
    return np.rint(light.clip(0, 255)).astype(np.uint8)


def _map(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where in the drawing each pixel of `n` images comes from: rows and columns, (N, 28, 28) float32."""
    angle = np.deg2rad(rng.uniform(-15, 15, n))
    shear = rng.uniform(-0.2, 0.2, n)
    scale_y, scale_x = rng.uniform(0.8, 1.05, n), rng.uniform(0.75, 1.05, n)
    shift_y, shift_x = rng.uniform(-1.5, 1.5, (2, n))
    cos, sin = np.cos(angle), np.sin(angle)
    # Rows of the inverse map: rotate back, shear, then scale to pixels of the drawing.
    matrix = np.array([[cos, sin], [shear * cos - sin, shear * sin + cos]])
    matrix *= _ZOOM / np.array([[scale_y], [scale_x]])
    matrix = matrix.astype(np.float32)[..., None, None]
    grid = np.arange(28, dtype=np.float32) - 13.5
    y = grid[:, None] - shift_y.astype(np.float32)[:, None, None]
    x = grid[None, :] - shift_x.astype(np.float32)[:, None, None]
    centre, limit = (_SIDE - 1) / 2, _SIDE - 1.001
    maps = []
    for row in matrix:
        source = row[0] * y + row[1] * x + _wobble(n, rng) + np.float32(centre)
        maps.append(source.clip(0, np.float32(limit)))  # the border of every drawing is black
    return maps[0], maps[1]


def _wobble(n: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth displacement in pixels of the drawing, (N, 28, 28): random on a 4x4 grid, interpolated."""
    coarse = rng.normal(0, 0.6 * _ZOOM, (n, 4, 4)).astype(np.float32)
    position = np.linspace(0, 2.999, 28)
    below = position.astype(int)
    part = (position - below).astype(np.float32)
    rows = coarse[:, below] * (1 - part)[:, None] + coarse[:, below + 1] * part[:, None]
    return rows[:, :, below] * (1 - part) + rows[:, :, below + 1] * part


def _load(path: Path, n_train: int, n_test: int, classes: int) -> tuple[Split, Split] | None:
    """The cached arrays, or None if there are none or the file is not what `_save` wrote."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            x_train, y_train, x_test, y_test = (
                stored[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
    except Exception:  # whatever is wrong with it, drawing again puts it right
        return None
    for x, y, n in ((x_train, y_train, n_train), (x_test, y_test, n_test)):
        if x.shape != (n, 28, 28, 1) or x.dtype != np.uint8 or y.shape != (n,):
            return None
        if y.dtype != np.int64 or (n and not 0 <= y.min() <= y.max() < classes):
            return None
    return (x_train, y_train), (x_test, y_test)


def _save(path: Path, train: Split, test: Split) -> None:
    """Keep the arrays for the next call; a cache that cannot be written only costs time, so no error."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
