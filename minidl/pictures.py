"""What figures and reports need of arrays before anything is drawn: checked, on the CPU, in 0..1, in tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .autograd import Tensor
from .backend import to_numpy
from .checks import positive_integer
from .layers.base import Layer
from .shapes import ShapeError, bind

COLUMNS = 8  # tiles in a row
FILL = 0.92  # of the width of a column is picture; the rest is the gap


class Tiles(NamedTuple):
    """Pictures (N, H, W) or (N, H, W, 3) in 0..1 for a grid, with as many captions. Lengths are in columns."""

    tiles: np.ndarray
    captions: list[str]
    head: str

    @property
    def lines(self) -> int:
        """Lines of text that the longest caption takes."""
        return max((text.count("\n") + bool(text) for text in self.captions), default=0)

    def height(self, lines: int) -> float:
        """Of the grid, with room for so many lines above each picture; a little if there is none."""
        return -(-len(self.tiles) // COLUMNS) * self._step(lines) or 0.2

    def places(self, lines: int) -> Iterator[tuple[np.ndarray, str, tuple[float, float, float]]]:
        """Each picture and its caption with (left, top, height) of the picture."""
        step = self._step(lines)
        picture = step - 0.06 - 0.14 * lines
        for i, (tile, caption) in enumerate(zip(self.tiles, self.captions, strict=True)):
            yield tile, caption, (i % COLUMNS, i // COLUMNS * step + step - 0.06 - picture, picture)

    def _step(self, lines: int) -> float:
        return FILL * self.tiles.shape[1] / self.tiles.shape[2] + 0.06 + 0.14 * lines


def metrics(history: Any) -> dict[str, list[float]]:
    """The curves of a History, or of a dict such as its ``.history``: one float an epoch.

    Raises
    ------
    TypeError
        `history` is neither.
    """
    record = getattr(history, "history", history)
    if not isinstance(record, Mapping):
        raise TypeError(f"history must be what fit returned, or a dict of lists, got {history!r}")
    return {str(key): [float(value) for value in values] for key, values in record.items()}


def best_epoch(record: Mapping[str, Sequence[float]], key: str) -> int | None:
    """Index of the lowest loss or of the highest other value, NaN apart; None if there is no value."""
    values = np.asarray(record.get(key, ()), dtype=np.float64)
    if not np.isfinite(values).any():
        return None
    worst = np.inf if key.endswith("loss") else -np.inf
    values = np.where(np.isnan(values), worst, values)
    return int(values.argmin() if key.endswith("loss") else values.argmax())


def cpu_array(values: Any) -> np.ndarray:
    """A Tensor, an array of any device or a nested list, as a NumPy array."""
    return to_numpy(values.data if isinstance(values, Tensor) else values)


def class_numbers(caller: str, argument: str, values: Any) -> np.ndarray:
    """`values` checked to be class numbers, int64 (N,).

    Raises
    ------
    ValueError
        They have another shape, are no integers, or some are negative.
    """
    array = cpu_array(values)
    if array.ndim != 1 or (array.size and (array.dtype.kind not in "iu" or array.min() < 0)):
        raise ValueError(
            f"{caller}: {argument} must be class numbers, integers >= 0 of shape (N,), got {array.dtype} "
            f"{array.shape}; of one-hot rows or logits take argmax(axis=1)"
        )
    return array.astype(np.int64)


def class_labels(caller: str, class_names: Sequence[str] | None, classes: int) -> list[str]:
    """A name for each class: its number, if there are no names.

    Raises
    ------
    ValueError
        Some class has no name.
    """
    if class_names is None:
        return [str(number) for number in range(classes)]
    if len(class_names) < classes:
        raise ValueError(
            f"{caller}: class_names must name all {classes} classes, 0 to {classes - 1}, got {len(class_names)}"
        )
    return [one_line(str(name)) for name in class_names]


def one_line(text: str) -> str:
    """`text` without line breaks, tabs and control characters, which no font can draw."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def check_images(caller: str, x: np.ndarray) -> None:
    """Make sure that `x` is images (N, H, W), (N, H, W, 1) or (N, H, W, 3).

    Raises
    ------
    ShapeError
        `x` has another shape.
    """
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise ShapeError(
            f"{caller}: x must be images (N, H, W) or (N, H, W, C) with C = 1 or 3, got shape {x.shape}; "
            "reshape flat rows, and move a channel axis that comes first with x.transpose(0, 2, 3, 1)"
        )


def to_unit(x: np.ndarray) -> np.ndarray:
    """Images as float64 in 0..1, grey ones without their channel axis.

    Integers are 0..255. Floats stay as they are if all lie in 0..1; else each image is stretched.
    """
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.dtype.kind in "iu":
        return np.clip(x / 255.0, 0.0, 1.0)
    x = np.nan_to_num(x.astype(np.float64), posinf=0.0, neginf=0.0)
    return x if not x.size or (x.min() >= 0 and x.max() <= 1) else stretched(x)


def stretched(tiles: np.ndarray) -> np.ndarray:
    """Each of N tiles scaled to 0..1 by its own extremes; one that is constant becomes 0.5."""
    axes = tuple(range(1, tiles.ndim))
    low, high = tiles.min(axis=axes, keepdims=True), tiles.max(axis=axes, keepdims=True)
    spread = high - low
    return np.where(spread > 0, (tiles - low) / np.where(spread > 0, spread, 1.0), 0.5)


def confusion(
    labels: Any, predictions: Any, class_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """Counts (true, predicted) and the names of the classes; see `plot.confusion_matrix`."""
    caller = "confusion_matrix"
    labels, chosen, known = class_numbers(caller, "labels", labels), cpu_array(predictions), 1
    if chosen.ndim == 2:
        known, chosen = chosen.shape[1], chosen.argmax(axis=1)
    chosen = class_numbers(caller, "predictions", chosen)
    bind(caller, labels=("N", labels), predictions=("N", chosen))
    highest = int(max(labels.max(initial=0), chosen.max(initial=0)))
    classes = max(known, len(class_names or ()), highest + 1)
    counts = np.bincount(labels * classes + chosen, minlength=classes**2).reshape(classes, classes)
    return counts, [_shortened(name, 24) for name in class_labels(caller, class_names, classes)]


def filter_tiles(source: Any, limit: int) -> Tiles:
    """The filters of the first convolution; see `plot.filters`."""
    positive_integer("filters", "limit", limit)
    weight, name = source, "weight"
    if isinstance(source, Layer):
        found = [(key, p) for key, p in source.named_parameters() if p.ndim == 4]
        if not found:
            raise ValueError(
                f"filters: needs a layer with a weight (KH, KW, C, F), found none in {type(source).__name__}; "
                "if it has convolutions, give Sequential an input_shape or call the model once"
            )
        name, weight = found[0]
    weight = cpu_array(weight)
    sizes = bind("filters", weight=("KH KW C F", weight))
    tiles = np.moveaxis(weight.astype(np.float64), 3, 0)[:limit]  # (F, KH, KW, C)
    tiles = stretched(tiles if sizes["C"] == 3 else tiles.mean(axis=3))
    how = {1: "one channel", 3: "three channels as colours"}.get(sizes["C"], f"mean of {sizes['C']} channels")
    shown = f"{len(tiles)} of {sizes['F']}" if sizes["F"] > limit else f"{sizes['F']}"
    return Tiles(tiles, [""] * len(tiles), f"{one_line(name)}: {shown} filters, {how}")


def prediction_tiles(
    x: Any, labels: Any, logits: Any, class_names: Sequence[str] | None, count: int
) -> tuple[Tiles, Tiles]:
    """The wrong and the right predictions; see `plot.predictions`."""
    caller = "predictions"
    positive_integer(caller, "count", count)
    x, labels, scores = cpu_array(x), class_numbers(caller, "labels", labels), cpu_array(logits)
    check_images(caller, x)
    bind(caller, x=("N H W C" if x.ndim == 4 else "N H W", x), labels=("N", labels), logits=("N K", scores))
    names = class_labels(caller, class_names, max(scores.shape[1], 1 + int(labels.max(initial=0))))
    chosen, scores = scores.argmax(axis=1), scores.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinite or NaN logits: p is NaN, and shown as such
        sure = 1 / np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1)
    missed, hit = np.flatnonzero(chosen != labels), np.flatnonzero(chosen == labels)
    missed = missed[np.argsort(-sure[missed], kind="stable")]

    def block(word: str, rows: np.ndarray, order: str) -> Tiles:
        captions = [_caption(names[chosen[i]], sure[i], names[labels[i]]) for i in rows[:count]]
        return Tiles(to_unit(x[rows[:count]]), captions, f"{word}: {len(rows):,} of {len(x):,}, {order}")

    return block("Wrong", missed, "the most confident first"), block("Right", hit, "in the order of the data")


def sample_tiles(x: Any, labels: Any, class_names: Sequence[str] | None, count: int) -> Tiles:
    """The first images with their labels; see `plot.samples`."""
    positive_integer("samples", "count", count)
    x = cpu_array(x)
    check_images("samples", x)
    captions = [""] * len(x[:count])
    if labels is not None:
        numbers = class_numbers("samples", "labels", labels)
        bind("samples", x=("N H W C" if x.ndim == 4 else "N H W", x), labels=("N", numbers))
        names = class_labels("samples", class_names, 1 + int(numbers.max(initial=0)))
        captions = [_shortened(names[number], 16) for number in numbers[:count]]
    return Tiles(to_unit(x[:count]), captions, "")


def _caption(predicted: str, share: float, true: str) -> str:
    """The prediction and the truth, in one line where that fits the width of a tile, else in two."""
    line = f"{predicted} p={share:.2f} / {true}"
    return line if len(line) <= 18 else f"{_shortened(predicted, 10)} p={share:.2f}\n/ {_shortened(true, 14)}"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
