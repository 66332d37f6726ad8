"""How Winograd's tiles cover images, and how their numbers lie in memory (see `winograd` and `winograd_bands`).

Where an image's height or width is no multiple of m, a tile at its edge may have fewer outputs than m x m, and needs
fewer positions of the transform: a 7x7 image takes 121 products with 4x4, 4x3, 3x4 and 3x3 outputs, and 144 with four
whole tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ...backend import Array
from ...shapes import Pair
from .compiling import scratch
from .winograd_bands import SPACING

BLOCK_TILES, BLOCK_NUMBERS = 96, 8192  # tiles transformed at once, or more of few channels: so many numbers


class Block(NamedTuple):
    """Some bands of tiles (the first one, and one behind the last, counted over all images) that are done at once."""

    first: int
    last: int
    tiles: int
    spans: Array  # (positions, 3): a position of the transform, and which of the block's tiles have it

    def part(self, start: int = 0, stop: int | None = None) -> tuple[int, int, int, int]:
        """What a transform is told of it, if it is to do its bands start..stop."""
        return self.first, self.last, self.first + start, self.last if stop is None else self.first + stop


class Grid:
    """Tiles of m x m outputs, each of n x n positions; smaller ones at the edges if `ragged`."""

    def __init__(self, m: int, n: int, ragged: bool, out: Pair):
        self._n, whole, (self.bands, self.across) = (
            n,
            [size // m for size in out],
            (-(-size // m) for size in out),
        )
        if not ragged:
            whole, out = [self.bands, self.across], (m, m)
        self._whole, self._edge = whole, (out[0] % m, out[1] % m)
        self.numbers = (self.bands, whole[0], self._edge[0], self.across, whole[1], self._edge[1])
        self.positions = self._spans(1, 1)[:, 0]

    @lru_cache(maxsize=64)  # noqa: B019 - grids are few, and kept as long as these
    def _spans(self, whole_bands: int, other_bands: int) -> Array:
        """For each position that is needed at all, the tiles that have it, in the order of `winograd_bands.place`."""
        (_, whole_down, down, _, whole_across, across), n = self.numbers, self._n
        bottom, middle = other_bands * whole_across, whole_bands * whole_across
        everything, found = (whole_bands + other_bands) * self.across, []
        for i in range(n):
            for j in range(n):
                # Points that an edge goes without have the numbers edge + 1 .. n - 2; infinity is the last.
                whole_rows, whole_columns = down < i < n - 1 and down, across < j < n - 1 and across
                if (whole_rows and not whole_down) or (whole_columns and not whole_across):
                    continue
                start = bottom if whole_rows else 0
                stop = bottom + middle if whole_columns else everything
                if whole_rows and not whole_columns:
                    stop = bottom + whole_bands * self.across
                found.append((i * n + j, start, stop))
        return np.array(found)

    def blocks(self, start: int, stop: int, channels: int) -> Iterator[Block]:
        """Bands start..stop, some at a time."""
        tiles = min(max(BLOCK_TILES, BLOCK_NUMBERS // channels), SPACING // channels)
        step = max(tiles // self.across, 1)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            whole = self._whole_before(last) - self._whole_before(first)
            yield Block(first, last, (last - first) * self.across, self._spans(whole, last - first - whole))

    def _whole_before(self, band: int) -> int:
        return band // self.bands * self._whole[0] + min(band % self.bands, self._whole[0])


grid_of = lru_cache(maxsize=256)(Grid)


def positions(name: str, count: int, dtype: Any) -> Array:
    """This thread's memory for the numbers of some tiles, by position."""
    return scratch(name, count * SPACING, dtype)


def matrices(flat: Array, count: int, tiles: int, channels: int) -> Array:
    """(positions, tiles, channels) in the memory that the transforms write."""
    rows = flat.reshape(count, SPACING)[:, : tiles * channels]
    return rows.reshape(count, tiles, channels)
