"""Looking at a model: the summary table."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from .layers.base import Layer, Parameter, inference


def summary(model: Layer, input_shape: tuple[int, ...] | None = None, width: int = 80) -> str:
    """A table of the layers with output shapes and parameter counts, in the form that Keras made common.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int, optional
        Shape of one sample; needed only if the model has not seen any input yet.
    width : int
        Characters across.

    Returns
    -------
    str
        To be printed. "Non-trainable" counts frozen parameters and buffers (running averages).
    """
    shapes = [tuple(input_shape)] if input_shape is not None else model._input_shapes
    if shapes is None:
        raise ValueError("summary: the model has not been built; give input_shape=(H, W, C) or call it once")
    outputs = _output_shapes(model, shapes)
    rows = []
    for path, layer in model.named_layers():
        values = [
            v
            for k, v in vars(layer).items()
            if not k.startswith("_")
            and (isinstance(v, (Parameter, np.ndarray)) or hasattr(v, "__cuda_array_interface__"))
        ]
        leaf = next(layer.named_children(), None) is None
        if leaf or values:
            label = f"{path or layer.name or type(layer).__name__.lower()} ({type(layer).__name__})"
            frozen = " frozen" if layer._frozen and values else ""
            rows.append((label, outputs.get(id(layer), "?"), f"{sum(v.size for v in values):,}{frozen}"))
    name = model.name or type(model).__name__.lower()
    return f'Model: "{name}"\n{_table(rows, width)}\n{_totals(model)}'


def _output_shapes(model: Layer, shapes: list[tuple[int, ...]]) -> dict[int, str]:
    """Run one sample of zeros through the model and note what each layer gives."""
    found: dict[int, str] = {}

    def note(layer: Layer, y: Any) -> None:
        shape = getattr(y, "shape", None)
        found[id(layer)] = (
            "?" if shape is None else f"(None, {', '.join(map(str, shape[1:]))})".replace(", )", ",)")
        )

    layers = [layer for _, layer in model.named_layers()]
    for layer in layers:
        layer._watch = note
    try:
        with inference(model):
            device = next((p.device for p in model.parameters()), "cpu")
            model(*[_zeros(shape, device) for shape in shapes])
    finally:
        for layer in layers:
            layer._watch = None
    return found


def _zeros(shape: tuple[int, ...], device: str) -> Any:
    from .backend import to_device

    return to_device(np.zeros((1, *shape), np.float32), device)


def _table(rows: list[tuple[str, str, str]], width: int) -> str:
    """Boxed columns; a name too long for its column goes over several lines."""
    head = ("Layer (type)", "Output Shape", "Param #")
    last = max(len(r[2]) for r in [head, *rows])
    middle = max(len(r[1]) for r in [head, *rows])
    widths = (max(width - last - middle - 10, 12), middle, last)
    lines = [_rule("┏┳┓", "━", widths), _line(head, widths, "┃"), _rule("┡╇┩", "━", widths)]
    for i, row in enumerate(rows):
        if i:
            lines.append(_rule("├┼┤", "─", widths))
        for j, part in enumerate(textwrap.wrap(row[0], widths[0], break_long_words=True) or [""]):
            lines.append(_line((part, row[1] if not j else "", row[2] if not j else ""), widths, "│"))
    return "\n".join([*lines, _rule("└┴┘", "─", widths)])


def _line(cells: tuple[str, str, str], widths: tuple[int, int, int], bar: str) -> str:
    first, second, third = cells
    return f"{bar} {first:<{widths[0]}} {bar} {second:<{widths[1]}} {bar} {third:>{widths[2]}} {bar}"


def _rule(corners: str, dash: str, widths: tuple[int, int, int]) -> str:
    return corners[0] + corners[1].join(dash * (w + 2) for w in widths) + corners[2]


def _totals(model: Layer) -> str:
    values = {id(v): v for _, v in model._named_values()}.values()
    kinds = {
        "Total params": list(values),
        "Trainable params": [v for v in values if isinstance(v, Parameter) and v.requires_grad],
        "Non-trainable params": [v for v in values if not (isinstance(v, Parameter) and v.requires_grad)],
    }
    return "\n".join(
        f" {title}: {sum(v.size for v in group):,} ({_bytes(sum(v.size * v.dtype.itemsize for v in group))})"
        for title, group in kinds.items()
    )


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
