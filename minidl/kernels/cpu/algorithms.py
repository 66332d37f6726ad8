"""Which algorithm a convolution takes, by shape: never timed at run time, so the same every time.

========== ========================================= =======================================================
algorithm  for                                       does
========== ========================================= =======================================================
im2col     everything                                one matrix product over columns of KH * KW * C
winograd4  3x3, stride 1, output 3x3 and larger      36 products for 16 outputs: a quarter of the arithmetic
winograd2  3x3, stride 1, output 2x2                 16 products for 4 outputs: four ninths of it
winograd3  5x5, stride 1, output 3x3 and larger      49 products for 9 outputs: two ninths of it
========== ========================================= =======================================================

Winograd's transforms cost what a few channels save, fewer where the channels fill whole vectors. Its rounding
error is larger, about 1e-5 of the result in float32 (docs/numerics.md). MINIDL_CONV=im2col, or one of the
others, takes that algorithm wherever it is possible; ``ops.conv2d(..., algorithm=)`` does for one call.
"""

from __future__ import annotations

import os

from ...shapes import WINOGRAD, Pair

FEWEST, FEWEST_UNEVEN = 10, 32  # channels (harmonic mean of in and out): multiples of 8, and others
LARGEST = 2048  # channels that the transforms' buffers hold
LONGEST = 16384  # numbers in a line of an image that they hold


def choose(algorithm: str, weight: tuple[int, ...], out: Pair, strides: Pair, dilation: Pair) -> str:
    """The name of the algorithm; `out` is where the tiles lie."""
    channels = weight[2:]
    fits = max(channels) <= LARGEST and (out[1] + 8) * max(channels) <= LONGEST and min(out) > 0
    possible = [name for name, side in WINOGRAD.items() if weight[:2] == (side, side)]
    if not possible or strides != (1, 1) or dilation != (1, 1) or not fits:
        return "im2col"
    if algorithm == "auto":
        algorithm = os.environ.get("MINIDL_CONV", "auto")
        if algorithm not in ("auto", "im2col", *WINOGRAD):
            known = ", ".join(("auto", "im2col", *WINOGRAD))
            raise ValueError(f"MINIDL_CONV must be one of {known}, got {algorithm!r}")
    if algorithm != "auto":
        return algorithm if algorithm in possible else "im2col"
    even = channels[0] % 8 == channels[1] % 8 == 0
    enough = 2 / (1 / channels[0] + 1 / channels[1]) >= (FEWEST if even else FEWEST_UNEVEN)
    if not enough or min(out) < 2 or (weight[0] == 5 and min(out) < 3):
        return "im2col"
    return "winograd3" if weight[0] == 5 else "winograd2" if max(out) < 3 else "winograd4"


def side_by_side(weight: tuple[int, ...], out: Pair, strides: Pair, dilation: Pair) -> int:
    """How many neighbouring pixels im2col takes as one: few filters and channels leave a thin product."""
    if weight[1] < 3 or not 1 < weight[2] <= 8 or weight[3] > 12 or strides != (1, 1) or dilation != (1, 1):
        return 1
    return max((side for side in range(1, 33) if out[1] % side == 0 and side * weight[3] <= 32), default=1)
