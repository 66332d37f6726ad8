"""Pictures of a training run: learning curves, confusion matrix, filters, predictions.

Each function returns a matplotlib Figure, drawn by the Agg canvas without pyplot: no window opens, and no
global state changes. With `save` the figure is also written to that file, as PNG, SVG or PDF by its suffix.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import pictures
from .files import write_atomically
from .pictures import Tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Save = str | os.PathLike[str] | None

BLUE, ORANGE = "#0072B2", "#D55E00"  # of Okabe and Ito's palette: told apart with any kind of colour vision
CELL = 1.25  # inches across for one picture of a grid
_MOST_COUNTS = 64  # classes up to which a confusion matrix has room for its numbers


def curves(history: Any, *, title: str = "", save: Save = None) -> Figure:
    """Learning curves: loss and accuracy side by side, training and validation in each.

    Parameters
    ----------
    history : History or dict of list of float
        What `fit` returned, or its ``.history``. Curves that are not in it are left out.
    title : str
        Above both.
    save : path, optional

    Returns
    -------
    Figure
        The star marks the best validation value: lowest loss, highest accuracy. Epochs count from 1.

    Raises
    ------
    ValueError
        `history` has neither losses nor accuracies.
    """
    record = pictures.metrics(history)
    panels = [key for key in ("loss", "accuracy") if record.get(key) or record.get(f"val_{key}")]
    if not panels:
        raise ValueError(f"curves: history needs loss or accuracy of one epoch, got {sorted(record)}")
    figure = _figure(5.2 * len(panels), 3.8 + 0.4 * bool(title))
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for ax, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        last = 1
        for values, label, colour, dash in (
            (record.get(key), "training", BLUE, "--"),
            (record.get(f"val_{key}"), "validation", ORANGE, "-"),
        ):
            if values:
                dot = "o" if len(values) <= 30 else None
                epochs, last = range(1, len(values) + 1), max(last, len(values))
                ax.plot(epochs, values, dash, color=colour, marker=dot, markersize=3.5, label=label)
        best = pictures.best_epoch(record, f"val_{key}")
        if best is not None:
            value = record[f"val_{key}"][best]
            text = f"{value:.2%}" if key == "accuracy" else f"{value:.4g}"
            star = {"marker": "*", "markersize": 13, "markeredgecolor": "white", "linestyle": "none"}
            ax.plot([best + 1], [value], color=ORANGE, label=f"best: {text}, epoch {best + 1}", **star)
        ax.set(xlabel="epoch", title=key, xlim=(0.5, last + max(0.5, 0.03 * last)))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if key == "accuracy":
            ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    if title:
        figure.suptitle(pictures.one_line(title), parse_math=False)
    return _finish(figure, save)


def confusion_matrix(
    labels: Any, predictions: Any, class_names: Sequence[str] | None = None, *, save: Save = None
) -> Figure:
    """Which classes are taken for which: rows are the true classes, columns the predicted ones.

    Parameters
    ----------
    labels : array of int, shape (N,)
    predictions : array of int, shape (N,), or of float, shape (N, K)
        Class numbers, or logits.
    class_names : sequence of str, optional
        One name a class, by class number.
    save : path, optional

    Returns
    -------
    Figure
        The numbers are counts (left out above 64 classes); the colour is the share of the row.

    Raises
    ------
    ValueError, ShapeError
        Class numbers are no integers >= 0, lengths differ, or a class has no name.
    """
    counts, names = pictures.confusion(labels, predictions, class_names)
    classes, right, total = len(counts), int(np.trace(counts)), int(counts.sum())
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    cell = float(np.clip(10.5 / classes, 0.36, 0.6)) if classes <= _MOST_COUNTS else 10.5 / classes
    side, longest = classes * cell, max(map(len, names))
    figure = _figure(max(side, 2.5) + 1.9 + 0.07 * longest, max(side, 2.5) + 1.0 + 0.07 * longest)
    from matplotlib.colors import PowerNorm

    ax = figure.subplots()
    norm = PowerNorm(
        0.5, 0, 1
    )  # the square root: one mistake in a hundred must be seen beside a full diagonal
    image = ax.imshow(share, cmap="Blues", norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, ax=ax, shrink=0.6, aspect=25, pad=0.02, label="share of the true class")
    bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1%", "5%", "20%", "50%", "100%"])
    bar.outline.set_visible(False)
    if classes <= _MOST_COUNTS:
        size = min(10.0, 72 * cell * 1.3 / max(len(str(counts.max())), 3))
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.3 else "black" if count else "#b5b5b5"
            text = ax.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
            text.set_in_layout(False)  # it lies inside the axes: no need to measure it
        turned: dict[str, Any] = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 3 else {}
        )
        ax.set_xticks(range(classes), names, fontsize=9, parse_math=False, **turned)
        ax.set_yticks(range(classes), names, fontsize=9, parse_math=False)
    ax.set(xlabel="predicted", ylabel="true")
    ax.set_title(f"{right:,} of {total:,} right ({right / max(total, 1):.2%})", fontsize=11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return _finish(figure, save)


def filters(source: Any, *, limit: int = 64, save: Save = None) -> Figure:
    """The filters of the first convolution, each stretched to 0..1 on its own.

    Parameters
    ----------
    source : Layer or array, shape (KH, KW, C, F)
        A model or layer, whose first weight with four axes is taken, or a weight.
    limit : int
        No more than so many filters are drawn.
    save : path, optional

    Returns
    -------
    Figure
        In colour where C is 3, else grey: the one channel, or the mean over the channels. A filter whose
        numbers are all the same is mid-grey.

    Raises
    ------
    ValueError, ShapeError
        There is no convolution, or its weight has not been made yet.
    """
    return _grid([pictures.filter_tiles(source, limit)], 0.8, save)


def predictions(
    x: Any,
    labels: Any,
    logits: Any,
    class_names: Sequence[str] | None = None,
    *,
    count: int = 16,
    wrong: bool | None = None,
    save: Save = None,
) -> Figure:
    """Test pictures with what the model makes of them, "predicted p=0.98 / true".

    Parameters
    ----------
    x : array, shape (N, H, W, C) or (N, H, W)
        Integers are 0..255, floats 0..1; floats beyond 0..1 are stretched, each picture on its own.
    labels : array of int, shape (N,)
    logits : array, shape (N, K)
        What `predict` returned; p is their softmax.
    class_names : sequence of str, optional
    count : int
        Pictures of each kind.
    wrong : bool, optional
        True draws only wrong predictions, False only right ones, None both, the wrong ones above.
    save : path, optional

    Returns
    -------
    Figure
        Wrong predictions begin with the most confident one; right ones come in the order of the data.

    Raises
    ------
    ValueError, ShapeError
        Shapes do not fit together, or a class has no name.
    """
    missed, hit = pictures.prediction_tiles(x, labels, logits, class_names, count)
    return _grid([missed, hit] if wrong is None else [missed if wrong else hit], CELL, save)


def samples(
    x: Any,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    *,
    count: int = 16,
    save: Save = None,
) -> Figure:
    """The first `count` pictures of a data set, with their labels; arguments as in `predictions`."""
    return _grid([pictures.sample_tiles(x, labels, class_names, count)], CELL, save)


def _figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("plots need matplotlib, not installed: pip install 'minidl[plot]'") from error
    room = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches around each axes: no text is cut off
    figure = Figure(figsize=(width, height), layout=room)
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Figure, save: Save) -> Figure:
    if save is not None:
        suffix = Path(save).suffix[1:] or "png"
        write_atomically(save, lambda path: figure.savefig(path, format=suffix, dpi=150))
    return figure


def _grid(blocks: list[Tiles], cell: float, save: Save) -> Figure:
    """The tiles of each block on an axes of their own, one under the other; a tile is `cell` inches wide."""
    lines = max(block.lines for block in blocks)  # the same for all, so that all tiles have one size
    heights = [block.height(lines) * cell + 0.35 * bool(block.head) for block in blocks]
    figure = _figure(pictures.COLUMNS * cell + 0.2, sum(heights) + 0.2 * len(blocks))
    axes = figure.subplots(len(blocks), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, block in zip(axes, blocks, strict=True):
        for tile, caption, (left, top, height) in block.places(lines):
            box = (left, left + pictures.FILL, top + height, top)
            ax.imshow(tile, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=box)
            centre = {"ha": "center", "va": "bottom", "fontsize": 8, "parse_math": False}
            ax.text(left + pictures.FILL / 2, top - 0.03, caption, **centre)
        if not len(block.tiles):
            ax.text(0, 0, "none", va="top", fontsize=10, fontstyle="italic")
        ax.set_title(block.head, loc="left", fontsize=11, parse_math=False)
        ax.set(xlim=(0, pictures.COLUMNS), ylim=(block.height(lines), 0), aspect="equal", anchor="NW")
        ax.set_axis_off()
    return _finish(figure, save)
