"""A model as an ONNX file, for other runtimes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._version import __version__
from ..autograd import Function, Tensor
from ..files import write_atomically
from ..layers.base import Layer, inference
from .errors import WeightsError
from .onnx_nodes import Graph

OPSET, IR_VERSION = 17, 8


def export_onnx(
    model: Layer,
    path: str | os.PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    dtype: Any = np.float32,
) -> None:
    """Write a model in inference mode to `path` as ONNX (opset 17), for batches of any size.

    Dropout is left out, batch norm uses its running averages. Images stay (N, H, W, C); inside, convolutions are
    channels-first, as ONNX has them.

    Parameters
    ----------
    input_shape : tuple of int, optional
        Of one sample; known if the model was made with one or was called.
    dtype : dtype
        Of the input: np.uint8 puts the division by 255 into the file.

    Raises
    ------
    WeightsError
        An operation that is not translated, an unknown input shape, or onnx is not installed.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise WeightsError("export_onnx needs onnx: pip install 'minidl[onnx]'") from error
    if input_shape is None:
        if not model._input_shapes:
            raise WeightsError(
                "export_onnx: input_shape must be given: the model was neither built nor called"
            )
        input_shape = model._input_shapes[0]
    graph = Graph({id(p._data if isinstance(p, Tensor) else p): name for name, p in model._named_values()})
    x = Tensor(np.zeros((2, *input_shape), dtype))
    graph.define(x, "input")
    with inference(model):
        y = _recorded(graph, model, x)
    output = graph.node("Identity", [graph.last(y)])
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (dtype, y.dtype)]
    contents = helper.make_graph(
        graph.nodes,
        type(model).__name__,
        [helper.make_tensor_value_info("input", kinds[0], ["N", *input_shape])],
        [helper.make_tensor_value_info(output, kinds[1], ["N", *y.shape[1:]])],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    file = helper.make_model(
        contents,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="minidl",
        producer_version=__version__,
    )
    file.ir_version = IR_VERSION
    onnx.checker.check_model(file, full_check=True)
    write_atomically(path, lambda temporary: onnx.save(file, temporary))


def _recorded(graph: Graph, model: Layer, x: Tensor) -> Any:
    """The model's output; every operation on the way goes to `graph`."""
    Function.watch = graph.add
    try:
        return model(x)
    finally:
        Function.watch = None
