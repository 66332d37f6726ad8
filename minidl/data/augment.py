"""Random changes to batches of images: ``augment(batch, rng) -> new batch``.

A batch is (N, H, W, C), uint8 or float; the result has its dtype and the batch is never written. All
randomness comes from `rng`, a NumPy Generator, one draw per image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..backend import Array, array_module

Augmentation = Callable[[Array, np.random.Generator], Array]


class RandomRotation:
    """Rotate each image about its centre by an angle uniform in [-degrees, degrees].

    Positive angles turn counter-clockwise. What comes in from outside is `fill`, a pixel value.

    Parameters
    ----------
    degrees : float
    fill : float
    order : int
        0 takes the nearest pixel, 1 interpolates linearly between four.
    """

    def __init__(self, degrees: float, fill: float = 0, order: int = 0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"RandomRotation: degrees must be in 0..180, got {degrees}")
        if order not in (0, 1):
            raise ValueError(f"RandomRotation: order must be 0 or 1, got {order}")
        self.degrees, self.fill, self.order = float(degrees), fill, order

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = _check(batch, self.fill, "RandomRotation")
        xp = array_module(batch)
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))[:, None, None]
        cos, sin = xp.asarray(np.cos(angle)), xp.asarray(np.sin(angle))
        # Where each target pixel comes from: the inverse rotation, about the centre of the image.
        y = xp.arange(h)[:, None] - (h - 1) / 2
        x = xp.arange(w)[None, :] - (w - 1) / 2
        source_y = cos * y + sin * x + (h - 1) / 2  # (N, H, W)
        source_x = cos * x - sin * y + (w - 1) / 2
        if self.order == 0:
            rows, columns = (xp.floor(s + 0.5).astype(int) for s in (source_y, source_x))
            return _gather(batch, rows, columns, self.fill)
        top, left = xp.floor(source_y), xp.floor(source_x)
        down, right = (source_y - top)[..., None], (source_x - left)[..., None]
        rows, columns = top.astype(int), left.astype(int)
        corners = [
            _gather(batch, rows + i, columns + j, self.fill).astype(float)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
        ]
        upper = corners[0] * (1 - right) + corners[1] * right
        lower = corners[2] * (1 - right) + corners[3] * right
        mixed = upper * (1 - down) + lower * down
        return (xp.rint(mixed) if batch.dtype.kind in "iu" else mixed).astype(batch.dtype)


class RandomShift:
    """Move each image by whole pixels, uniform in -pixels..pixels along both axes.

    Parameters
    ----------
    pixels : int
    fill : float
        The value of the pixels that come in.
    """

    def __init__(self, pixels: int, fill: float = 0) -> None:
        if pixels < 0:
            raise ValueError(f"RandomShift: pixels must be >= 0, got {pixels}")
        self.pixels, self.fill = pixels, fill

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = _check(batch, self.fill, "RandomShift")
        corner = -rng.integers(-self.pixels, self.pixels + 1, (n, 2))
        return _window(batch, corner, (h, w), self.fill)


class RandomFlip:
    """Mirror each image left to right with a probability.

    Parameters
    ----------
    probability : float
    """

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"RandomFlip: probability must be in 0..1, got {probability}")
        self.probability = probability

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        n = _check(batch, 0, "RandomFlip")[0]
        xp = array_module(batch)
        flip = xp.asarray(rng.random(n) < self.probability)[:, None, None, None]
        return xp.where(flip, batch[:, :, ::-1], batch)


class RandomCrop:
    """Cut a window at a random place of each image, after padding it on all sides.

    Parameters
    ----------
    size : int, (int, int) or None
        Height and width of the window; None keeps the size of the image.
    padding : int
        Pixels added on each side first.
    fill : float
        The value of the padding.
    """

    def __init__(self, size: int | tuple[int, int] | None = None, padding: int = 0, fill: float = 0) -> None:
        both = (size, size) if isinstance(size, int) else size
        if both is not None and (len(both) != 2 or min(both) < 1):
            raise ValueError(f"RandomCrop: size must be one or two positive integers, got {size}")
        if padding < 0:
            raise ValueError(f"RandomCrop: padding must be >= 0, got {padding}")
        self.size, self.padding, self.fill = both, padding, fill

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        n, h, w, _ = _check(batch, self.fill, "RandomCrop")
        size = self.size or (h, w)
        room = [length + 2 * self.padding - s for length, s in zip((h, w), size, strict=True)]
        if min(room) < 0:
            raise ValueError(
                f"RandomCrop: a window of {size} does not fit into images of {(h, w)} "
                f"with padding {self.padding}; use a smaller size or more padding"
            )
        corner = np.stack([rng.integers(0, r + 1, n) for r in room], axis=1) - self.padding
        return _window(batch, corner, size, self.fill)


class Compose:
    """Apply augmentations one after another.

    Parameters
    ----------
    augmentations : iterable of callables ``(batch, rng) -> batch``
    """

    def __init__(self, augmentations: Iterable[Augmentation]) -> None:
        self.augmentations = tuple(augmentations)

    def __call__(self, batch: Array, rng: np.random.Generator) -> Array:
        out = batch.copy()  # a new array even if there is nothing to apply
        for augment in self.augmentations:
            out = augment(out, rng)
        return out


def _check(batch: Array, fill: float, name: str) -> tuple[int, int, int, int]:
    if batch.ndim != 4:
        raise ValueError(f"{name}: needs a batch (N, H, W, C), got shape {batch.shape}")
    if batch.dtype.kind not in "uf":
        raise ValueError(f"{name}: needs uint8 or float images, got {batch.dtype}")
    if batch.dtype.kind == "u" and not (0 <= fill <= 255 and fill == int(fill)):
        raise ValueError(f"{name}: fill must be one of 0..255 for uint8 images, got {fill}")
    return batch.shape


def _window(batch: Array, corner: np.ndarray, size: tuple[int, int], fill: float) -> Array:
    """A window of `size` from each image, its top left pixel at `corner` (N, 2), which may lie outside."""
    xp = array_module(batch)
    top, left = (xp.asarray(c)[:, None, None] for c in corner.T)
    rows, columns = top + xp.arange(size[0])[:, None], left + xp.arange(size[1])
    shape = (len(batch), *size)
    return _gather(batch, xp.broadcast_to(rows, shape), xp.broadcast_to(columns, shape), fill)


def _gather(batch: Array, rows: Array, columns: Array, fill: float) -> Array:
    """Pixel (rows, columns) of each image, (N, OH, OW) -> (N, OH, OW, C); `fill` where there is none."""
    xp = array_module(batch)
    n, h, w, _ = batch.shape
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    image = xp.arange(n)[:, None, None]
    pixels = batch[image, rows.clip(0, h - 1), columns.clip(0, w - 1)]
    return xp.where(inside[..., None], pixels, xp.asarray(fill, dtype=batch.dtype))
