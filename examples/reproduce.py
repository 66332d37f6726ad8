"""Run all experiments, one after the other, and write what came out into examples/README.md.

python -m examples.reproduce                                     # hours; can be left alone
python -m examples.reproduce --only mnist_cnn_grid --resume      # keeps the runs that are recorded
python -m examples.reproduce --quick                             # minutes: does everything run?

Each script and seed is a process of its own, its output in runs/logs. Figures go to examples/results, with --quick
to runs/quick. After a kill, --resume goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SEEDS = {  # the quick ones first
    "mnist_overfit_mlp": 3,
    "digits_transfer": 3,
    "mnist_cnn_grid": 3,
    "lenet_mnist_svhn_cifar": 3,
    "mnist_under_10k": 3,
    "emnist_transfer": 3,
    "vgg16_transfer": 1,
    "squeezenet_transfer": 1,
    "alexnet_transfer": 1,
}


def run(name: str, seed: int, options: list[str], logs: Path) -> int:
    """One script with one seed; its exit code."""
    log = logs / f"{name}-seed{seed}.log"
    print(f"{name}, seed {seed}: ", end="", flush=True)
    start = time.perf_counter()
    with log.open("a") as file:
        command = [sys.executable, str(HERE / f"{name}.py"), "--seed", str(seed), *options]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    last = log.read_text().strip().rpartition("\n")[2]
    outcome = {0: "done", 2: f"not possible here: {last}"}.get(
        code, f"failed with exit code {code}, see {log}"
    )
    print(f"{outcome} ({time.perf_counter() - start:.0f} s)", flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SEEDS, metavar="NAME", default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="a few images and one epoch, one seed")
    parser.add_argument("--resume", action="store_true", help="keep the runs that are recorded")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for weights and logs")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    out = arguments.out / "quick" if arguments.quick else arguments.out
    record = out / "results" if arguments.quick else HERE / "results"
    options = ["--out", str(out), "--record", str(record), "--device", arguments.device]
    options += [f"--{flag}" for flag in ("quick", "resume") if getattr(arguments, flag)]
    (out / "logs").mkdir(parents=True, exist_ok=True)
    codes = [
        run(name, seed, options, out / "logs")
        for name in arguments.only
        for seed in range(1 if arguments.quick else SEEDS[name])
    ]
    if not arguments.quick:
        subprocess.run([sys.executable, str(HERE / "update_readme.py")], check=True)
    return int(any(code not in (0, 2) for code in codes))


if __name__ == "__main__":
    sys.exit(main())
