"""Everything there is to do on a machine with an NVIDIA GPU, in one command and under eight minutes.

python -m benchmarks.gpu [--json FILE] [--parts smoke,tests,steps,mnist] [--cases mlp,cnn,...] [--seconds 0.5]

1. smoke: a product by cuBLAS within a capture, replayed, gives the right numbers.
2. tests: ``pytest -m gpu``.
3. steps: a step of each workload in minidl (eager, graph) and PyTorch (eager, compiled, graph), in fp32 and TF32. Before
   the clock starts all must find the same losses from the same weights; times are of many steps between two waits.
4. mnist: one epoch to 99 %, by the wall and in time on the GPU, the same recipe in PyTorch.

It needs CuPy, and PyTorch with CUDA for the comparison; what is missing is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import CASES, Case
from benchmarks.train_step import TOLERANCES
from minidl.backend import DeviceError, cupy_module
from minidl.environment import environment

CONTESTANTS = (
    "minidl_gpu:eager",
    "minidl_gpu:graph",
    "torch_gpu:eager",
    "torch_gpu:compile",
    "torch_gpu:graph",
)
LIMIT_S = 90  # for one contestant in one case
TF32_TOLERANCE = 20  # times that of fp32


def training(case: Case) -> Case:
    return dataclasses.replace(
        case, name=f"{case.name}-training", title=f"{case.title}, training", training=True
    )


def cases() -> dict[str, Case]:
    """The workloads of the table."""
    alexnet = Case("alexnet", "AlexNet features", _alexnet(), (224, 224, 3), 256 * 7 * 7, 128, training=False)
    vgg16 = CASES["vgg16"]
    chosen = [
        CASES["mlp"].at(128),
        CASES["mlp"],
        CASES["cnn"],
        CASES["thin"],
        CASES["transfer"],
        vgg16,
        training(vgg16),
    ]
    return {case.name: case for case in [*chosen, alexnet, training(alexnet)]}


def _alexnet() -> tuple[tuple[Any, ...], ...]:
    """Without its strides, which the words of `networks` lack: 3x3 convolutions of AlexNet's widths on 224x224."""
    pool, relu = ("max_pool", 2), ("relu",)
    widths = (64, 192, 384, 256, 256)
    layers: list[tuple[Any, ...]] = [pool, pool]
    for filters in widths:
        layers += [("conv", filters, 3, 1, True), relu]
        layers += [pool] if filters in (64, 192) else []
    return (*layers, pool, ("flatten",))


# 1. Smoke -------------------------------------------------------------------------------------------


def smoke() -> dict[str, Any]:
    """cuBLAS through ctypes inside a capture; replayed on changed numbers."""
    cupy = cupy_module()
    from minidl.kernels import cuda

    host = [np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32) for seed in range(3)]
    a, b = cupy.asarray(host[0]), cupy.asarray(host[1])
    stream, out = cupy.cuda.Stream(non_blocking=True), cupy.empty((64, 64), np.float32)
    cupy.cuda.Device().synchronize()
    with stream:
        cuda.matmul(a, b, out)  # makes the handle
        cuda.leaky_relu(out, 0.0)
        stream.synchronize()
        stream.begin_capture()
        cuda.matmul(a, b, out)
        result = cuda.leaky_relu(out, 0.0)
        graph = stream.end_capture()
        worst = 0.0
        for values in host:
            a.set(values)
            graph.launch(stream)
            worst = max(worst, float(np.abs(result.get() - np.maximum(values @ host[1], 0)).max()))
    if worst > 1e-3:
        raise RuntimeError(f"a replayed product is wrong by {worst}")
    return {"largest_error": worst}


# 2. Tests -------------------------------------------------------------------------------------------


def tests() -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = done.stdout.strip().splitlines()
    return {
        "exit_code": done.returncode,
        "summary": lines[-1] if lines else "",
        "tail": lines[-30:] if done.returncode else [],
    }


# 3. Steps -------------------------------------------------------------------------------------------


def contest(name: str, peer: str, precision: str, seconds: float) -> dict[str, Any]:
    """One contestant in a process of its own."""
    module, _, mode = peer.partition(":")
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--contestant",
        module,
        "--cases",
        name,
        "--seconds",
        str(seconds),
    ]
    environ = os.environ | {"GPU_MODE": mode, "GPU_PRECISION": precision}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env=environ, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {LIMIT_S} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def contestant(module: str, case: Case, seconds: float) -> dict[str, Any]:
    """What runs in that process: losses of three steps, then microseconds a step."""
    peer: Any = importlib.import_module(f"benchmarks.peers.with_{module}")
    weights = case.weights()
    checked = peer.Contestant(case.without_dropout(), weights)
    losses = []
    for _ in range(3):
        checked.step()
        losses.append(checked.loss())
    if getattr(checked, "captured", None) is not None:
        checked.captured.__exit__()
    del checked
    timed = peer.Contestant(case, weights)
    for _ in range(12):
        timed.step()
    timed.wait()
    start = time.perf_counter()
    timed.step()
    timed.wait()
    many = max(int(0.05 / max(time.perf_counter() - start, 1e-6)), 3)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(many):
            timed.step()
        timed.wait()
        times.append(1e6 * (time.perf_counter() - start) / many)
    return {
        "version": peer.VERSION,
        "losses": losses,
        "microseconds": round(statistics.median(times), 2),
        "steps": many * len(times),
    }


def steps(names: list[str], seconds: float) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in names:
        for precision in ("fp32", "tf32"):
            rows = {peer: contest(name, peer, precision, seconds) for peer in CONTESTANTS}
            compare(rows, 1 if precision == "fp32" else TF32_TOLERANCE)
            results[f"{name} {precision}"] = rows
            print(table(cases()[name].title, precision, rows), flush=True)
    return results


def compare(rows: dict[str, Any], slack: float) -> None:
    """Mark whoever finds other losses than the first: its time means nothing."""
    found = [row for row in rows.values() if "losses" in row]
    for row in found[1:]:
        for a, b, tolerance in zip(found[0]["losses"], row["losses"], TOLERANCES, strict=True):
            if not abs(a - b) <= slack * tolerance * max(abs(a), abs(b)):
                row["error"] = f"losses differ: {found[0]['losses']} and {row['losses']}"


def table(title: str, precision: str, rows: dict[str, Any]) -> str:
    """One case as text; ratios are to PyTorch's fastest mode."""
    sound = {peer: row["microseconds"] for peer, row in rows.items() if "error" not in row}
    best = min((time for peer, time in sound.items() if peer.startswith("torch")), default=None)
    lines = [f"{title}, {precision}"]
    for peer, row in rows.items():
        if "error" in row:
            lines.append(f"  {peer:<20}{row['error']}")
        else:
            ratio = f"{row['microseconds'] / best:8.2f}" if best else ""
            lines.append(f"  {peer:<20}{row['microseconds']:>12.1f} us{ratio}")
    return "\n".join(lines)


# 4. MNIST -------------------------------------------------------------------------------------------


def mnist() -> dict[str, Any]:
    """99 % after one epoch: a small network with batch norm, AdamW and one cycle of the learning rate."""
    import minidl as dl

    (x, y), (x_test, y_test) = dl.data.mnist()
    layers = dl.layers
    dl.backend.precision("tf32")

    def model() -> dl.Sequential:
        parts = [
            layers.Conv2D(24, 5, activation="relu"), layers.BatchNorm(), layers.MaxPool2D(2),
            layers.Conv2D(32, 3, activation="relu"), layers.BatchNorm(), layers.MaxPool2D(2),
            layers.Flatten(), layers.Dense(256, "relu"), layers.BatchNorm(), layers.Dense(10),
        ]  # fmt: skip
        return dl.Sequential(*parts, input_shape=(28, 28, 1)).to("cuda")

    cupy = cupy_module()
    data = cupy.asarray(x), cupy.asarray(y.astype(np.int64))
    test = cupy.asarray(x_test), cupy.asarray(y_test.astype(np.int64))
    runs = []
    for seed in range(4):  # the first one compiles
        network = model()
        rate = dl.optim.WarmUp(dl.optim.CosineDecay(0.01, 1), 0.2)
        optimizer = dl.optim.AdamW(network, rate, weight_decay=0.01)
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        start = time.perf_counter()
        begin.record()
        dl.fit(network, *data, epochs=1, batch_size=256, optimizer=optimizer, seed=seed, verbose=0)
        end.record()
        end.synchronize()
        wall = 1e3 * (time.perf_counter() - start)
        accuracy = dl.evaluate(network, *test, batch_size=2000)["accuracy"]
        runs.append({"wall_ms": wall, "gpu_ms": cupy.cuda.get_elapsed_time(begin, end), "accuracy": accuracy})
        print(f"MNIST, one epoch: {wall:.0f} ms, {100 * accuracy:.2f} %", flush=True)
    return {"runs": runs}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--parts", default="smoke,tests,steps,mnist")
    parser.add_argument("--cases", default="", help="of the steps, by commas: " + ", ".join(cases()))
    parser.add_argument("--seconds", type=float, default=0.4, help="that each contestant is timed")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in options.cases.split(",") if name] or list(cases())
    unknown = sorted(set(names) - set(cases()))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; cases are {', '.join(cases())}")
    if options.contestant:
        print(json.dumps(contestant(options.contestant, cases()[names[0]], options.seconds)))
        return 0
    try:
        cupy_module()
    except DeviceError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    work: dict[str, Any] = {
        "smoke": smoke,
        "tests": tests,
        "steps": lambda: steps(names, options.seconds),
        "mnist": mnist,
    }
    record: dict[str, Any] = {"environment": environment()}
    for part in options.parts.split(","):
        start = time.perf_counter()
        try:
            record[part] = work[part]()
        except Exception as error:  # the other parts are worth having
            record[part] = {"error": f"{type(error).__name__}: {error}"}
        print(
            f"{part}: {record[part] if part != 'steps' else 'done'} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any("error" in record[part] for part in options.parts.split(",")))


if __name__ == "__main__":
    sys.exit(main())
