"""Write examples/README.md, its pictures, and the README's results from the recorded runs in examples/results.

python examples/update_readme.py            # write
python examples/update_readme.py --check    # only say whether the texts are up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys

import minidl as dl
import results_page
from results_page import HERE, cells, published, rows

ROOT = HERE.parent
README, PAGE, PICTURE = ROOT / "README.md", HERE / "README.md", ROOT / "docs/images/mnist_cnn.png"
MARKS = "<!-- results: begin -->\n", "<!-- results: end -->"
MAIN = HERE / "results/mnist_cnn-mnist-seed0.json"
INTRODUCTION = """# Experiments

Published experiments with MLPs, CNNs and transfer learning, one script each. All figures are recorded runs
([results](results), with histories, versions and machine); none is typed in. "Within 0.3" says whether the mean over
our seeds is at most 0.3 points below what was published. The pictures show accuracy by epoch, a blue line for each
seed, and the published curve dashed where there is one.

`python -m examples.reproduce` runs everything again, and this page is written by `python examples/update_readme.py`.

"""


def page() -> str:
    """All of examples/README.md."""
    return INTRODUCTION + "\n".join(results_page.section(name) for name in published_or_recorded())


def published_or_recorded() -> list[str]:
    """Scripts in the order of published.toml, then those without published figures."""
    names = list(published())
    scripts = {path.stem.rpartition("-seed")[0] for path in (HERE / "results").glob("*-seed*.json")}
    return names + sorted(name for name in scripts - set(names) if results_page.recorded(name))


def headlines() -> str:
    """One row for each experiment that published.toml wants in the README, and the main example's."""
    lines = ["| experiment | accuracy on | published, % | measured, % | seeds |", "|---|---|---:|---:|---:|"]
    run = json.loads(MAIN.read_text())
    accuracy = 100 * run["results"]["test_accuracy"]
    told = published()["mnist_cnn_grid"]
    low, high = told["5x5-64"]["final"], told["5x5-64-dropout-again"]["final"]
    lines.append(
        f"| [mnist_cnn](examples/mnist_cnn.py), {run['results']['seconds']:.0f} s | validation, last epoch "
        f"| {low:.2f} and {high:.2f} | {accuracy:.2f} | 1 |"
    )
    for experiment, runs in published().items():
        for name, facts in runs.items():
            for row in rows(experiment):
                if (row.run, row.figure) == (name, facts.get("headline")) and row.ours:
                    _, figure, told, ours, seeds, _, _ = cells(row)
                    title = f"[{experiment}](examples/{experiment}.py), {name}"
                    lines.append(f"| {title} | {figure} | {told} | {ours} | {seeds} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    begin, end = (re.escape(mark) for mark in MARKS)
    inside = MARKS[0] + headlines() + MARKS[1]
    texts = {
        README: re.sub(f"{begin}.*?{end}", lambda _: inside, README.read_text(), flags=re.DOTALL),
        PAGE: page(),
    }
    stale = [path.name for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if check:
        print(
            f"not as recorded: {', '.join(stale)}; run examples/update_readme.py" if stale else "up to date"
        )
        return int(bool(stale))
    for path, text in texts.items():
        path.write_text(text)
    dl.plot.curves(json.loads(MAIN.read_text())["history"], save=PICTURE)
    for name in published_or_recorded():
        if results_page.trained(results_page.recorded(name)):
            results_page.picture(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
