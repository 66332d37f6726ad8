"""Not a peer but a yardstick: large matrix products in NumPy, for the rate that the machine can give now."""

from __future__ import annotations

import numpy as np

from benchmarks.networks import Case

VERSION = f"numpy {np.__version__}"
SIZE = 2000


class Contestant:
    def __init__(self, case: Case, weights: list[np.ndarray]):
        self.a, self.b = np.random.default_rng(0).random((2, SIZE, SIZE), np.float32)
        self.c = np.empty_like(self.a)

    def step(self) -> None:
        np.matmul(self.a, self.b, out=self.c)

    def loss(self) -> float:
        return 0.0
