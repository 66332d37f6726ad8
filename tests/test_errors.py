"""Wrong uses: each gives one message with the symbol, the values and the fix."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import ops

X = np.ones((8, 28, 28, 3), np.float32)
MODEL = dl.Sequential(dl.layers.Flatten(), dl.layers.Dense(10), input_shape=(28, 28, 3))
STATE = MODEL.state_dict()

WRONG = {
    "channels": (
        lambda: ops.conv2d(X, np.ones((3, 3, 4, 16))),
        dl.ShapeError,
        r"conv2d: C is 3 in x \(8, 28, 28, 3\) but 4 in weight \(3, 3, 4, 16\)",
    ),
    "channels first": (
        lambda: ops.conv2d(X.transpose(0, 3, 1, 2), np.ones((3, 3, 3, 16))),
        dl.ShapeError,
        r"C is 28 in x \(8, 3, 28, 28\) but 3 in weight .*looks like \(N, C, H, W\): use x\.transpose\(0, 2, 3, 1\)",
    ),
    "no channel axis": (
        lambda: ops.conv2d(X[..., 0], np.ones((3, 3, 1, 16))),
        dl.ShapeError,
        r"x needs 4 axes \(N, H, W, C\), got shape \(8, 28, 28\); add the channel axis with x\[\.\.\., None\]",
    ),
    "kernel larger than input": (
        lambda: ops.conv2d(X[:, :4], np.ones((5, 5, 3, 1))),
        dl.ShapeError,
        r"does not fit: \(KH - 1\) \* dilation \+ 1 = 5 but H \+ padding = 4 \+ 0 = 4; use a smaller kernel, padding='same'",
    ),
    "groups": (
        lambda: ops.conv2d(X, np.ones((3, 3, 1, 4)), groups=2),
        dl.ShapeError,
        r"groups=2 must divide C = 3",
    ),
    "channels of a group": (
        lambda: ops.conv2d(np.ones((1, 4, 4, 6)), np.ones((3, 3, 2, 4)), groups=2),
        dl.ShapeError,
        r"C / groups is 6 / 2 in x \(1, 4, 4, 6\) but 2 in weight",
    ),
    "activation in an operation": (lambda: ops.dense(np.ones((2, 3)), np.ones((3, 1)), activation="elu"), ValueError, "must be None, relu or leaky_relu, got 'elu'"),
    "algorithm": (lambda: ops.conv2d(X, np.ones((3, 3, 3, 1)), algorithm="fft"), ValueError, "one of auto, im2col, direct, winograd4, winograd3, got 'fft'"),
    "algorithm that cannot": (lambda: ops.conv2d(X, np.ones((3, 3, 3, 1)), strides=2, algorithm="winograd4"), ValueError, r"needs 3x3 filters, strides and dilation 1, got weight \(3, 3, 3, 1\), strides \(2, 2\)"),
    "pooling of groups": (lambda: ops.conv2d(X, np.ones((3, 3, 1, 6)), groups=3, max_pool=(2, None, 0)), ValueError, "max_pool needs groups=1, got groups=3"),
    "padding": (lambda: ops.conv2d(X, np.ones((3, 3, 3, 1)), padding="full"), dl.ShapeError, "'valid', 'same', 'ceil' or integers, got 'full'"),
    "padding of three": (lambda: ops.conv2d(X, np.ones((3, 3, 3, 1)), padding=(1, 1, 1)), dl.ShapeError, r"one integer or two sides, got \(1, 1, 1\)"),
    "stride of zero": (lambda: ops.conv2d(X, np.ones((3, 3, 3, 1)), strides=0), dl.ShapeError, "strides must be an integer >= 1 or two of them, got 0"),
    "pool wider than its window": (
        lambda: ops.max_pool2d(X, 2, padding=2),
        dl.ShapeError,
        r"padding \(2, 2\) must be smaller than KH = 2",
    ),
    "no Flatten": (
        lambda: dl.layers.Dense(10)(X),
        dl.ShapeError,
        r"Dense: x needs 2 axes \(N, I\), got shape \(8, 28, 28, 3\); put Flatten\(\) before it",
    ),
    "features": (
        lambda: MODEL(X[:, :14]),
        dl.ShapeError,
        r"dense: I is 1176 in x \(8, 1176\) but 2352 in weight \(2352, 10\)",
    ),
    "matmul": (lambda: ops.matmul(np.ones((2, 3)), np.ones((2, 3))), dl.ShapeError, r"last axis of a \(2, 3\).*\(2, 3\)"),
    "reshape": (lambda: ops.reshape(X, (5, -1)), dl.ShapeError, r"18816 elements of shape \(8, 28, 28, 3\) do not fill \(5, -1\)"),
    "transpose": (lambda: ops.transpose(X, (0, 1)), dl.ShapeError, r"axes \(0, 1\) must name each of the 4 axes"),
    "pad": (lambda: ops.pad(X, [(1, 1)]), dl.ShapeError, "for each of the 4 axes"),
    "concatenate nothing": (lambda: ops.concatenate([]), ValueError, "at least one tensor"),
    "label out of range": (
        lambda: ops.cross_entropy(np.zeros((3, 10)), np.array([1, 9, 10])),
        ValueError,
        r"labels must be in 0\.\.9 \(C = 10 in logits \(3, 10\)\), got 10 at position 2; shift the labels or widen the last layer",
    ),
    "float labels": (lambda: ops.cross_entropy(np.zeros((2, 3)), np.array([0.0, 1.0])), TypeError, r"must be integers, got float64; use labels\.astype"),
    "labels of a wrong shape": (
        lambda: ops.cross_entropy(np.zeros((2, 3)), np.array([0, 1, 2])),
        dl.ShapeError,
        r"logits \(2, 3\) need labels of shape \(2,\) \(class numbers\) or \(2, 3\) \(probabilities\), got \(3,\)",
    ),
    "class weights": (lambda: ops.cross_entropy(np.zeros((2, 3)), np.array([0, 1]), class_weights=[1, 2]), dl.ShapeError, r"shape \(3,\), got \(2,\)"),
    "label smoothing": (lambda: ops.cross_entropy(np.zeros((2, 3)), np.array([0, 1]), label_smoothing=2), ValueError, "between 0 and 1, got 2"),
    "reduction": (lambda: ops.mse(np.ones(2), np.ones(2), reduction="avg"), ValueError, "'mean', 'sum' or 'none', got 'avg'"),
    "column against row": (lambda: ops.mse(np.ones((3, 1)), np.ones(3)), dl.ShapeError, r"shape \(3, 1\) but target \(3,\)"),
    "where": (lambda: ops.where(np.ones(3), 1.0, 2.0), TypeError, "boolean array, got float64"),
    "mean of nothing": (lambda: ops.mean(np.ones((0, 3))), ValueError, r"nothing to average over axes \(0, 1\) of shape \(0, 3\)"),
    "variance of one": (lambda: ops.var(np.ones((1, 3)), axis=0, correction=1), ValueError, "more than correction=1 values, got 1"),
    "batch norm of one value": (lambda: ops.batch_norm(np.ones((1, 3)), np.ones(3), np.ones(3)), ValueError, r"more than 1 value for each channel, got x of shape \(1, 3\).*model\.eval"),
    "batch norm without statistics": (lambda: ops.batch_norm(np.ones((4, 3)), np.ones(3), np.ones(3), training=False), ValueError, "running_mean and running_var"),
    "dropout rate": (lambda: ops.dropout(np.ones(3), 1.5), ValueError, r"between 0 and 1, got 1\.5"),
    "unknown keyword": (lambda: dl.layers.Dense(10, activaton="relu"), TypeError, "unexpected keyword argument 'activaton'"),
    "unknown activation": (lambda: dl.layers.Dense(10, "rleu"), ValueError, "one of relu, leaky_relu.*got 'rleu'"),
    "unknown loss": (lambda: dl.evaluate(MODEL, X, np.zeros(8, int), loss="crossentropy"), ValueError, "one of cross_entropy, nll.*got 'crossentropy'"),
    "wrong state": (
        lambda: MODEL.load_state_dict({"dense.weight": np.ones((3, 10)), "dense.b": np.ones(10)}),
        dl.StateError,
        r"nothing was loaded, 3 problem\(s\):\n  missing: dense\.bias \(10,\)\n  wrong shape: dense\.weight is \(2352, 10\) in the model but \(3, 10\) in the state\n  unknown: dense\.b \(10,\)",
    ),
    "x and y": (lambda: dl.evaluate(MODEL, X, np.zeros(7, int)), ValueError, r"equally many samples, got shapes \(8, 28, 28, 3\) and \(7,\)"),
    "kernels": (lambda: dl.kernels.use("fast"), ValueError, "'auto' or 'reference', got 'fast'"),
}  # fmt: skip


@pytest.mark.scenario("N6", "N7", "N8", "N9", "N12", "B74")
@pytest.mark.parametrize("name", WRONG)
def test_message(name):
    use, error, message = WRONG[name]
    with pytest.raises(error, match=f"(?s){message}"):
        use()
    for key, value in MODEL.state_dict().items():
        np.testing.assert_array_equal(value, STATE[key], err_msg="a refused use changed the model")
