"""One HTML page for one training run: results, settings, model, curves, mistakes, and where it ran.

The page is one file without scripts or links: it can be mailed, archived, and opened in ten years.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import pictures, plot
from .environment import environment
from .files import write_atomically
from .inspect import summary
from .layers.base import Layer

__all__ = ["environment", "write_report"]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --page: #fafaf8; --card: #fff; --ink: #1d2126; --soft: #626b75; --line: #dddfe2;
  --mark: #0072b2; --best: #fdf0e6; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1d2125; --ink: #e5e8eb; --soft: #9aa4ae;
  --line: #343a40; --mark: #6cb8e6; --best: #3b2a1c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
header p, figcaption { color: var(--soft); margin: .4rem 0 0; }
figcaption { font-size: .9rem; }
.results { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.75rem 0 0; }
.results div { flex: 1 1 max(130px, 22%); background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.results dt { color: var(--soft); font-size: .85rem; }
.results dd { margin: .1rem 0 0; font-size: 1.45rem; font-weight: 600; color: var(--mark); overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; line-height: 1.3; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 0 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .32rem .9rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { color: var(--soft); font-weight: 400; width: 38%; }
td { overflow-wrap: anywhere; }
.numbers th, .numbers td { text-align: right; padding: .32rem .9rem; font-variant-numeric: tabular-nums;
  white-space: nowrap; width: auto; }
.numbers .best { background: var(--best); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; overflow-x: auto;
  font: 13px/1.2 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; margin: 0; }
figure { margin: 0; }
figure .wide { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: .75rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 640px) { figure img { max-width: none; width: 640px; }
  .numbers th, .numbers td { padding: .32rem .5rem; } }
@media print { body { background: #fff; } h2, figure, tr { break-inside: avoid; } }
"""


def write_report(
    path: str | os.PathLike[str],
    *,
    model: Layer,
    history: Any,
    settings: Mapping[str, Any],
    x_test: Any = None,
    y_test: Any = None,
    predictions: Any = None,
    class_names: Sequence[str] | None = None,
    title: str = "Training report",
    results: Mapping[str, Any] | None = None,
) -> None:
    """Write a self-contained HTML report of one run.

    Parameters
    ----------
    path : path
        Usually ``report.html``; written whole or not at all.
    model : Layer
    history : History or dict of list of float
        What `fit` returned.
    settings : dict
        What the run was made with: data set, optimiser, seed, ...; any values, shown as text.
    x_test : array, shape (N, H, W, C), optional
        The pictures behind `predictions`; data of other shapes are not shown.
    y_test : array of int, shape (N,), optional
    predictions : array, shape (N, K), optional
        Logits, ``dl.predict(model, x_test)``. With `y_test` they give the confusion matrix.
    class_names : sequence of str, optional
    title : str
    results : dict, optional
        Headline numbers, shown first; a value between 0 and 1 called accuracy is shown in per cent.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError, ShapeError
        `y_test`, `predictions` and `x_test` do not fit together.
    OSError
        The file cannot be written.
    """
    record = pictures.metrics(history)
    seconds = list(getattr(history, "seconds", ()))
    head = dict(results or {})
    parts = [("Model", f"<pre>{escape(_summary(model))}</pre>")]
    if any(record.get(key) for key in ("loss", "accuracy", "val_loss", "val_accuracy")):
        caption = (
            "Training values are averages over an epoch, while the weights move; validation comes after it."
        )
        parts.append(("Learning curves", _picture(plot.curves(history), "learning curves", caption)))
    if any(record.values()):
        parts.append(("Epochs", _epochs(record, seconds)))
    if y_test is not None and predictions is not None:
        logits, labels = pictures.cpu_array(predictions), pictures.cpu_array(y_test)
        if labels.ndim == 1 and labels.dtype.kind in "iu" and logits.ndim == 2 and logits.shape[1] > 1:
            figure = plot.confusion_matrix(labels, logits, class_names)
            head.setdefault("test accuracy", float((logits.argmax(axis=1) == labels).mean()))
            parts.append(
                ("Confusion matrix", _picture(figure, "confusion matrix", "Rows are the true classes."))
            )
            if x_test is not None and _are_images(x_test):
                figure = plot.predictions(x_test, labels, logits, class_names)
                caption = "Above each picture: the prediction, its probability, and the true class."
                parts.append(("Predictions", _picture(figure, "wrong and right predictions", caption)))
    if any(parameter.ndim == 4 for parameter in model.parameters()):
        caption = "The scale of each filter goes from its own lowest weight to its highest."
        parts.append(
            ("First filters", _picture(plot.filters(model), "filters of the first convolution", caption))
        )
    page = _page(title, _headline(head, record, seconds, model), settings, environment(), parts)
    write_atomically(path, lambda file: _write(file, page))


def _summary(model: Layer) -> str:
    try:
        return summary(model)
    except ValueError:  # never called: there are no shapes to show
        return repr(model)


def _headline(
    head: dict[str, Any], record: dict[str, list[float]], seconds: list[float], model: Layer
) -> dict[str, Any]:
    """The given results, and after them what every run has."""
    for key, text in (("val_accuracy", "best validation accuracy"), ("val_loss", "best validation loss")):
        best = pictures.best_epoch(record, key)
        if best is not None:
            head.setdefault(text, record[key][best])
    head.setdefault("parameters", sum(model.count_parameters()))
    head.setdefault("epochs", max(map(len, record.values()), default=0))
    if seconds:
        head.setdefault("seconds per epoch", float(np.median(seconds)))
    return head


def _page(
    title: str,
    results: Mapping[str, Any],
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
    parts: list[tuple[str, str]],
) -> str:
    cards = "".join(
        f"<div><dt>{escape(str(key))}</dt><dd>{escape(_shown(key, value))}</dd></div>"
        for key, value in results.items()
    )
    where = f"{machine['date'][:16].replace('T', ' ')} · minidl {machine['minidl']} · {machine['cpu']}"
    tables = _section("Settings", _table(settings)) + _section("Environment", _table(machine))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n<p>{escape(where)}</p>\n</header>\n"
        f'<dl class="results">{cards}</dl>\n<div class="pair">\n{tables}</div>\n'
        f"{''.join(_section(*part) for part in parts)}</main>\n</body>\n</html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>\n"


def _table(facts: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th scope=row>{escape(str(key).replace('_', ' '))}</th><td>{escape(str(value))}</td></tr>"
        for key, value in facts.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _epochs(record: dict[str, list[float]], seconds: Sequence[float]) -> str:
    """One row an epoch; the one that validates best stands out."""
    columns = {**record, **({"seconds": list(seconds)} if seconds else {})}
    best = pictures.best_epoch(record, "val_accuracy" if record.get("val_accuracy") else "val_loss")
    head = "".join(f"<th scope=col>{escape(key.replace('_', ' '))}</th>" for key in ("epoch", *columns))
    rows = []
    for i in range(max(map(len, columns.values()))):
        cells = (_shown(key, values[i]) if i < len(values) else "" for key, values in columns.items())
        mark = ' class="best"' if i == best else ""
        rows.append(f"<tr{mark}><td>{i + 1}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    opened = " open" if len(rows) <= 25 else ""
    return f'<details{opened}><summary>{len(rows)} epochs</summary><div class="wide">{table}</div></details>'


def _picture(figure: Figure, alt: str, caption: str) -> str:
    """The figure inline, at twice the pixels of a plain screen."""
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=192)
    data = base64.b64encode(png.getvalue()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{alt}" width="{width}" height="{height}">'
    return f'<figure><div class="wide">{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _shown(key: str, value: Any) -> str:
    """A number as a reader wants it."""
    if isinstance(value, (float, np.floating)):
        share = "accuracy" in str(key) and 0 <= value <= 1
        return f"{value:.2%}" if share else f"{value:#.4g}"
    return (
        f"{value:,}" if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else str(value)
    )


def _are_images(x: Any) -> bool:
    shape = np.shape(x)
    return len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))


def _write(file: Path, page: str) -> None:
    file.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
