"""The ONNX node tests: outputs that the ONNX project computed, compared with minidl's.

Every single-operator case of an operator in `handlers.HANDLERS` is either run or named below with the
reason why it cannot be; a reason that no longer holds is an error too.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest

from minidl import Tensor
from tests.onnx_node.handlers import HANDLERS, NotOursError

onnx = pytest.importorskip("onnx", minversion="1.23", reason="the node tests come with onnx>=1.23")

REASONS: list[tuple[str, str]] = [
    (r"cast(like)?_.*(FLOAT8|FLOAT4|BFLOAT16|INT4|INT2).*", "a dtype that NumPy does not have"),
    (r"celu_bfloat16", "a dtype that NumPy does not have"),
    (r"identity_(sequence|opt)", "a value that is no array: a sequence, or an optional"),
    (r"div_u?int\d+(_trunc)?", "ONNX divides integers to integers; divide is true division, as in NumPy"),
    (r"maxpool_2d_uint8", "pooling is for floats: the padding of max_pool2d is -inf"),
    (r"reduce_(min|max)_empty_set(_bool)?", "the extreme of nothing is an error, as in NumPy"),
    (r"reduce_log_sum_exp_empty_set", "logsumexp takes the extreme of nothing, which is an error"),
    (r"gelu_tanh_\d", "gelu is the exact form, not the one with tanh"),
    (
        r"training_dropout(_default)?(_mask)?",
        "the mask expected is that of NumPy's old generator, not of a Philox",
    ),
    (r"(edge|reflect|wrap)_pad", "pad fills with a constant only"),
    (r"(max|average)pool_3d_.*", "images have two axes"),
    (r"convtranspose_3d", "images have two axes"),
    (r"(max|average)pool_2d_dilations", "the windows of pooling have no dilation"),
    (r"maxpool_with_argmax_.*", "max_pool2d does not return where the maxima were"),
    (r"resize_.*_(nearest|cubic).*", "resize is bilinear"),
    (r"resize_.*_align_corners", "resize has half-pixel centres, not aligned corners"),
    (r"resize_.*_half_pixel_symmetric", "resize has plain half-pixel centres"),
    (r"resize_.*_pytorch_half_pixel", "resize takes the middle, not the first pixel, when the new size is 1"),
    (r"resize_tf_crop_and_resize.*", "resize does not crop"),
    (r"resize_.*_linear_antialias", "resize does not smooth before it shrinks"),
    (r"resize_downsample_scales_linear", "the scale 0.6 is not new size / old size, which resize goes by"),
]


def single_node_cases() -> dict[str, Any]:
    """The cases of one node whose operator has a handler, by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes log(0) and the like while it makes the cases
        cases = load_model_tests(kind="node")
    return {
        case.name.removeprefix("test_"): case
        for case in cases
        if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in HANDLERS
    }


def reason_for(name: str) -> str | None:
    """Why the case cannot run, or None."""
    return next((reason for pattern, reason in REASONS if re.fullmatch(pattern, name)), None)


CASES = single_node_cases()
EXCUSED = {name: reason for name in CASES if (reason := reason_for(name))}
APPLICABLE = [name for name in CASES if name not in EXCUSED]


def as_array(value: Any) -> np.ndarray:
    """A value of the case as a NumPy array of one of NumPy's own types."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    array = np.asarray(value)
    if array.dtype.type.__module__ != "numpy" or array.dtype.kind not in "fiub" or isinstance(value, list):
        raise NotOursError(f"a value of type {type(value).__name__} with dtype {array.dtype}")
    return array


def run_case(case: Any) -> None:
    """Compare each output of the case with the handler's: shape, dtype and values."""
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Cast":
        attributes["to"] = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
    attributes["outputs"] = len(node.output)
    assert case.data_sets
    for given, expected in case.data_sets:
        present = iter([as_array(value) for value in given])
        inputs = [next(present) if name else None for name in node.input]
        copies = [None if value is None else value.copy() for value in inputs]
        outputs = HANDLERS[node.op_type](inputs, attributes)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        wanted = [as_array(value) for value in expected]
        assert len(outputs) >= len(wanted)
        for got, want in zip(outputs, wanted, strict=False):  # optional outputs may be left out
            array = got.data if isinstance(got, Tensor) else got
            assert (array.shape, array.dtype) == (want.shape, want.dtype)
            np.testing.assert_allclose(array, want, rtol=case.rtol, atol=case.atol)
        for value, copy in zip(inputs, copies, strict=True):
            np.testing.assert_array_equal(value, copy, err_msg="the input was written to")


@pytest.mark.parametrize("name", APPLICABLE)
def test_node(name: str) -> None:
    run_case(CASES[name])


@pytest.mark.parametrize("name", EXCUSED)
def test_excused_case_still_fails(name: str) -> None:
    """A case that passes needs no excuse."""
    with pytest.raises(Exception):  # noqa: B017, PT011 - any failure, or warning, will do
        run_case(CASES[name])


@pytest.mark.parametrize(("pattern", "reason"), REASONS)
def test_reason_matches_a_case(pattern: str, reason: str) -> None:
    assert any(re.fullmatch(pattern, name) for name in CASES)
    assert len(reason) > 10


def test_each_family_has_cases() -> None:
    covered = {CASES[name].model.graph.node[0].op_type for name in APPLICABLE}
    assert covered == set(HANDLERS)


def test_enough_cases_run() -> None:
    assert len(APPLICABLE) >= 500
    assert len(APPLICABLE) + len(EXCUSED) == len(CASES)
