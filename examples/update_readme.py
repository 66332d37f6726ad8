"""Write the README's results, and its picture, from the recorded runs in examples/results.

python examples/update_readme.py            # write
python examples/update_readme.py --check    # only say whether the text is up to date
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import minidl as dl

ROOT = Path(__file__).parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs/images/mnist_cnn.png"
MARKS = "<!-- results: begin -->\n", "<!-- results: end -->"
PUBLISHED = {"mnist": "99.22 to 99.33 %"}  # two runs of a Keras notebook with this network


def recorded(experiment: str) -> list[dict[str, Any]]:
    """All recorded runs of an experiment, by seed."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / "examples/results").glob("*.json"))]
    return sorted(
        (run for run in runs if run["experiment"] == experiment),
        key=lambda run: (run["settings"]["data"], run["settings"]["seed"]),
    )


def table() -> str:
    """One row for each data set, over its seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in recorded("mnist_cnn"):
        groups.setdefault(run["settings"]["data"], []).append(run)
    rows = [
        "| data | epochs | seeds | test accuracy | published | time of a run | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, runs in sorted(groups.items(), reverse=True):
        accuracies = [100 * run["results"]["test_accuracy"] for run in runs]
        accuracy = f"{statistics.mean(accuracies):.2f} %"
        if len(accuracies) > 1:
            accuracy += f" ({min(accuracies):.2f} to {max(accuracies):.2f})"
        seconds = statistics.median(run["results"]["seconds"] for run in runs)
        machine = f"{runs[0]['environment']['cpu']}, {runs[0]['environment']['cores']} cores"
        cells = [
            data,
            runs[0]["settings"]["epochs"],
            len(runs),
            accuracy,
            PUBLISHED.get(data, "-"),
            f"{seconds:.0f} s",
            machine,
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    old = README.read_text()
    begin, end = MARKS
    new = re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: begin + table() + end, old, flags=re.DOTALL
    )
    if check:
        print(
            "up to date"
            if new == old
            else "README.md differs from examples/results: run examples/update_readme.py"
        )
        return int(new != old)
    README.write_text(new)
    PICTURE.parent.mkdir(exist_ok=True)
    run = next(run for run in recorded("mnist_cnn") if run["settings"]["data"] == "mnist")
    dl.plot.curves(run["history"], save=PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
