"""Kill a training run again and again, at random moments, and see that what it ends with is the same bit for bit.

python -m tests.faults.kill_rounds --rounds 200
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from minidl import weights
from tests.faults.training import train


def child(folder: Path) -> int:
    """Train in a process of its own, from the newest checkpoint on; its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            model, _ = train(folder)
            weights.save(model, folder / "final.safetensors")
            code = 0
        finally:
            os._exit(code)
    return pid


def finished(pid: int, seconds: float | None) -> bool:
    """Whether the child ends by itself within `seconds`; else it is killed."""
    deadline = time.perf_counter() + (seconds if seconds is not None else 1e9)
    while time.perf_counter() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError(f"the run failed with exit code {os.waitstatus_to_exitcode(status)}")
            return True
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def rounds(count: int, seed: int = 0) -> dict[str, float]:
    """Until `count` runs were killed, once to three times each, and then finished: how many ended with other weights."""
    moment, start = random.Random(seed), time.perf_counter()
    kills = losses = 0
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, cuts: list[float]) -> Path:
            nonlocal kills
            (place := Path(folder) / name).mkdir()
            for cut in cuts:
                kills += not finished(child(place), cut)
            finished(child(place), None)
            return place

        run("warm", [])
        begun = time.perf_counter()
        first = run("uninterrupted", [])
        usual = time.perf_counter() - begun
        expected, history = weights.read(first / "final.safetensors"), (first / "history.csv").read_text()
        killed = number = 0
        while killed < count:
            cuts, before = [moment.uniform(0, usual) for _ in range(moment.randint(1, 3))], kills
            place = run(str(number), cuts)
            got = weights.read(place / "final.safetensors")
            same = all(np.array_equal(expected[name], got[name]) for name in expected)
            losses += not (same and (place / "history.csv").read_text() == history)
            shutil.rmtree(place)
            number += 1
            if kills > before:
                killed += 1
            else:  # it ended before: the machine has become faster
                usual = min(usual, cuts[0])
    return {"runs": count, "kills": kills, "losses": losses, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = rounds(arguments.rounds, arguments.seed)
    print(", ".join(f"{value} {name}" for name, value in result.items()))
    return int(result["losses"] > 0)


if __name__ == "__main__":
    sys.exit(main())
