"""What layers of a chain can do together: the same results from less work (docs/adr/0014, 0017, 0018).

Max pooling with the convolution before it; ahead of what keeps order, for the largest of increasing functions of some
numbers is the function of the largest; batch norm and ELU, and dropout in training, with the dense layer before them;
in inference such layers with each other.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Function, grad_enabled
from .activation import ELU, ReLU
from .base import Layer
from .conv import Conv2D
from .dense import Dense
from .dropout import Dropout
from .norm import BatchNorm
from .pool import MaxPool2D

FOLLOWERS = {MaxPool2D, BatchNorm, ELU, Dropout}  # what the layer before may do
Step = tuple[Layer, dict[str, Any]]  # a layer, and options of its `forward`


def steps(layers: list[Layer]) -> list[Step]:
    """How a chain of layers is computed: one by one if somebody watches."""
    if Function.watch is not None:
        return [(layer, {}) for layer in layers]
    plan: list[Step] = []
    recorded = grad_enabled()
    for layer in layers if recorded else pooled_early(layers):
        option = _option(layer, *plan[-1], recorded) if plan else None
        if option is None:
            plan.append((layer, {}))
        else:
            plan[-1] = plan[-1][0], plan[-1][1] | {option: layer}
    return plan if recorded else joined(plan)


def _option(layer: Layer, before: Layer, options: dict[str, Any], recorded: bool) -> str | None:
    """The option by which the layer before, with those that it has, does what this one would do; None if it cannot."""
    if (
        type(layer) not in FOLLOWERS
        or layer._watch is not None
        or before._watch is not None
        or not layer._built
    ):
        return None
    if type(layer) is MaxPool2D and type(before) is Conv2D and not options and before.can_pool():
        return "max_pool"
    if type(before) is Dense:
        if type(layer) is BatchNorm and not options and before.can_normalise(layer):
            return "norm" if (layer.looks_at_batch() if recorded else layer.is_affine()) else None
        if type(layer) is ELU and list(options) == ["norm"]:
            return "elu"
        if type(layer) is Dropout and recorded and "norm" in options and "dropout" not in options:
            return "dropout"
    return None


def joined(plan: list[Step]) -> list[Step]:
    """`plan` with dense layers joined to one before them that is followed by batch norm; for inference.

    Dropout that does nothing is left out.
    """
    result: list[Step] = []
    for layer, options in plan:
        if type(layer) is Dropout and layer._watch is None and layer._built and not layer.training:
            continue
        first, before = result[-1] if result else (layer, {})
        if type(layer) is Dense and "norm" in before and _continues(layer, first, before):
            before.setdefault("then", []).append((layer, options))
        else:
            result.append((layer, options))
    return result


def _continues(layer: Dense, first: Layer, options: dict[str, Any]) -> bool:
    """Whether a dense layer without an activation takes what the last of others makes."""
    last: Any = options["then"][-1][0] if "then" in options else first
    fits = layer.is_plain() and len(layer.weight.data) == last.units
    return fits and layer._watch is None and layer._dtype == first._dtype


def pooled_early(layers: list[Layer]) -> list[Layer]:
    """`layers` with max pooling moved ahead of ReLU and batch norm.

    A backward pass could give the gradient to another one of two numbers that became equal, so this is for inference.
    """
    if not any(_is_free_pool(layer) for layer in layers):
        return layers
    order: list[Layer] = []
    for layer in layers:
        place = len(order)
        if _is_free_pool(layer):
            while place and order[place - 1]._watch is None and _keeps_order(order[place - 1]):
                place -= 1
        order.insert(place, layer)
    return order


def _is_free_pool(layer: Layer) -> bool:
    return type(layer) is MaxPool2D and layer._watch is None


def _keeps_order(layer: Layer) -> bool:
    return type(layer) is ReLU or (type(layer) is BatchNorm and layer.keeps_order())
