"""VGG16 (Simonyan and Zisserman, ICLR 2015), with the layer names of Keras."""

from __future__ import annotations

import os

from ..layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, Sequential
from ..weights import load

BLOCKS = (64, 2), (128, 2), (256, 3), (512, 3), (512, 3)  # filters and number of convolutions


def vgg16(
    include_top: bool = True,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Sequential:
    """Thirteen convolutions of 3x3 in five blocks, and three dense layers; logits, without softmax.

    Parameters
    ----------
    include_top : bool
        False leaves the dense layers out: (N, H, W, 3) -> (N, H / 32, W / 32, 512).
    classes : int
        Outputs of the last layer.
    input_shape : (H, W, 3)
        Each side at least 32.
    weights : path, optional
        Of Keras's or torchvision's VGG16, with or without top as the model. Pictures are prepared by
        `models.caffe_pixels` for Keras's, by `models.torchvision_pixels` for torchvision's.

    Returns
    -------
    Sequential
        138,357,544 parameters with top at 224x224, 14,714,688 without.
    """
    layers: list[Layer] = []
    for b, (filters, count) in enumerate(BLOCKS, 1):
        for c in range(1, count + 1):
            name = f"block{b}_conv{c}"
            layers.append(Conv2D(filters, 3, padding="same", activation="relu", name=name))
        layers.append(MaxPool2D(2, name=f"block{b}_pool"))
    if include_top:
        layers += [
            Flatten(name="flatten"),
            Dense(4096, activation="relu", name="fc1"),
            Dense(4096, activation="relu", name="fc2"),
            Dense(classes, name="predictions"),
        ]
    model = Sequential(layers, input_shape=input_shape, name="vgg16", seed=seed)
    if weights is not None:
        load(model, weights)
    return model
