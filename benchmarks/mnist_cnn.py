"""Wall time and accuracy of ``examples/mnist_cnn.py`` against the same network in PyTorch, seed by seed.

python -m benchmarks.mnist_cnn [--seeds 3] [--epochs 10] [--json FILE]

Needs MNIST. The time is that of training with an evaluation after each epoch, without imports and loading.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from minidl.environment import environment

COMMANDS = {
    "minidl": ["examples/mnist_cnn.py", "--data", "mnist"],
    "torch": ["-m", "benchmarks.mnist_cnn_torch"],
}


def train(name: str, seed: int, epochs: int, folder: Path) -> dict[str, Any]:
    """Accuracy and seconds of one run in its own process."""
    record = folder / f"{name}-{seed}.json"
    command = [sys.executable, *COMMANDS[name], "--epochs", str(epochs), "--seed", str(seed)]
    if name == "minidl":
        command += ["--out", str(folder / "out")]
    subprocess.run([*command, "--record", str(record)], check=True, stdout=subprocess.DEVNULL)
    return json.loads(record.read_text(encoding="utf-8"))["results"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for name, mine in runs.items():
                mine.append(train(name, seed, options.epochs, Path(folder)))
                print(
                    f"seed {seed}, {name}: {mine[-1]['test_accuracy']:.2%}, {mine[-1]['seconds']} s",
                    flush=True,
                )
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(*runs.values(), strict=True)]
    print(
        f"time of minidl / time of PyTorch: {statistics.mean(ratios):.2f}, by seed {[round(r, 2) for r in ratios]}"
    )
    if options.json:
        facts = {"environment": environment(), "epochs": options.epochs, "runs": runs}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
