"""Each compiled kernel against its reference, on the shapes of the MNIST network.

python -m benchmarks.kernels [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minidl.backend import keep_freed_memory
from minidl.environment import environment
from minidl.kernels import cpu, reference

rng = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def cases() -> dict[str, tuple[Any, ...]]:
    """Arguments of every twin: batch 128, second convolution 5x5 from 32 to 64 channels, first pooling."""
    x, w, dy = numbers(128, 13, 13, 32), numbers(5, 5, 32, 64), numbers(128, 9, 9, 64)
    once = (1, 1), ((0, 0), (0, 0)), (1, 1)  # strides, padding, dilation
    image, window = numbers(128, 26, 26, 32), ((2, 2), (2, 2), ((0, 0), (0, 0)))
    where = reference.max_pool(image, (13, 13), *window)[1]
    rows, channel = image.reshape(-1, 32), [numbers(32) for _ in range(2)]
    _, normalised, inverse_std, _, _ = reference.batch_norm(rows, *channel, 1e-5)
    return {
        "conv2d": (x, w, numbers(64), (9, 9), *once),
        "conv2d_grad_input": (dy, w, x.shape, *once),
        "conv2d_grad_weight": (dy, x, w.shape, *once),
        "max_pool": (image, (13, 13), *window),
        "max_pool_grad": (x, where, image.shape, *window),
        "batch_norm": (rows, *channel, 1e-5),
        "batch_norm_grad": (rows, normalised, channel[0], inverse_std),
    }


def milliseconds(function: Callable[..., Any], arguments: tuple[Any, ...], repeats: int = 15) -> float:
    """Median time of a call, after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function(*arguments)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    output = parser.parse_args().json
    keep_freed_memory()
    rows = {}
    print(f"{'kernel':<20}{'reference, ms':>15}{'compiled, ms':>15}{'ratio':>8}")
    for name, arguments in cases().items():
        plain, fast = (milliseconds(getattr(module, name), arguments) for module in (reference, cpu))
        rows[name] = {"reference_ms": round(plain, 3), "compiled_ms": round(fast, 3)}
        print(f"{name:<20}{plain:>15.2f}{fast:>15.2f}{fast / plain:>8.2f}")
    if output is not None:
        output.write_text(json.dumps({"kernels": rows, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
