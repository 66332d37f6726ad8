"""Two recorded runs of ``benchmarks.train_step`` side by side: has anything become slower?

python -m benchmarks.compare BEFORE.json AFTER.json

Times of different runs cannot be compared on a shared machine, so this compares ratios: minidl's time over that
of PyTorch's faster mode (or over the matrix products alone, without PyTorch), each taken in one run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.train_step import best_torch

WORSE = 1.10  # a ratio this much larger is called slower: quartiles of the same code are some percent apart


def ratio(result: dict[str, Any]) -> float:
    """minidl's time over PyTorch's, or over what the matrix products alone would take."""
    return result["peers"]["minidl"]["median_ms"] / (best_torch(result["peers"]) or result["floor_ms"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after)]
    for name, run in zip(("before", "after"), runs, strict=True):
        print(f"{name}: {run['environment']['date']}, {run['environment']['cpu']}, {run['threads']} threads")
    before, after = (run["cases"] for run in runs)
    slower = []
    print(f"{'case':<20}{'before':>10}{'after':>10}")
    for name in before:
        if name in after:
            old, new = ratio(before[name]), ratio(after[name])
            verdict = "slower" if new > WORSE * old else "faster" if old > WORSE * new else ""
            slower += [name] if verdict == "slower" else []
            print(f"{name:<20}{old:>10.2f}{new:>10.2f}  {verdict}")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(main())
