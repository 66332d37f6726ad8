"""Counter-based random numbers: a number is a function of (seed, stream, step, call, index), not of a state.

So a resumed run draws what the uninterrupted one would have drawn, two devices draw the same, and nothing
has to be saved. The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
3", SC 2011): NumPy's own C implementation on the CPU, the same arithmetic in array code elsewhere.
"""

from __future__ import annotations

import itertools
import zlib
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

_calls = itertools.count()


class Key(NamedTuple):
    """What a block of random numbers depends on.

    `stream` names the consumer ("dropout_1"), `step` counts training steps, `call` counts draws by the
    same consumer within one step (a shared layer draws twice).
    """

    seed: int
    stream: str
    step: int = 0
    call: int = 0


class Counted:
    """A number that is read from device memory when it is used: what is at `place`, plus `offset`.

    A captured step is the same at each replay but for these: its count of steps, and its learning rate.
    """

    def __init__(self, place: Any, offset: int = 0):
        self.place, self.offset = place, offset

    def __add__(self, other: int) -> Counted:
        return Counted(self.place, self.offset + other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counted) and (self.place is other.place and self.offset == other.offset)

    __hash__ = None  # type: ignore[assignment]


def fresh_key(stream: str) -> Key:
    """A key never used before in this process, for draws that nobody asked to repeat."""
    return Key(0, stream, step=-1, call=next(_calls))


def stream_id(name: str) -> int:
    """A stable 32-bit number for a stream's name (Python's own hash changes from run to run)."""
    return zlib.crc32(name.encode())


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for host-side draws (initial weights, shuffles), one per (seed, names)."""
    words = [n if isinstance(n, int) else stream_id(n) for n in names]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=words))


def philox_start(key: Key) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Key and counter of the generator for `key`."""
    return (key.seed % 2**64, stream_id(key.stream)), (0, key.step % 2**64, key.call, 0)


def random_bits(count: int, key: Key, xp: ModuleType = np) -> Any:
    """`count` uniform 32-bit integers for `key`, as a uint32 array of module `xp`."""
    words = -(-count // 2)
    philox_key, counter = philox_start(key)
    if xp is np:
        source = np.random.Philox(counter=np.array(counter, np.uint64), key=np.array(philox_key, np.uint64))
        return source.random_raw(words).view(np.uint32)[:count]
    return philox4x64(words, philox_key, counter, xp).view(xp.uint32)[:count]


def keep_threshold(keep: float) -> int:
    """An element is kept if its 32-bit number is below this."""
    return round(keep * 2**32)


def keep_mask(shape: tuple[int, ...], keep: float, key: Key, xp: ModuleType = np) -> Any:
    """Boolean array that is True with probability `keep` (rounded to a multiple of 2**-32)."""
    count = int(np.prod(shape))
    threshold = keep_threshold(keep)
    if threshold >= 2**32:
        return xp.ones(shape, dtype=bool)
    return (random_bits(count, key, xp) < xp.uint32(threshold)).reshape(shape)


def philox4x64(count: int, key: tuple[int, int], counter: tuple[int, ...], xp: ModuleType) -> Any:
    """`count` 64-bit outputs of Philox4x64-10 in array code: what NumPy's C code computes.

    Block b encrypts `counter` + b + 1 (NumPy increments before it draws) and yields four words.
    """
    blocks = -(-count // 4)
    c0 = xp.arange(1, blocks + 1, dtype=xp.uint64) + xp.uint64(counter[0])
    c1, c2, c3 = (xp.full(blocks, word, dtype=xp.uint64) for word in counter[1:])
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(0xD2E7470EE14C6C93, c0, xp)
        high1, low1 = _multiply(0xCA5A826395121157, c2, xp)
        c0, c1, c2, c3 = high1 ^ c1 ^ xp.uint64(k0), low1, high0 ^ c3 ^ xp.uint64(k1), low0
        k0 = (k0 + 0x9E3779B97F4A7C15) % 2**64  # Weyl sequence: golden ratio, sqrt(3) - 1
        k1 = (k1 + 0xBB67AE8584CAA73B) % 2**64
    return xp.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:count]


def _multiply(a: int, b: Any, xp: ModuleType) -> tuple[Any, Any]:
    """High and low 64 bits of the 128-bit product a * b, by 32-bit halves."""
    mask, shift = xp.uint64(0xFFFFFFFF), xp.uint64(32)
    a_low, a_high = xp.uint64(a & 0xFFFFFFFF), xp.uint64(a >> 32)
    b_low, b_high = b & mask, b >> shift
    middle = a_high * b_low + ((a_low * b_low) >> shift)
    cross = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> shift) + (cross >> shift), xp.uint64(a) * b
