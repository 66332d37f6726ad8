"""Everything there is to do on a machine with an NVIDIA GPU, in one command of about eight minutes.

python -m benchmarks.gpu [--json FILE] [--parts smoke,tests,steps,mnist] [--cases mlp,cnn,...] [--seconds 0.5]

1. smoke: a product by cuBLAS within a capture, replayed, gives the right numbers.
2. tests: ``pytest -m gpu``.
3. steps: a step of each workload in minidl (eager, graph) and PyTorch (eager, graph, graph with channels last, compiled),
   in fp32 and TF32. Before the clock starts all must find the same losses from the same weights; times are of many steps
   between two waits.
4. mnist: one epoch to 99 %, by the wall and on the GPU's clock, the same recipe in PyTorch.

It needs CuPy, and PyTorch with CUDA for the comparison; what is missing is left out with a line that says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import ALEXNET, CASES, Case
from benchmarks.train_step import TOLERANCES
from minidl.backend import DeviceError, cupy_module
from minidl.environment import environment

MODES = {"minidl_gpu": ("eager", "graph"), "torch_gpu": ("eager", "graph", "graph_channels_last", "compile")}
LIMITS_S = {"minidl_gpu": 150, "torch_gpu": 165}  # with all compilation
EPOCH_LIMITS_S = {"minidl": 40, "torch": 40}
TF32_TOLERANCE = 20  # times that of fp32


def training(case: Case) -> Case:
    return dataclasses.replace(
        case, name=f"{case.name}-training", title=f"{case.title}, training", training=True
    )


def cases() -> dict[str, Case]:
    """The workloads of the table."""
    small = [CASES["mlp"].at(128), *(CASES[name] for name in ("mlp", "cnn", "thin", "lenet", "transfer"))]
    large = CASES["vgg16"], ALEXNET
    return {case.name: case for case in [*small, *large, *map(training, large)]}


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
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:benchmark", "tests/gpu"]
    if importlib.util.find_spec("xdist"):  # most of the time goes into compiling
        command += ["-n", str(min(os.cpu_count() or 1, 12))]
    few = os.environ | {"HYPOTHESIS_PROFILE": "gpu"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=few)
    lines = done.stdout.strip().splitlines()
    return {
        "exit_code": done.returncode,
        "summary": lines[-1] if lines else "",
        "tail": lines[-30:] if done.returncode else [],
    }


# 3. Steps -------------------------------------------------------------------------------------------


def contest(module: str, names: list[str], seconds: float, limit_s: float) -> dict[tuple[str, str, str], Any]:
    """All rows of one library, from a process of its own: {(case, precision, mode): row}."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--contestant", module]
    command += ["--cases", ",".join(names), "--seconds", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
        output, end = done.stdout, (done.stderr.decode().strip().splitlines() or ["no message"])[-1]
    except subprocess.TimeoutExpired as error:
        output, end = error.stdout or b"", f"not within {limit_s:.0f} s"
    rows: dict[tuple[str, str, str], Any] = {
        (name, precision, mode): {"error": end} for mode, precision, name in turns(module, names)
    }
    for line in output.decode().splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            rows[row.pop("case"), row.pop("precision"), row.pop("mode")] = row
    return rows


def turns(module: str, names: list[str]) -> list[tuple[str, str, str]]:
    """(mode, precision, case) in the order of running: what takes long to compile comes last."""
    every = itertools.product(MODES[module], ("fp32", "tf32"), names)
    images = {name for name in names if len(cases()[name].shape) == 3}  # which have two memory formats
    return [turn for turn in every if turn[0] != "graph_channels_last" or turn[2] in images]


def contestants(module: str, names: list[str], seconds: float) -> None:
    """What runs in that process: a line of JSON for each turn."""
    for mode, precision, name in turns(module, names):
        os.environ |= {"GPU_MODE": mode, "GPU_PRECISION": precision}
        try:
            row = contestant(module, cases()[name], seconds)
        except Exception as error:  # the others are worth having
            row = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps({"case": name, "precision": precision, "mode": mode, **row}), flush=True)


def contestant(module: str, case: Case, seconds: float) -> dict[str, Any]:
    """One turn: losses of three steps without dropout, then microseconds a step."""
    peer: Any = importlib.import_module(f"benchmarks.peers.with_{module}")
    weights = case.weights()
    checked = peer.Contestant(case.without_dropout(), weights)
    losses = []
    for _ in range(3):
        checked.step()
        losses.append(checked.loss())
    checked.close()
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
    timed.close()
    return {
        "version": timed.version,
        "losses": losses,
        "microseconds": round(statistics.median(times), 2),
        "steps": many * len(times),
    }


def steps(names: list[str], seconds: float) -> dict[str, Any]:
    rows = {module: contest(module, names, seconds, limit) for module, limit in LIMITS_S.items()}
    results: dict[str, Any] = {}
    for name, precision in itertools.product(names, ("fp32", "tf32")):
        here = {
            f"{module}:{mode}": row
            for module in rows
            for (case, kind, mode), row in rows[module].items()
            if (case, kind) == (name, precision)
        }
        compare(here, 1 if precision == "fp32" else TF32_TOLERANCE)
        results[f"{name} {precision}"] = here
        print(table(cases()[name].title, precision, here), flush=True)
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
    """99 % after one epoch, in minidl and in PyTorch: processes of their own (`benchmarks.mnist_epoch`)."""
    results: dict[str, Any] = {}
    for library, limit_s in EPOCH_LIMITS_S.items():
        command = [sys.executable, "-m", "benchmarks.mnist_epoch", "--library", library, "--device", "cuda"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        runs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for run in runs:
            times = f"{run['wall_ms']:.1f} ms, {run['gpu_ms']:.1f} ms on the GPU"
            print(f"MNIST, one epoch, {library}: {times}, {100 * run['accuracy']:.2f} %", flush=True)
        error = (done.stderr.strip().splitlines() or ["no message"])[-1]
        results[library] = {"runs": runs} if done.returncode == 0 else {"runs": runs, "error": error}
    if "error" in results["minidl"]:
        raise RuntimeError(results["minidl"]["error"])
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--parts", default="smoke,tests,steps,mnist")
    parser.add_argument("--cases", default="", help="of the steps, by commas: " + ", ".join(cases()))
    parser.add_argument("--seconds", type=float, default=0.3, help="that each contestant is timed")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in options.cases.split(",") if name] or list(cases())
    unknown = sorted(set(names) - set(cases()))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; cases are {', '.join(cases())}")
    if options.contestant:
        contestants(options.contestant, names, options.seconds)
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
