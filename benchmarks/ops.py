"""Every compiled kernel against its reference, and against PyTorch where it has the same operation.

python -m benchmarks.ops [--json FILE]

The three take turns in one process; PyTorch's threads are told not to wait by spinning.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from minidl.backend import keep_freed_memory
from minidl.environment import environment
from minidl.kernels import cpu, reference
from minidl.rng import Key

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

rng = np.random.default_rng(0)
ONCE = (1, 1), ((0, 0), (0, 0)), (1, 1)  # strides, padding, dilation


def numbers(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def cases() -> dict[str, tuple[str, tuple[Any, ...], Callable[[], Any] | None]]:
    """(kernel, arguments, the same in PyTorch) by title: batch 128, the sizes of the digits networks.

    Gradients are computed in place, as in training; with numbers that neither grow nor vanish when that is repeated.
    """
    x, w, dy, b = numbers(128, 13, 13, 32), numbers(5, 5, 32, 64), numbers(128, 9, 9, 64), numbers(64)
    x3, w3, same = numbers(128, 16, 16, 128), numbers(3, 3, 128, 128), ((1, 1), ((1, 1), (1, 1)), (1, 1))
    thin, w8 = numbers(128, 28, 28, 8), numbers(3, 3, 8, 16)
    image, window = numbers(128, 26, 26, 32), ((2, 2), (2, 2), ((0, 0), (0, 0)))
    pooled, where = reference.max_pool(image, (13, 13), *window)
    rows, gamma, beta = image.reshape(-1, 32), numbers(32), numbers(32)
    _, mean, inverse_std = reference.batch_norm(rows, gamma, beta, 1e-5)
    small, labels = numbers(128, 100), rng.integers(0, 10, 128)
    flat, key = [np.abs(numbers(1_000_000)) for _ in range(4)], Key(0, "benchmark")
    mask, one = reference.dropout(pooled, 0.5, key)[1], np.ones_like(gamma)
    a, m = numbers(2048, 784), numbers(784, 1024)
    features, head = numbers(2048, 4096), numbers(4096, 10)
    digits, hidden = numbers(128, 784), numbers(784, 100)
    units = numbers(100, 100), None, numbers(100), numbers(100)
    affine = numbers(100, 100) / 10, numbers(100), numbers(100), 1.0
    block = reference.dense_block(small, *units, 1e-5, None, 0.1, 1.0, 0.9, key)
    kept = (block[1], small, units[0], *block[2:], units[2])
    t = _in_torch(
        x=x,
        w=w,
        b=b,
        x3=x3,
        w3=w3,
        thin=thin,
        w8=w8,
        image=image,
        rows=rows,
        gamma=gamma,
        beta=beta,
        mean=mean.copy(),
        var=one.copy(),
        small=small,
        a=a,
        m=m,
        features=features,
        head=head,
        digits=digits,
        hidden=hidden,
    )
    f = functional if torch else None
    return {
        "conv2d 5x5, 32 to 64": ("conv2d", (x, w, b, None, (9, 9), *ONCE), t and (lambda: f.conv2d(t.x, t.w, t.b))),
        "its input gradient": ("conv2d_grad_input", (dy, w, x.shape, *ONCE), None),
        "its filter gradient": ("conv2d_grad_weight", (dy, x, w.shape, *ONCE), None),
        "conv2d 3x3, 128 to 128": (
            "conv2d", (x3, w3, None, None, (16, 16), *same), t and (lambda: f.conv2d(t.x3, t.w3, padding=1))
        ),
        "conv2d 3x3, 8 to 16": (
            "conv2d", (thin, w8, None, None, (28, 28), *same), t and (lambda: f.conv2d(t.thin, t.w8, padding=1))
        ),
        "and max_pool": ("conv2d_max_pool", (thin, w8, None, None, (28, 28), *same, "auto", ((14, 14), *window)), None),
        "image gradient 5x5, 6 to 16": (
            "conv2d_grad_input", (numbers(128, 10, 10, 16), numbers(5, 5, 6, 16), (128, 14, 14, 6), *ONCE), None
        ),
        "filter gradient 3x3, 1 to 8": ("conv2d_grad_weight", (numbers(128, 28, 28, 8), numbers(128, 28, 28, 1), (3, 3, 1, 8), *same), None),
        "max_pool": ("max_pool", (image, (13, 13), *window), t and (lambda: f.max_pool2d(t.image, 2))),
        "max_pool_grad": ("max_pool_grad", (pooled, where, image.shape, *window), None),
        "batch_norm": (
            "batch_norm", (rows, gamma, beta, 1e-5, (mean.copy(), one.copy()), 0.1),
            t and (lambda: f.batch_norm(t.rows, t.mean, t.var, t.gamma, t.beta, training=True)),
        ),
        "batch_norm_grad": ("batch_norm_grad", (rows.copy(), rows, mean, inverse_std, one, (None, None), True), None),
        "leaky_relu": ("leaky_relu", (image, 0.01), t and (lambda: f.leaky_relu(t.image))),
        "leaky_relu_grad": ("leaky_relu_grad", (image.copy(), image, 0.0, True), None),
        "bias_activation_grad": ("bias_activation_grad", (rows.copy(), rows, 0.0, None, True), None),
        "dense, affine, elu": ("dense_affine", (small, [affine]), None),
        "five of them": ("dense_affine", (small, 5 * [affine]), None),
        "dense, batch norm, elu, dropout": ("dense_block", (small, *units, 1e-5, None, 0.1, 1.0, 0.9, key), None),
        "their gradients": ("dense_block_grad", (small, *kept), None),
        "elu": ("elu", (small, 1.0), t and (lambda: f.elu(t.small))),
        "elu_grad": ("elu_grad", (small, small, small, 1.0), None),
        "dropout": ("dropout", (pooled, 0.5, key), t and (lambda: f.dropout(t.x, 0.5))),
        "dropout_grad": ("dropout_grad", (pooled.copy(), mask, 1.0, True), None),
        "cross_entropy": ("cross_entropy", (small[:, :10], labels), None),
        "matmul": ("matmul", (a, m), t and (lambda: t.a @ t.m)),
        "matmul, a small one": ("matmul", (digits, hidden), t and (lambda: t.digits @ t.hidden)),
        "dense": ("dense", (a, m, numbers(1024), 0.0), None),
        "matmul with 4 rows, turned": ("matmul", (numbers(4, 784), numbers(1024, 784).T), None),
        "matmul with 10 columns": ("matmul", (features, head), t and (lambda: t.features @ t.head)),
        "matmul with 10 terms": ("matmul", (features @ head, head.T), None),
        "sum_rows": ("sum_rows", (rows,), t and (lambda: t.rows.sum(0))),
        "adam_step, 100 thousand": ("adam_step", (*[a[:100_000] for a in flat], 1e-3, 0.9, 0.999, 1e-8, 1, 0.0, False), None),
        "adam_step, a million": ("adam_step", (*flat, 1e-3, 0.9, 0.999, 1e-8, 1, 0.0, False), None),
        "sgd_step, a million": ("sgd_step", (*flat[:3], 1e-3, 0.9, False, 0.0), None),
    }  # fmt: skip


def _in_torch(**arrays: np.ndarray) -> Any:
    """The arrays as tensors with PyTorch's order of axes, channels_last in memory; None without PyTorch."""
    if torch is None:
        return None
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    for key, value in tensors.items():
        if value.ndim == 4:
            axes = (3, 2, 0, 1) if key.startswith("w") else (0, 3, 1, 2)
            tensors[key] = value.permute(axes).contiguous(memory_format=torch.channels_last)
    return argparse.Namespace(**tensors)


def milliseconds(
    functions: list[Callable[[], Any]], rounds: int = 4, calls: int = 5, seconds: float = 0.02
) -> list[float]:
    """Median time of a call of each, some calls at a time in turn; a pause lets the threads of the last go to sleep."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, mine in zip(functions, times, strict=True):
            time.sleep(0.1)
            function()
            before, end = len(mine), time.perf_counter() + seconds
            while len(mine) < before + calls or time.perf_counter() < end:
                start = time.perf_counter()
                function()
                mine.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(mine) for mine in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    output = parser.parse_args().json
    keep_freed_memory()
    rows = {}
    print(f"{'kernel':<24}{'reference, ms':>15}{'compiled, ms':>15}{'ratio':>8}{'PyTorch, ms':>14}")
    for title, (name, arguments, other) in cases().items():
        functions = [functools.partial(getattr(module, name), *arguments) for module in (reference, cpu)]
        times = milliseconds([*functions, *([other] if other else [])])
        rows[title] = dict(
            zip(("reference_ms", "compiled_ms", "torch_ms"), (round(t, 4) for t in times), strict=False)
        )
        beside = f"{times[2]:>14.3f}" if other else ""
        print(f"{title:<24}{times[0]:>15.3f}{times[1]:>15.3f}{times[1] / times[0]:>8.2f}{beside}", flush=True)
    if output is not None:
        output.write_text(json.dumps({"kernels": rows, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    with torch.inference_mode() if torch else np.errstate():
        main()
