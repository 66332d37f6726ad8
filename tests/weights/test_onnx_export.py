"""Exported models run in another runtime and give the same outputs."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import layers, models
from minidl.weights import WeightsError, export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported files: pip install onnxruntime")
pytestmark = pytest.mark.oracle


def moved(model, x):
    """Give batch norm other averages than those it starts with."""
    if x.dtype != np.uint8:
        model.train()(x)
    return model.eval()


class Residual(layers.Layer):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, padding="same", activation="relu")

    def forward(self, x):
        return dl.ops.concatenate([x + self.conv(x), dl.ops.tanh(x)], axis=-1) * 0.5


CASES = {
    "mlp": (lambda: [layers.Flatten(), layers.Dense(8, "relu"), layers.BatchNorm(), layers.ELU(), layers.Dropout(0.5), layers.Dense(3), layers.Softmax()], (4, 4, 2)),
    "cnn": (lambda: [layers.Conv2D(4, 3, activation="relu"), layers.BatchNorm(), layers.MaxPool2D(2), layers.Dropout(0.2), layers.Flatten(), layers.Dense(3)], (8, 8, 1)),
    "strides": (lambda: [layers.Conv2D(4, (3, 2), (2, 1), ((0, 1), (1, 2)), groups=2, activation="leaky_relu"), layers.GELU(), layers.AvgPool2D(3, 1, 1)], (7, 6, 2)),
    "heads": (lambda: [layers.Conv2D(3, 3, dilation=2), layers.Sigmoid(), layers.GlobalAvgPool2D(), layers.LeakyReLU(0.2), layers.Softplus()], (6, 6, 1)),
    "sizes": (lambda: [layers.Resize((9, 5)), layers.AdaptiveAvgPool2D((4, 3)), layers.MaxPool2D(2, 2, "ceil"), layers.GlobalMaxPool2D(), layers.Reshape((2, -1))], (6, 7, 4)),
    "branches": (lambda: [Residual(), layers.Normalize(0.1, 2.0), layers.Tanh(), layers.Flatten()], (5, 5, 2)),
    "fire": (lambda: [models.Fire(2), layers.GlobalAvgPool2D()], (5, 5, 3)),
}  # fmt: skip


def outputs(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("name", CASES)
def test_the_same_outputs(name, dtype, rng, tmp_path):
    make, shape = CASES[name]
    model = dl.Sequential(make(), input_shape=shape, seed=3)
    x = rng.standard_normal((5, *shape)).astype(np.float32)
    moved(model, x)
    x = x if dtype == np.float32 else rng.integers(0, 256, (5, *shape), np.uint8)
    export_onnx(model, tmp_path / "m.onnx", dtype=dtype)
    expected = dl.predict(model, x)
    np.testing.assert_allclose(
        outputs(tmp_path / "m.onnx", x), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    file = onnx.load(tmp_path / "m.onnx")
    assert (file.ir_version, file.opset_import[0].version) == (8, 17)
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert outputs(tmp_path / "m.onnx", x[:1]).shape == (1, *expected.shape[1:])
    names = {tensor.name for tensor in file.graph.initializer}
    assert {key for key, _ in model.named_parameters()} <= names


def test_no_transposes_between_convolutions(tmp_path):
    parts = [
        layers.Conv2D(2, 3, activation="relu"),
        layers.BatchNorm(),
        layers.MaxPool2D(2),
        layers.Conv2D(2, 3),
        layers.ReLU(),
        layers.Flatten(),
    ]
    export_onnx(dl.Sequential(parts, input_shape=(9, 9, 1)), tmp_path / "m.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds.count("Transpose") == 2  # into the first, and before flattening


def example():
    """The network of examples/mnist_cnn.py."""
    code = Path(__file__).parents[2] / "examples/mnist_cnn.py"
    return runpy.run_path(str(code))["build"](0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: models.squeezenet("1.1", input_shape=(64, 64, 3)),
        lambda: models.vgg16(False, input_shape=(32, 32, 3)),
        lambda: models.alexnet(input_shape=(130, 130, 3)),
        example,
    ],
)
def test_models(make, rng, tmp_path):
    model = make()
    export_onnx(model, tmp_path / "m.onnx")
    x = rng.standard_normal((2, *model._input_shapes[0])).astype(np.float32)
    expected = dl.predict(model, x)
    np.testing.assert_allclose(
        outputs(tmp_path / "m.onnx", x), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def test_what_cannot_be_exported(tmp_path):
    class Sorted(layers.Layer):
        def forward(self, x):
            return x[:, ::-1]

    with pytest.raises(WeightsError, match="GetItem has no counterpart"):
        export_onnx(dl.Sequential(Sorted(), input_shape=(3,)), tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="input_shape must be given"):
        export_onnx(dl.Sequential(layers.Dense(2)), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
    assert dl.Function.watch is None
