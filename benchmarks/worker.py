"""One contestant in a process of its own, driven by lines of JSON on standard input.

``{"do": "check"}`` returns the losses of three steps without dropout, ``{"do": "memory"}`` the megabytes that
full steps need beyond what is loaded, ``{"do": "run", "seconds": 1}`` the time of each step in
milliseconds, at least three.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.networks import CASES


class Worker:
    def __init__(self, peer: str, case: str):
        self.module: Any = importlib.import_module(f"benchmarks.peers.with_{peer}")
        self.case, self.weights = CASES[case], CASES[case].weights()
        self.contestant: Any = None

    def check(self, steps: int = 3) -> dict[str, Any]:
        contestant = self.module.Contestant(self.case.without_dropout(), self.weights)
        losses = []
        for _ in range(steps):
            contestant.step()
            losses.append(contestant.loss())
        return {"losses": losses, "version": self.module.VERSION}

    def memory(self) -> dict[str, Any]:
        """Compilers and libraries are loaded by a small batch, which is not counted."""
        small = self.module.Contestant(
            dataclasses.replace(self.case, batch=min(32, self.case.batch)), self.weights
        )
        small.step()
        del small
        gc.collect()
        getattr(self.module, "tidy", lambda: None)()
        ctypes.CDLL(None).malloc_trim(0)  # what is free must not hide what is needed
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
        self.contestant = self.module.Contestant(self.case, self.weights)
        for _ in range(3):
            self.contestant.step()
        return {"megabytes": (_status("VmHWM") - before) / 1024}

    def run(self, seconds: float) -> dict[str, Any]:
        times: list[float] = []
        self.contestant.step()  # wakes the threads
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            self.contestant.step()
            times.append(1e3 * (time.perf_counter() - start))
        return {"times": times}


def _status(key: str) -> int:
    """Kilobytes, from the kernel's account of this process."""
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) if found else 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    worker = Worker(*sys.argv[1:3])
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(worker, request.pop("do"))(**request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
