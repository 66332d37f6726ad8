"""Published weights, where they are at hand: MINIDL_DATA/squeezenet and MINIDL_DATA/vgg."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import minidl as dl
from minidl import models
from minidl.weights import load, read

DATA = Path(os.environ.get("MINIDL_DATA", "."))
CAFFE = DATA / "squeezenet/squeezenet_v1.0_deepcompression.npz"
KERAS = DATA / "squeezenet/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
VGG = DATA / "vgg/vgg16_blocks1-2.npz"


@pytest.mark.skipif(not CAFFE.exists(), reason=f"no {CAFFE.name} in MINIDL_DATA")
def test_squeezenet_of_caffe(rng):
    """Filters have their axes turned, and three pixels of one kind are told from another."""
    model = models.squeezenet("1.0", input_shape=(227, 227, 3), last_padding=1, weights=CAFFE)
    source = read(CAFFE)
    np.testing.assert_array_equal(model["conv1"].weight.data, source["conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        model["fire5"].expand3x3.weight.data, source["fire5/conv3x3_2.weight"].transpose(2, 3, 1, 0)
    )
    grey = np.full((1, 227, 227, 3), 128, np.uint8)
    p = dl.ops.softmax(dl.predict(model, models.caffe_pixels(grey, (104.0, 117.0, 123.0)))).numpy()
    assert p.shape == (1, 1000)
    assert np.isfinite(p).all()


@pytest.mark.skipif(not KERAS.exists(), reason=f"no {KERAS.name} in MINIDL_DATA")
def test_squeezenet_of_keras_1():
    pytest.importorskip("h5py")
    model = models.squeezenet("1.1", include_top=False, weights=KERAS)
    source = read(KERAS)
    assert sum(value.size for value in source.values()) == 722_496
    np.testing.assert_array_equal(model["conv1"].weight.data, source["conv1/uniform1"])
    np.testing.assert_array_equal(model["fire2"].squeeze1x1.weight.data, source["fire2/squeeze1x1/uniform2"])
    np.testing.assert_array_equal(model["fire9"].expand3x3.bias.data, source["fire9/expand3x3/expand3x3_b"])


@pytest.mark.skipif(not VGG.exists(), reason=f"no {VGG.name} in MINIDL_DATA")
def test_two_blocks_of_vgg16():
    model = models.vgg16(include_top=False, input_shape=(32, 32, 3))
    report = load(model, VGG, strict=False, layout="keras")
    assert len(report.missing) == 18
    assert not report.surplus
    np.testing.assert_array_equal(model["block2_conv2"].weight.data, read(VGG)["block2_conv2.kernel"])
    blocks = model[:6]
    load(blocks, VGG, layout="keras")
    assert blocks.freeze().count_parameters() == (0, 260_160)
