"""AlexNet in torchvision's version (Krizhevsky, "One weird trick", 2014), with its layer names."""

from __future__ import annotations

import os

from ..layers import AdaptiveAvgPool2D, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D, Sequential
from ..weights import load


def alexnet(
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Sequential:
    """Five convolutions ("features"), an average to 6x6, three dense layers ("classifier"); logits.

    Parameters
    ----------
    classes : int
        Outputs of the last layer.
    input_shape : (H, W, 3)
        Each side at least 63.
    weights : path, optional
        Of torchvision's AlexNet; pictures are prepared by `models.torchvision_pixels`.

    Returns
    -------
    Sequential
        61,100,840 parameters for 1000 classes. Layers are called as in torchvision: ``features.0`` is
        ``model["features"]["0"]``; a ReLU there is part of the layer before it here.
    """

    def conv(place: int, filters: int, kernel: int, strides: int = 1, padding: int = 1) -> Layer:
        return Conv2D(filters, kernel, strides, padding, activation="relu", name=str(place))

    features = Sequential(
        conv(0, 64, 11, strides=4, padding=2), MaxPool2D(3, 2, name="2"),
        conv(3, 192, 5, padding=2), MaxPool2D(3, 2, name="5"),
        conv(6, 384, 3), conv(8, 256, 3), conv(10, 256, 3), MaxPool2D(3, 2, name="12"),
        name="features",
    )  # fmt: skip
    classifier = Sequential(
        Dropout(0.5, name="0"), Dense(4096, activation="relu", name="1"),
        Dropout(0.5, name="3"), Dense(4096, activation="relu", name="4"), Dense(classes, name="6"),
        name="classifier",
    )  # fmt: skip
    middle = AdaptiveAvgPool2D(6, name="avgpool"), Flatten(name="flatten")
    model = Sequential(features, *middle, classifier, input_shape=input_shape, name="alexnet", seed=seed)
    if weights is not None:
        load(model, weights)
    return model
