"""Which algorithm a convolution takes, by shape: never timed at run time, so the same every time.

========== ========================================= =======================================================
algorithm  for                                       does
========== ========================================= =======================================================
im2col     everything                                one matrix product over columns of KH * KW * C
direct     dilation 1, more than a few pixels        the same sums in registers, from the image itself
winograd4  3x3, stride 1, output 2x2 and larger      36 products for 16 outputs: a quarter of the arithmetic
winograd3  5x5, stride 1, output 3x3 and larger      49 products for 9 outputs: two ninths of it
========== ========================================= =======================================================

Winograd's transforms cost what a few channels save. Its rounding error is larger, about 1e-5 of the result in
float32 (docs/numerics.md). MINIDL_CONV=direct, or one of the others, takes that algorithm wherever it is
possible; ``ops.conv2d(..., algorithm=)`` does for one call.
"""

from __future__ import annotations

import os
from functools import lru_cache

from ...shapes import ALGORITHMS, WINOGRAD, Pair
from .microkernel import NARROW_ROWS

OUTPUT, IMAGE, FILTERS = range(3)  # what is computed: the convolution, or the gradient of one of its factors
# Channels (harmonic mean of in and out) from which Winograd's transforms pay, for each of these.
FEWEST = {3: (30, 32, 24), 5: (20, 16, 12)}
FEWEST_PLAIN = 32  # and from which 1x1 filters are a good matrix product
MOST_WEIGHTS = 2**17  # numbers that stay in the cache from image to image, as direct convolution wants
LARGEST = 2048  # channels that the transforms' buffers hold
LONGEST = 16384  # numbers in a line of an image that they hold


def choose(
    algorithm: str, result: int, weight: tuple[int, ...], out: Pair, strides: Pair, dilation: Pair
) -> str:
    """The name of the algorithm that computes `result`; `out` is where the tiles lie."""
    if algorithm == "auto":
        algorithm = os.environ.get("MINIDL_CONV", "auto")
        if algorithm not in ALGORITHMS:
            raise ValueError(f"MINIDL_CONV must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    return _choose(algorithm, result, weight, out, strides, dilation)


@lru_cache(maxsize=1024)
def _choose(
    algorithm: str, result: int, weight: tuple[int, ...], out: Pair, strides: Pair, dilation: Pair
) -> str:
    side, channels = weight[0], weight[2:]
    possible = {"im2col"}
    if dilation == (1, 1) and out[0] * out[1] >= NARROW_ROWS:
        possible.add("direct")
    fits = max(channels) <= LARGEST and (out[1] + 8) * max(channels) <= LONGEST and min(out) > 0
    if fits and strides == dilation == (1, 1) and weight[1] == side:
        possible.update(name for name, filters in WINOGRAD.items() if filters == side)
    if algorithm != "auto":
        return algorithm if algorithm in possible else "im2col"
    mean = 2 / (1 / channels[0] + 1 / channels[1])
    if "winograd4" in possible and mean >= FEWEST[3][result] and min(out) >= 2:
        return "winograd4"
    if "winograd3" in possible and mean >= FEWEST[5][result] and min(out) >= 3:
        return "winograd3"
    plain = weight[:2] == strides == (1, 1) and mean >= FEWEST_PLAIN
    weights = weight[0] * weight[1] * channels[0] * channels[1]
    return "direct" if "direct" in possible and not plain and weights <= MOST_WEIGHTS else "im2col"
