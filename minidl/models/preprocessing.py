"""Pixels as the published weights expect them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Array, array_module
from ..shapes import bind

BGR_MEANS = (
    103.939,
    116.779,
    123.68,
)  # of ImageNet, in 0..255; rounded to 104, 117, 123 for Caffe's SqueezeNet
RGB_MEANS, RGB_STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # in 0..1


def caffe_pixels(x: Any, means: tuple[float, float, float] = BGR_MEANS) -> Array:
    """RGB images in 0..255 -> BGR minus the means of ImageNet: for weights that come from Caffe (VGG, SqueezeNet).

    Parameters
    ----------
    x : array, shape (N, H, W, 3)
        uint8, or floats in 0..255.
    means : three numbers
        Of blue, green and red.

    Returns
    -------
    array, shape (N, H, W, 3), float32

    Raises
    ------
    ShapeError
        The images are not (N, H, W, 3).
    """
    bind("caffe_pixels", "images are (N, H, W, 3)", x=("N H W 3", x))
    return x[..., ::-1].astype(np.float32) - array_module(x).asarray(means, np.float32)


def torchvision_pixels(x: Any) -> Array:
    """RGB images in 0..255 -> 0..1, minus ImageNet's means, over its standard deviations: torchvision's weights.

    Parameters, result and errors as `caffe_pixels`.
    """
    bind("torchvision_pixels", "images are (N, H, W, 3)", x=("N H W 3", x))
    means, stds = (array_module(x).asarray(values, np.float32) for values in (RGB_MEANS, RGB_STDS))
    return (x.astype(np.float32) / 255 - means) / stds
