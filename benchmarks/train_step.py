"""One training step (or forward pass) of each workload in minidl and its peers, side by side.

python -m benchmarks.train_step [--peers torch,keras,...] [--cases cnn,mlp,...] [--json FILE]

Each contestant runs in its own process, a second at a time, in turn with the others, on as many threads; so a
machine that slows down slows all of them. Before that, all must find the same losses from the same weights.
The curve over batch sizes is beside PyTorch only. The last line of a case
says what the matrix products alone would take at the rate that NumPy reached in between.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.networks import CASES, SCALING, Case
from benchmarks.peers.with_gemm import SIZE
from minidl.environment import environment

# name: (module, environment)
PEERS = {
    "minidl": ("minidl", {}),
    "minidl_reference": ("minidl", {"MINIDL_KERNELS": "reference"}),
    "torch": ("torch", {}),
    "torch_channels_last": ("torch", {"TORCH_LAYOUT": "channels_last"}),
    "keras": ("keras", {}),
    "jax": ("jax", {}),
    "gemm": ("gemm", {}),
}
# Of the losses before any update, after one and after two. Before: PyTorch's batch norm of 2.8 million numbers a
# channel is off by 2e-4 (batch 4096, against float64). After: Adam's first steps move each weight by the learning
# rate whatever the size of its gradient, so that rounding decides where gradients are all but zero.
TOLERANCES = 1e-3, 2e-3, 2e-2


class Contestant:
    """A worker process and what it measured."""

    def __init__(self, peer: str, case: Case, threads: int):
        module, extra = PEERS[peer]
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        command = [sys.executable, "-m", "benchmarks.worker", module, case.name]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **limits, **extra},
        )
        self.peer, self.times = peer, list[float]()
        check = self.ask(do="check")
        self.losses, self.version = check["losses"], check["version"]
        self.megabytes = self.ask(do="memory")["megabytes"]

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101 - for mypy
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.peer}: the worker ended with exit code {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def result(self) -> dict[str, Any]:
        low, median, high = statistics.quantiles(self.times, n=4)
        return {
            "version": self.version,
            "median_ms": round(median, 4),
            "quartiles_ms": [round(low, 4), round(high, 4)],
            "steps": len(self.times),
            "megabytes": round(self.megabytes, 1),
            "loss": self.losses[-1],
        }


def measure(case: Case, peers: list[str], rounds: int, seconds: float, threads: int) -> dict[str, Any]:
    """Results by peer, and the rate of NumPy's matrix products in GFLOP/s."""
    contestants: list[Contestant] = []
    try:
        for peer in [*peers, "gemm"]:
            contestants.append(Contestant(peer, case, threads))
        compare_losses(case, contestants[:-1])
        for _ in range(rounds):
            for contestant in random.sample(contestants, len(contestants)):
                contestant.times += contestant.ask(do="run", seconds=seconds)["times"]
    finally:
        for contestant in contestants:
            contestant.close()
    results = {c.peer: c.result() for c in contestants}
    rate = 2 * SIZE**3 / results.pop("gemm")["median_ms"] / 1e6
    floor = case.flops() / rate / 1e6
    return {
        "title": case.title,
        "batch": case.batch,
        "gflops_per_second": round(rate, 1),
        "floor_ms": round(floor, 4),
        "peers": results,
    }


def compare_losses(case: Case, contestants: list[Contestant]) -> None:
    """Equal weights must give equal losses, before and after updates; otherwise times mean nothing."""
    expected = contestants[0].losses
    for other in contestants[1:]:
        for a, b, tolerance in zip(expected, other.losses, TOLERANCES, strict=True):
            if not abs(a - b) <= tolerance * max(abs(a), abs(b)):
                raise RuntimeError(
                    f"{case.name}: losses differ: minidl {expected}, {other.peer} {other.losses}"
                )


def best_torch(peers: dict[str, Any]) -> float | None:
    """The time of PyTorch's faster mode."""
    return min((r["median_ms"] for name, r in peers.items() if name.startswith("torch")), default=None)


def table(name: str, result: dict[str, Any]) -> str:
    """One case as text."""
    reference = best_torch(result["peers"]) or result["peers"]["minidl"]["median_ms"]
    lines = [f"{name}: {result['title']}, batch {result['batch']}"]
    for peer, r in result["peers"].items():
        low, high = r["quartiles_ms"]
        lines.append(
            f"  {peer:<20}{r['median_ms']:>10.3f} ms  ({low:.3f} to {high:.3f}) {r['median_ms'] / reference:>8.2f}"
            f"{r['megabytes']:>10.1f} MB"
        )
    rate = result["gflops_per_second"]
    lines.append(f"  {'products alone':<20}{result['floor_ms']:>10.3f} ms  at {rate:.0f} GFLOP/s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=",".join(p for p in PEERS if p != "gemm"))
    parser.add_argument("--cases", default="*", help="names or patterns, by commas: " + ", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each contestant in each round")
    parser.add_argument("--threads", type=int, default=environment()["cores"])
    parser.add_argument("--json", type=Path, help="where the results go; a bar chart goes beside it")
    options = parser.parse_args()
    peers = list(dict.fromkeys(["minidl", *options.peers.split(",")]))
    unknown = sorted(set(peers) - set(PEERS))
    patterns = options.cases.split(",")
    chosen = [name for name in CASES if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    if unknown or not chosen:
        parser.error(f"unknown: {', '.join(unknown or patterns)}; peers are {', '.join(PEERS)}")
    facts = environment()
    print(f"{facts['cpu']}, {options.threads} threads, Python {facts['python']}, {facts['blas']}")
    results: dict[str, Any] = {}
    for name in chosen:
        case = CASES[name]
        beside = [p for p in peers if case not in SCALING or p == "minidl" or p.startswith("torch")]
        results[name] = measure(case, beside, options.rounds, options.seconds, options.threads)
        print(table(name, results[name]), flush=True)
        if options.json:  # after each case: a run takes half an hour
            record = {"environment": facts, "threads": options.threads, "cases": results}
            options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.json:
        from benchmarks.chart import bars

        bars(record, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
