"""Each operation of a recorded forward pass as nodes of an ONNX graph (opset 17).

ONNX convolutions want channels first. A value of four axes is therefore known in both orders, and the other one
is made by a Transpose node when an operation asks for it first; between convolutions no transposes remain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from .errors import WeightsError

TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
Handler = Callable[["Graph", Any, list[Any], Tensor], Any]
HANDLERS: dict[str, Handler] = {}


class Graph:
    """Nodes and constants, and under which names each tensor is known in them."""

    def __init__(self, parameters: dict[int, str]):
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._parameters = parameters  # by id of the array
        self._last: dict[int, str] = {}  # in our order of axes
        self._first: dict[int, str] = {}  # (N, C, H, W)
        self._kept: list[Any] = []  # so that ids stay theirs

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """An array of the file; parameters keep their names."""
        array = np.ascontiguousarray(value, dtype)
        name = name or f"constant_{len(self.constants)}"
        if name in self.constants and not np.array_equal(self.constants[name], array):
            name = f"{name}_{len(self.constants)}"
        self.constants[name] = array.reshape(np.shape(value))
        return name

    def parameter(self, tensor: Any, change: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> str:
        """A weight under its own name, perhaps with its axes in another order."""
        array = tensor._data if isinstance(tensor, Tensor) else tensor
        return self.constant(change(array), name=self._parameters.get(id(array), ""))

    def define(self, tensor: Tensor, name: str, channels_first: bool = False) -> None:
        """`tensor` is what `name` computes."""
        (self._first if channels_first else self._last)[id(tensor)] = name
        self._kept.append(tensor)

    def first(self, tensor: Tensor) -> str:
        """The name of an image with channels first."""
        if id(tensor) not in self._first:
            self._first[id(tensor)] = self.node("Transpose", [self.last(tensor)], perm=TO_FIRST)
        return self._first[id(tensor)]

    def last(self, value: Any) -> str:
        """The name of a value in our order of axes; arrays and numbers become constants."""
        if not isinstance(value, Tensor) or (id(value) not in self._last and id(value) not in self._first):
            array = value._data if isinstance(value, Tensor) else value
            kind = np.float32 if isinstance(array, float) else None
            return self.constant(array, kind, self._parameters.get(id(array), ""))
        if id(value) not in self._last:
            self._last[id(value)] = self.node("Transpose", [self._first[id(value)]], perm=TO_LAST)
        return self._last[id(value)]

    def only_first(self, tensor: Any) -> bool:
        """Whether a value is known with channels first but not yet last."""
        return id(tensor) in self._first and id(tensor) not in self._last

    def add(self, op: Function, inputs: tuple[Any, ...], out: Tensor) -> None:
        """One recorded operation."""
        kind = type(op).__name__
        if kind not in HANDLERS:
            raise WeightsError(
                f"export_onnx: {kind} has no counterpart among the nodes that are written here"
            )
        HANDLERS[kind](self, op, list(inputs), out)
        self._kept += [op, inputs]


def handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def elementwise(graph: Graph, kind: str, x: Any, out: Tensor, **attributes: Any) -> None:
    """A node for each element, in whichever order of axes the input is known."""
    first = graph.only_first(x)
    name = graph.node(kind, [graph.first(x) if first else graph.last(x)], **attributes)
    graph.define(out, name, channels_first=first)


def activated(graph: Graph, name: str, slope: float | None) -> str:
    """The (leaky) ReLU that an operation does in the same pass."""
    if slope is None:
        return name
    return graph.node("Relu", [name]) if slope == 0 else graph.node("LeakyRelu", [name], alpha=slope)


@handles("Conv2D")
def _conv(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x, w, *bias = inputs
    weights = [graph.parameter(w, lambda a: a.transpose(3, 2, 0, 1)), *(graph.parameter(b) for b in bias)]
    (top, bottom), (left, right) = op.pads
    name = graph.node(
        "Conv", [graph.first(x), *weights], strides=list(op.strides), dilations=list(op.dilation),
        group=op.groups, pads=[top, left, bottom, right],
    )  # fmt: skip
    graph.define(out, activated(graph, name, op.slope), channels_first=True)


@handles("Dense")
def _dense(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x, *weights = inputs
    name = graph.node("Gemm", [graph.last(x), *(graph.parameter(w) for w in weights)])
    graph.define(out, activated(graph, name, op.slope))


@handles("BatchNormInference")
def _norm(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x, gamma, beta = inputs
    first = x.ndim == 4
    values = [graph.parameter(v) for v in (gamma, beta, op.mean, op.var)]
    name = graph.node(
        "BatchNormalization", [graph.first(x) if first else graph.last(x), *values], epsilon=float(op.eps)
    )
    graph.define(out, name, channels_first=first)


@handles("MaxPool2D", "AvgPool2D")
def _pool(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    (top, bottom), (left, right) = op.pads
    more = {"count_include_pad": int(op.count_include_pad)} if type(op).__name__ == "AvgPool2D" else {}
    name = graph.node(
        "MaxPool" if not more else "AveragePool", [graph.first(inputs[0])], kernel_shape=list(op.kernel),
        strides=list(op.strides), pads=[top, left, bottom, right], **more,
    )  # fmt: skip
    graph.define(out, name, channels_first=True)


@handles("Resize", "AdaptiveAvgPool2D")
def _resize(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x = graph.first(inputs[0])  # (N, C, H, W): rows from the left, columns from the right
    rows = graph.node("MatMul", [graph.constant(op.rows), x])
    graph.define(out, graph.node("MatMul", [rows, graph.constant(op.columns.T)]), channels_first=True)


@handles("LeakyReLU")
def _relu(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    kind, more = ("Relu", {}) if op.slope == 0 else ("LeakyRelu", {"alpha": float(op.slope)})
    elementwise(graph, kind, inputs[0], out, **more)


@handles("ELU")
def _elu(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    elementwise(graph, "Elu", inputs[0], out, alpha=float(op.alpha))


@handles("Tanh", "Sigmoid", "Softplus", "Exp", "Log", "Sqrt", "Abs", "Negative")
def _function(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    kind = type(op).__name__
    elementwise(graph, {"Negative": "Neg"}.get(kind, kind), inputs[0], out)


@handles("GELU")
def _gelu(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x = graph.last(inputs[0])
    scaled = graph.node("Div", [x, graph.constant(np.float32(2**0.5))])
    double = graph.node("Add", [graph.node("Erf", [scaled]), graph.constant(np.float32(1))])
    half = graph.node("Mul", [x, graph.constant(np.float32(0.5))])
    graph.define(out, graph.node("Mul", [half, double]))


@handles("Softmax", "LogSoftmax")
def _softmax(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    graph.define(out, graph.node(type(op).__name__, [graph.last(inputs[0])], axis=op.axis))


@handles("Add", "Subtract", "Multiply", "Divide", "Pow", "MatMul", "Maximum", "Minimum")
def _arithmetic(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    kind = type(op).__name__
    words = {"Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "Maximum": "Max", "Minimum": "Min"}
    a, b = inputs
    if (
        kind != "MatMul"
        and getattr(a, "shape", ()) == getattr(b, "shape", None)
        and graph.only_first(a)
        and graph.only_first(b)
    ):
        name = graph.node(words.get(kind, kind), [graph.first(a), graph.first(b)])
        graph.define(out, name, channels_first=True)
        return
    graph.define(out, graph.node(words.get(kind, kind), [graph.last(a), graph.last(b)]))


@handles("Cast")
def _cast(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    from onnx import helper

    elementwise(graph, "Cast", inputs[0], out, to=helper.np_dtype_to_tensor_dtype(out.dtype))


@handles("Reshape")
def _reshape(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    batch = inputs[0].shape[:1] == out.shape[:1]
    shape = [0, *out.shape[1:]] if batch else list(out.shape)  # 0: as in the input, so any batch will do
    graph.define(out, graph.node("Reshape", [graph.last(inputs[0]), graph.constant(shape, np.int64)]))


@handles("Transpose")
def _transpose(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    graph.define(out, graph.node("Transpose", [graph.last(inputs[0])], perm=list(op.order_of_axes)))


@handles("Concatenate")
def _concatenate(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    if out.ndim == 4 and op.axis in (-1, 3):
        graph.define(out, graph.node("Concat", [graph.first(x) for x in inputs], axis=1), channels_first=True)
    else:
        graph.define(out, graph.node("Concat", [graph.last(x) for x in inputs], axis=op.axis))


@handles("Mean", "Max", "Min")
def _reduce(graph: Graph, op: Any, inputs: list[Any], out: Tensor) -> None:
    x, first = inputs[0], inputs[0].ndim == 4 and not op.keepdims and set(op.axes) == {1, 2}
    axes = [2, 3] if first else list(op.axes)
    name = graph.node(
        f"Reduce{type(op).__name__}",
        [graph.first(x) if first else graph.last(x)],
        axes=axes,
        keepdims=int(op.keepdims),
    )
    graph.define(out, name)
