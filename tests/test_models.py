"""Published architectures: parameter counts, names, and outputs equal to those of the source framework."""

from __future__ import annotations

import numpy as np
import pytest

import minidl as dl
from minidl import models
from minidl.shapes import ShapeError


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: models.vgg16(include_top=False, input_shape=(32, 32, 3)), 14_714_688),
        (lambda: models.squeezenet("1.0"), 1_248_424),
        (lambda: models.squeezenet("1.1"), 1_235_496),
        (lambda: models.squeezenet("1.1", include_top=False), 722_496),
        (lambda: models.squeezenet("1.0", classes=10, input_shape=(64, 64, 3)), 740_554),
    ],
)
def test_parameter_count(make, count):
    assert sum(p.size for p in make().parameters()) == count


def test_vgg16_with_a_new_head():
    body = models.vgg16(include_top=False, input_shape=(32, 32, 3)).freeze()
    layers = dl.layers
    head = (
        layers.Flatten(),
        layers.Dense(128, "relu"),
        layers.BatchNorm(),
        layers.Dropout(0.5),
        layers.Dense(10),
    )
    model = dl.Sequential(body, *head, input_shape=(32, 32, 3))
    assert model.count_parameters() == (67_210, 14_714_944)


@pytest.mark.slow
def test_alexnet():
    model = models.alexnet()
    assert sum(p.size for p in model.parameters()) == 61_100_840
    names = [name for name, _ in model.named_parameters()]
    assert names[:4] == ["features.0.weight", "features.0.bias", "features.3.weight", "features.3.bias"]
    assert names[-2:] == ["classifier.6.weight", "classifier.6.bias"]


def test_squeezenet_of_another_version():
    with pytest.raises(ValueError, match=r"version must be '1.0' or '1.1', got '2.0'"):
        models.squeezenet("2.0")


def test_pixels():
    x = np.array([[[[255, 128, 0]]]], np.uint8)
    np.testing.assert_allclose(
        models.caffe_pixels(x)[0, 0, 0], [-103.939, 128 - 116.779, 255 - 123.68], rtol=1e-6
    )
    expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(models.torchvision_pixels(x)[0, 0, 0], expected, rtol=1e-6)
    with pytest.raises(ShapeError, match=r"images are \(N, H, W, 3\)"):
        models.caffe_pixels(np.zeros((2, 4, 4, 1)))
