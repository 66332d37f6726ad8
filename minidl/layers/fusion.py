"""Max pooling with the convolution before it, and ahead of what keeps order: the same numbers from less work.

The largest of increasing functions of some numbers is the function of the largest (docs/adr/0014).
"""

from __future__ import annotations

from typing import Any

from ..autograd import Function, grad_enabled
from .activation import ReLU
from .base import Layer
from .conv import Conv2D
from .norm import BatchNorm
from .pool import MaxPool2D

Step = tuple[Layer, dict[str, Any]]  # a layer, and options of its `forward`


def steps(layers: list[Layer]) -> list[Step]:
    """How a chain of layers is computed: one by one if somebody watches."""
    if Function.watch is not None:
        return [(layer, {}) for layer in layers]
    plan: list[Step] = []
    for layer in layers if grad_enabled() else pooled_early(layers):
        if plan and _is_free_pool(layer) and layer._built and _can_pool(*plan[-1]):
            plan[-1] = plan[-1][0], {"max_pool": layer}
        else:
            plan.append((layer, {}))
    return plan


def pooled_early(layers: list[Layer]) -> list[Layer]:
    """`layers` with max pooling moved ahead of ReLU and batch norm.

    A backward pass could give the gradient to another one of two numbers that became equal, so this is for inference.
    """
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


def _can_pool(layer: Layer, options: dict[str, Any]) -> bool:
    """Whether the layer can do the pooling that follows, and does none yet."""
    return type(layer) is Conv2D and layer._watch is None and layer.can_pool() and not options
