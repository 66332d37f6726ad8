"""SqueezeNet 1.0 and 1.1 (Iandola et al., 2016), with the layer names of the paper."""

from __future__ import annotations

import os

from .. import ops
from ..autograd import Tensor
from ..layers import Conv2D, Dropout, GlobalAvgPool2D, Layer, MaxPool2D, Sequential
from ..weights import load

SQUEEZED = {
    2: 16,
    3: 16,
    4: 32,
    5: 32,
    6: 48,
    7: 48,
    8: 64,
    9: 64,
}  # filters of fire modules; 4 times as many expand
POOLED_AFTER = {"1.0": (1, 4, 8), "1.1": (1, 3, 5)}  # conv1, or the fire module


class Fire(Layer):
    """Squeeze to few channels by 1x1, expand by 1x1 and 3x3 side by side, (N, H, W, C) -> (N, H, W, 8 filters)."""

    def __init__(self, filters: int, name: str | None = None):
        super().__init__(name)
        self.squeeze1x1 = Conv2D(filters, 1, activation="relu")
        self.expand1x1 = Conv2D(4 * filters, 1, activation="relu")
        self.expand3x3 = Conv2D(4 * filters, 3, padding="same", activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x)
        return ops.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1)


def squeezenet(
    version: str = "1.1",
    include_top: bool = True,
    classes: int = 1000,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    last_padding: int = 0,
    weights: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Sequential:
    """Eight fire modules between two convolutions; logits.

    Parameters
    ----------
    version : "1.0" or "1.1"
        1.0 begins with 96 filters of 7x7, 1.1 with 64 of 3x3 and pools earlier, for less than half the work.
    include_top : bool
        False ends with fire9: (N, H, W, 3) -> (N, H / 16, W / 16, 512), rounded down.
    classes : int
        Outputs of the last convolution.
    input_shape : (H, W, 3)
    last_padding : int
        Of the last 1x1 convolution: Caffe's 1.0 pads one pixel.
    weights : path, optional
        Of Caffe's (as arrays), Keras's or torchvision's SqueezeNet.

    Returns
    -------
    Sequential
        1,248,424 parameters (1.0) or 1,235,496 (1.1) for 1000 classes.

    Raises
    ------
    ValueError
        The version is neither.
    """
    if version not in POOLED_AFTER:
        raise ValueError(f"squeezenet: version must be '1.0' or '1.1', got {version!r}")
    filters, kernel = (96, 7) if version == "1.0" else (64, 3)
    layers: list[Layer] = [Conv2D(filters, kernel, 2, activation="relu", name="conv1")]
    for number in range(1, 10):
        if number in SQUEEZED:
            layers.append(Fire(SQUEEZED[number], name=f"fire{number}"))
        if number in POOLED_AFTER[version]:
            layers.append(MaxPool2D(3, 2, padding="ceil", name=f"pool{number}"))
    if include_top:
        layers += [
            Dropout(0.5, name="drop9"),
            Conv2D(classes, 1, padding=last_padding, activation="relu", name="conv10"),
            GlobalAvgPool2D(name="pool10"),
        ]
    model = Sequential(layers, input_shape=input_shape, name="squeezenet", seed=seed)
    if weights is not None:
        load(model, weights)
    return model
