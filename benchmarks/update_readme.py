"""Write the tables of ``benchmarks/README.md`` from recorded runs.

python -m benchmarks.update_readme [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.train_step import best_torch

HERE = Path(__file__).parent
README = HERE / "README.md"
# The newest record of each kind.
STEPS, TRAINING = (max((HERE / "results").glob(pattern)) for pattern in ("*-cores.json", "*-mnist-cnn.json"))


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(record: dict[str, Any]) -> str:
    facts = record["environment"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['date'][:10]}: Python {facts['python']}, NumPy "
        f"{facts['numpy']}, {facts['blas']}"
    )


def versions(record: dict[str, Any]) -> str:
    peers = next(iter(record["cases"].values()))["peers"]
    return ", ".join(dict.fromkeys(r["version"] for name, r in peers.items()))


def steps(record: dict[str, Any]) -> str:
    """One row a case: time, and the time of minidl over that of each peer."""
    head = [
        "workload",
        "batch",
        "ms",
        "PyTorch",
        "Keras",
        "JAX",
        "plain NumPy / PyTorch",
        "products alone",
        "MB",
        "PyTorch, MB",
    ]
    rows = []
    for name, case in record["cases"].items():
        if "@" in name:
            continue
        peers = case["peers"]
        mine, torch = peers["minidl"], best_torch(peers) or float("nan")
        over = [
            f"{mine['median_ms'] / time:.2f}"
            for time in (torch, *(peers[p]["median_ms"] for p in ("keras", "jax")))
        ]
        memory = min(r["megabytes"] for p, r in peers.items() if p.startswith("torch"))
        plain = f"{peers['minidl_reference']['median_ms'] / torch:.2f}"
        numbers = [
            f"{mine['median_ms']:.3g}",
            *over,
            plain,
            f"{case['floor_ms'] / torch:.2f}",
            f"{mine['megabytes']:.0f}",
            f"{memory:.0f}",
        ]
        rows.append([case["title"], str(case["batch"]), *numbers])
    return table(head, rows)


def scaling(record: dict[str, Any]) -> str:
    """Microseconds an image by batch size."""
    cases = [case for name, case in record["cases"].items() if "@" in name]
    head = ["batch", *(str(case["batch"]) for case in cases)]
    rows = []
    for label, pick in (("minidl", lambda p: p["minidl"]["median_ms"]), ("PyTorch", best_torch)):
        rows.append([label, *(f"{1e3 * pick(case['peers']) / case['batch']:.0f}" for case in cases)])
    return table(head, rows)


def training(record: dict[str, Any]) -> str:
    """Seconds and accuracy by seed."""
    runs = record["runs"]
    rows = []
    for seed, (a, b) in enumerate(zip(runs["minidl"], runs["torch"], strict=True)):
        ratio = f"{a['seconds'] / b['seconds']:.2f}"
        accuracies = [f"{run['test_accuracy']:.2%}" for run in (a, b)]
        rows.append([str(seed), f"{a['seconds']:.0f}", f"{b['seconds']:.0f}", ratio, *accuracies])
    means = {
        name: [statistics.mean(run[key] for run in mine) for key in ("seconds", "test_accuracy")]
        for name, mine in runs.items()
    }
    (a, p), (b, q) = means["minidl"], means["torch"]
    rows.append(["mean", f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}", f"{p:.2%}", f"{q:.2%}"])
    return table(["seed", "minidl, s", "PyTorch, s", "ratio", "minidl", "PyTorch"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    check = parser.parse_args().check
    step_record, training_record = (
        json.loads(path.read_text(encoding="utf-8")) for path in (STEPS, TRAINING)
    )
    picture = f"![The same as bars, and the time an image by batch size](results/{STEPS.stem}.png)"
    parts = {
        "steps": f"{machine(step_record)}; {versions(step_record)}.\n\n{steps(step_record)}\n\n{picture}",
        "scaling": scaling(step_record),
        "training": f"{machine(training_record)}.\n\n{training(training_record)}",
    }
    before = text = README.read_text(encoding="utf-8")
    for name, content in parts.items():
        head, _, rest = text.partition(f"<!-- {name}: begin -->")
        _, _, tail = rest.partition(f"<!-- {name}: end -->")
        text = f"{head}<!-- {name}: begin -->\n{content}\n<!-- {name}: end -->{tail}"
    if check:
        print("up to date" if text == before else "benchmarks/README.md differs from the recorded runs")
        return int(text != before)
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
