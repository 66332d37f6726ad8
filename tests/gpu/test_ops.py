"""The tables of operations and layers on a device: values and gradients as on the CPU, nothing fetched or sent."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import backend, kernels, layers
from minidl.optim import SGD, Adam
from tests import cases
from tests.gpu.conftest import on_host

# These name host arrays themselves, in an index or as running statistics.
HOST_INDEX = {"getitem-array-twice", "getitem-pairs", "cross_entropy_composed", "cross_entropy-ignore", "cross_entropy-weights", "nll-weights"}  # fmt: skip
HOST_STATISTICS = {"batch_norm-inference"}
# NumPy's boolean masks have lengths that only the device knows.
WAITS = {"getitem-mask"}
CASES = [case for case in cases.CASES if case.name not in HOST_STATISTICS]


@pytest.fixture
def device_constants(cupy, monkeypatch):
    """What the cases close over, on the device."""
    for name in ("LABELS", "ONE_HOT", "MASK"):
        monkeypatch.setattr(cases, name, cupy.asarray(getattr(cases, name)))


def results(case, arrays):
    """Value and gradients of sum(weights * value)."""
    tensors = [dl.Tensor(a, requires_grad=True) for a in arrays]
    y = case.fn(*tensors)
    weights = np.random.default_rng(9).normal(size=y.shape).astype(y.dtype)
    xp = backend.array_module(y._data)
    before = len(xp.device.uploads) if hasattr(xp, "device") else 0
    weights = xp.asarray(weights)
    if hasattr(xp, "device"):
        del xp.device.uploads[before:]  # the test's own
    y.backward(weights)
    return [y._data, *[t.grad for t in tensors]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operation(cupy, case, dtype, request, monkeypatch):
    arrays = case.draw(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_choice", "reference")
        expected = results(case, arrays)
    request.getfixturevalue("device_constants")
    there = [cupy.asarray(a) for a in arrays]
    if hasattr(cupy, "device"):
        cupy.device.forget()
    got = results(case, there)
    if hasattr(cupy, "device"):
        assert case.name in WAITS or not cupy.device.syncs
        assert case.name in HOST_INDEX or not cupy.device.uploads
    limit = 2e-4 if dtype == np.float32 else 1e-9
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert isinstance(a, cupy.ndarray)
            assert a.dtype == b.dtype
            np.testing.assert_allclose(on_host(a), b, rtol=limit, atol=limit)
    for a, b in zip(there, arrays, strict=True):
        np.testing.assert_array_equal(on_host(a), b)  # inputs are not written to


@pytest.mark.parametrize("case", [c for c in CASES if c.batch_axis], ids=lambda case: case.name)
def test_empty_batch(cupy, case, device_constants):
    arrays = [cupy.asarray(a) for a in case.draw(np.float32)]
    y = case.fn(dl.Tensor(arrays[0][:0], requires_grad=True), *map(dl.Tensor, arrays[1:]))
    y.backward(cupy.ones(y.shape, np.float32))


def test_batch_norm_in_inference_on_one_device(cupy):
    x, statistics = cupy.asarray(np.ones((4, 3), np.float32)), np.ones(3, np.float32)
    there = [cupy.asarray(statistics) for _ in range(4)]
    y = dl.ops.batch_norm(x, *there, training=False)
    np.testing.assert_allclose(on_host(y._data), 1.0, rtol=1e-4)


def networks():
    """Every layer at least once: (network, shape of a sample)."""
    image = [
        layers.Conv2D(4, 3, padding="same"), layers.BatchNorm(), layers.LeakyReLU(0.2), layers.MaxPool2D(2), layers.Dropout(0.4),
        layers.Conv2D(4, 3, strides=2, padding=1, groups=2, activation="relu"), layers.ELU(), layers.Resize(4), layers.AvgPool2D(2),
        layers.Flatten(), layers.Reshape((4, 4)), layers.Flatten(), layers.Dense(6, "tanh"), layers.Sigmoid(), layers.Dense(3),
    ]  # fmt: skip
    return {
        "image": (image, (8, 8, 2)),
        "global": (
            [
                layers.Normalize([0.3], [2.0]),
                layers.Conv2D(3, 2),
                layers.GELU(),
                layers.AdaptiveAvgPool2D(3),
                layers.Softplus(),
                layers.GlobalAvgPool2D(),
                layers.Dense(3),
                layers.Tanh(),
            ],
            (5, 5, 1),
        ),
        "maximum": (
            [layers.Conv2D(3, 2), layers.ReLU(), layers.GlobalMaxPool2D(), layers.Softmax()],
            (5, 5, 1),
        ),
    }


@pytest.mark.parametrize("name", ["image", "global", "maximum"])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.01}, {"clip_value": 0.001}])
def test_networks_train_as_on_the_cpu(cupy, name, clip, monkeypatch):
    rng = np.random.default_rng(0)
    shape = networks()[name][1]
    x, y = rng.normal(size=(5, *shape)), rng.integers(0, 3, 5)
    states = []
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(kernels, "_choice", "reference" if device == "cpu" else "auto")
        model = dl.Sequential(*networks()[name][0], input_shape=shape).to(device, dtype=np.float64)
        optimizer = SGD(model, 0.1, momentum=0.9, **clip)
        data, labels = (
            backend.to_device(x, backend.resolve_device(device)),
            backend.to_device(y, backend.resolve_device(device)),
        )
        for step in range(3):
            if hasattr(cupy, "device"):
                cupy.device.forget()
            for path, layer in model.named_layers():
                if isinstance(layer, layers.Dropout):
                    layer.start_step(0, path, step)
            optimizer.zero_grad()
            dl.ops.cross_entropy(model(data), labels).backward()
            optimizer.step()
            if hasattr(cupy, "device") and device == "cuda" and step:
                assert not cupy.device.syncs
                assert not cupy.device.uploads
        predicted = dl.predict(model, data)
        states.append({**model.state_dict(), "predicted": predicted})
    for key, value in states[0].items():
        np.testing.assert_allclose(value, states[1][key], rtol=1e-8, atol=1e-10, err_msg=key)


def test_networks_hold_every_layer():
    used = {type(layer).__name__ for parts, _ in networks().values() for layer in parts}
    public = {name for name in layers.__all__ if name[0].isupper()} - {
        "Layer",
        "Parameter",
        "Sequential",
        "StateError",
    }
    assert public <= used


def test_evaluation_of_data_on_the_device(cupy, device):
    model = dl.Sequential(layers.Dense(3), input_shape=(4,)).to("cuda")
    x, y = (cupy.asarray(a) for a in (np.ones((10, 4), np.float32), np.arange(10) % 3))
    dl.evaluate(model, x, y, batch_size=4)
    device.forget()
    result = dl.evaluate(model, x, y, batch_size=4)
    assert set(result) == {"loss", "accuracy"}
    assert device.syncs == ["get"]
    assert not device.uploads


def test_arrays_of_two_devices(cupy, device):
    with cupy.cuda.Device(1):
        there = cupy.asarray(np.ones((2, 3), np.float32))
    here = cupy.asarray(np.ones((2, 3), np.float32))
    with pytest.raises(dl.DeviceError, match=r"Add: .* got \(2, 3\) on cuda:0, \(2, 3\) on cuda:1"):
        dl.ops.add(here, there)
    with pytest.raises(dl.DeviceError, match=r"Add: .* on cpu"):
        dl.ops.add(here, np.ones((2, 3), np.float32))


def test_state_moves_with_the_model(cupy):
    model = dl.Sequential(layers.Dense(3), input_shape=(4,)).to("cuda")
    optimizer = Adam(model)
    x, y = cupy.asarray(np.ones((2, 4), np.float32)), cupy.asarray(np.array([0, 1]))
    for target in ("cuda", "cpu", "cuda"):
        model.to(target)
        data = (x, y) if target == "cuda" else (on_host(x), on_host(y))
        optimizer.zero_grad()
        dl.ops.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    assert {int(v) for k, v in optimizer.state_dict().items() if k.endswith("step")} == {3}
