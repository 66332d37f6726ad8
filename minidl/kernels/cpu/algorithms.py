"""Which algorithm a convolution takes, by shape: never timed at run time, so the same every time.

========== ========================================= =======================================================
algorithm  for                                       does
========== ========================================= =======================================================
im2col     everything                                one matrix product over columns of KH * KW * C
winograd4  3x3, stride 1, output 3x3 and larger      36 products for 16 outputs: a quarter of the arithmetic
winograd2  3x3, stride 1, output 2x2                 16 products for 4 outputs: four ninths of it
========== ========================================= =======================================================

Winograd's transforms cost what a few channels save, fewer where the channels fill whole vectors. Its rounding
error is larger, about 1e-5 of the result in float32 (docs/numerics.md). MINIDL_CONV=im2col, winograd2 or
winograd4 takes that algorithm wherever it is possible; ``ops.conv2d(..., algorithm=)`` does for one call.
"""

from __future__ import annotations

import os

from ...shapes import Pair

FEWEST, FEWEST_UNEVEN = 10, 32  # channels (harmonic mean of in and out): multiples of 8, and others
LARGEST = 2048  # channels that the transforms' buffers hold
LONGEST = 16384  # numbers in a line of an image that they hold


def choose(algorithm: str, weight: tuple[int, ...], out: Pair, strides: Pair, dilation: Pair) -> int:
    """Side of Winograd's output tile, 2 or 4; 0 is im2col."""
    channels = weight[2:]
    fits = max(channels) <= LARGEST and (out[1] + 6) * max(channels) <= LONGEST and min(out) > 0
    if weight[:2] != (3, 3) or strides != (1, 1) or dilation != (1, 1) or not fits:
        return 0
    if algorithm == "auto":
        algorithm = os.environ.get("MINIDL_CONV", "auto")
    if algorithm != "auto":
        return {"im2col": 0, "winograd2": 2, "winograd4": 4}[algorithm]
    even = channels[0] % 8 == channels[1] % 8 == 0
    enough = 2 / (1 / channels[0] + 1 / channels[1]) >= (FEWEST if even else FEWEST_UNEVEN)
    return 0 if not enough or min(out) < 2 else 2 if max(out) < 3 else 4
