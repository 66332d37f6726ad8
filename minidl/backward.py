"""The walk back over the graph that `autograd` records."""

from __future__ import annotations

from operator import attrgetter
from sys import getrefcount
from typing import TYPE_CHECKING

import numpy as np

from .backend import Array
from .kernels.reference import sum_to_shape

if TYPE_CHECKING:
    from .autograd import Edge, Function, Tensor

ALONE = 2  # references to an array that is held once: that one, and the argument of `getrefcount`


def run_backward(root: Tensor, grad: Array, retain_graph: bool) -> None:
    """Visit the nodes behind `root` newest first, so that each has its whole gradient when visited."""
    nodes: set[Function] = set()
    stack = [root.creator]
    while stack:
        node = stack.pop()
        if node is None or node in nodes:
            continue
        if node.freed:
            raise RuntimeError("backward() through a graph already freed; use backward(retain_graph=True)")
        nodes.add(node)
        stack.extend([x.creator for x in node.inputs if x is not None and x.creator is not None])
    pending: dict[Function, Array] = {}
    _deliver(root, grad, pending)
    for node in sorted(nodes, key=attrgetter("order"), reverse=True):
        if node in pending:
            node.retained = retain_graph
            _visit(node, pending)
        if not retain_graph:
            node.release()


def _visit(node: Function, pending: dict[Function, Array]) -> None:
    """One step back: from the gradient that waits for the node to those of its inputs."""
    node.check_saved()
    watch = type(node).watch_backward
    node.may_overwrite = watch is None and _seen_by_nobody_else(pending, node)
    arrived = pending.pop(node)
    try:
        grads = node.backward(arrived)
    except MemoryError as error:
        error.add_note(f"in the backward of {type(node).__name__}: use a smaller batch_size")
        raise
    grads = grads if isinstance(grads, tuple) else (grads,)
    if watch is not None:
        watch(node, arrived, grads)
    for x, needed, g in zip(node.inputs, node.needs_grad, grads, strict=True):
        if needed and g is not None:
            g = g if type(g) is np.ndarray else node.xp.asarray(g)
            g = g if g.shape == x.shape else sum_to_shape(g, x.shape)
            _deliver(x, g if g.dtype == x.dtype else g.astype(x.dtype), pending)


def _seen_by_nobody_else(pending: dict[Function, Array], node: Function) -> bool:
    """Whether `pending` holds the only reference to the gradient, and to the array whose memory it shows.

    NumPy decides in the same way whether it may write the result of ``a + b + c`` over that of ``a + b``.
    No name is given to the array here: how names are counted differs between versions of Python.
    """
    if getrefcount(pending[node]) != ALONE:
        return False
    if pending[node].base is not None and getrefcount(pending[node].base) != ALONE:
        return False
    flags = pending[node].flags
    return flags.c_contiguous and getattr(flags, "writeable", True)


def _deliver(tensor: Tensor | Edge, grad: Array, pending: dict[Function, Array]) -> None:
    """Add a gradient to the leaf's, or to what waits for the node that made the tensor."""
    node = tensor.creator
    if node is None:
        _accumulate(tensor, grad)  # type: ignore[arg-type]
    else:
        pending[node] = pending[node] + grad if node in pending else grad


def _accumulate(leaf: Tensor, grad: Array) -> None:
    """Add to ``leaf.grad``, never sharing memory with another gradient."""
    total, slot = leaf.grad, leaf.grad_slot
    if total is not None:
        total = total if total is slot else total.copy()
        total += grad
    elif slot is None:
        total = grad.copy()
    else:
        total = slot
        if grad is not slot:  # unless backward wrote it there itself
            slot[...] = grad
    leaf.grad = total
