"""Published figures beside recorded ones: the tables and curves that examples/README.md consists of."""

from __future__ import annotations

import ast
import json
import statistics
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs/images/experiments"
FIGURES = {  # in published.toml and in the tables
    "train": "training, last epoch",
    "final": "validation, last epoch",
    "best": "validation, best epoch",
    "test": "test images",
    "epochs": "epochs until it stopped",
}
NEAR = 0.3  # points that a figure may be below the published one
LONG = 20  # epochs from which the last ten say how much of a shortfall is chance


class Row(NamedTuple):
    """One figure of one run."""

    run: str
    figure: str
    published: float | None
    ours: list[float]  # one a seed
    seconds: float | None  # of a run, the median

    def verdict(self) -> str:
        """Whether our mean is at least the published figure less 0.3 points."""
        if self.published is None or not self.ours or self.figure == "epochs":
            return ""
        short = self.published - statistics.mean(self.ours)
        return "yes" if round(short, 2) <= NEAR else f"short by {short:.2f}"


def published() -> dict[str, dict[str, dict[str, Any]]]:
    """What published.toml says, by script and run."""
    return tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))


def recorded(experiment: str) -> list[dict[str, Any]]:
    """The records of a script, by seed; those of other forms are left out."""
    records = [
        json.loads(path.read_text()) for path in sorted((HERE / "results").glob(f"{experiment}-seed*.json"))
    ]
    return [record for record in records if "runs" in record and not record["quick"]]


def trained(records: list[dict[str, Any]]) -> list[str]:
    """The runs that have curves, in order."""
    runs = (item for record in records for item in record["runs"].items())
    return list(dict.fromkeys(name for name, run in runs if "history" in run))


def figures(run: dict[str, Any]) -> dict[str, float]:
    """The figures of a recorded run, accuracies in per cent."""
    found: dict[str, float] = {}
    if history := run.get("history"):
        found["train"] = 100 * history["accuracy"][-1]
        found["epochs"] = len(history["accuracy"])
        if values := history.get("val_accuracy"):
            found |= {"final": 100 * values[-1], "best": 100 * max(values)}
    if test := run.get("test"):
        found["test"] = 100 * test["accuracy"]
    return found


def rows(experiment: str) -> list[Row]:
    """All figures of a script: what was published, and of other runs the accuracy at the end."""
    told, records = published().get(experiment, {}), recorded(experiment)
    names = trained(records)
    found = []
    for name in [*(run for run in told if run not in names), *names]:
        runs = [record["runs"][name] for record in records if name in record["runs"]]
        seconds = statistics.median(run["seconds"] for run in runs) if runs else None
        ours = [figures(run) for run in runs]
        default = (
            ["test"]
            if ours and "test" in ours[0]
            else ["final"]
            if ours and "final" in ours[0]
            else ["train"]
        )
        for figure in [key for key in FIGURES if key in told.get(name, {})] or default:
            values = [run[figure] for run in ours]
            found.append(Row(name, figure, told.get(name, {}).get(figure), values, seconds))
    order = list(told)
    return sorted(found, key=lambda row: order.index(row.run) if row.run in order else len(order))


def late(run: dict[str, Any]) -> str:
    """Mean and standard deviation of the last ten epochs on the validation images, in per cent."""
    last = [100 * value for value in run["history"]["val_accuracy"][-10:]]
    return f"{statistics.mean(last):.2f} +- {statistics.stdev(last):.2f}"


def starts(records: list[dict[str, Any]], trial: dict[str, Any]) -> str:
    """Runs that only guessed to the end, and how often a trial of one epoch went that way in either library."""
    limit, found = trial["started_from"], trial["starts"]
    runs = (item for record in records for item in record["runs"].items() if "history" in item[1])
    guessed, others = dict[str, int](), dict[str, list[float]]()
    for name, run in runs:
        if run["history"]["accuracy"][-1] < limit:
            guessed[name] = guessed.get(name, 0) + 1
        else:
            others.setdefault(name, []).append(figures(run)["test"])
    lines = [
        f"{name}: {count} of {len(records)} runs never started; the others end with "
        f"{statistics.mean(others[name]):.2f} % on the test images."
        for name, count in guessed.items()
    ]
    seeds = {
        library: [seed for seed, value in zip(found["seeds"], found[library], strict=True) if value < limit]
        for library in ("minidl", "PyTorch")
    }
    told = "; ".join(
        f"{library} {len(failed)} (seed {', '.join(map(str, failed))})" if failed else f"{library} none"
        for library, failed in seeds.items()
    )
    lines.append(
        f"From random weights, the same ones in both libraries and the same batches of one epoch, "
        f"{len(found['seeds'])} seeds, never started ({trial['script']}): {told}."
    )
    return "\n".join(lines)


def cells(row: Row) -> list[str]:
    digits = 0 if row.figure == "epochs" else 2
    mean = f"{statistics.mean(row.ours):.{digits}f}" if row.ours else "not run"
    if len(row.ours) > 1:
        mean += f" ({min(row.ours):.{digits}f} to {max(row.ours):.{digits}f})"
    told = "-" if row.published is None else f"{row.published:.{digits}f}"
    seconds = "" if row.seconds is None else duration(row.seconds)
    return [row.run, FIGURES[row.figure], told, mean, str(len(row.ours) or ""), row.verdict(), seconds]


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def table(found: list[Row]) -> str:
    heads = ["run", "accuracy on", "published, %", "ours, %", "seeds", "within 0.3", "time of a run"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---:|---:|---:|---|---:|"]
    last = None
    for row in found:
        line = cells(row)
        if row.run == last:
            line[0] = line[-1] = ""
        lines.append("| " + " | ".join(line) + " |")
        last = row.run
    return "\n".join(lines) + "\n"


def section(experiment: str) -> str:
    """Heading, what the script says of itself, table, notes, picture."""
    source = (HERE / f"{experiment}.py").read_text(encoding="utf-8")
    title, _, rest = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    told = "\n".join(part for part in rest.strip().split("\n\n") if not part.startswith("python "))
    records = recorded(experiment)
    text = f"## [{experiment}.py]({experiment}.py)\n\n{title}\n\n{told.strip()}\n\n{table(rows(experiment))}"
    for record in records[:1]:
        environment = next(iter(record["runs"].values()))["environment"]
        text += f"\nOn {environment['cpu']}, {environment['cores']} cores, {environment['blas']}.\n"
        for name, run in record["runs"].items():
            if "facts" in run:
                facts = "; ".join(f"{key}: {value:.4g}" for key, value in run["facts"].items())
                text += f"\n{name}: {facts}.\n"
    for row in rows(experiment):
        if row.verdict().startswith("short") and row.figure in ("final", "test"):
            curves = [record["runs"][row.run] for record in records if row.run in record["runs"]]
            if min(len(run["history"]["val_accuracy"]) for run in curves) >= LONG:
                text += f"\n{row.run}, validation, mean and deviation of the last ten epochs of each seed: "
                text += f"{', '.join(map(late, curves))} %.\n"
    if records and (path := HERE / "results" / f"{experiment}-torch.json").exists():
        twin = json.loads(path.read_text())
        for name, run in twin["runs"].items():
            ours, theirs = late(records[0]["runs"][name]), late(run)
            text += f"\n{name}, mean and deviation of the last ten epochs: {ours} %; by the same recipe in PyTorch "
            text += f"({twin['script']}) {theirs} %.\n"
    if records and (path := HERE / "results" / f"{experiment}-starts.json").exists():
        text += f"\n{starts(records, json.loads(path.read_text()))}\n"
    note = HERE / "notes" / f"{experiment}.md"
    if records and note.exists():
        text += f"\n{note.read_text(encoding='utf-8')}"
    if trained(records):
        text += f"\n![Accuracy by epoch](../docs/images/experiments/{experiment}.png)\n"
    return text


def picture(experiment: str) -> None:
    """Validation accuracy by epoch, one panel a run: ours over the seeds, and the published curve."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    told, records = published().get(experiment, {}), recorded(experiment)
    order = list(told)
    names = sorted(trained(records), key=lambda name: order.index(name) if name in order else len(order))
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = Figure((3.1 * across, 2.4 * down), dpi=80, layout="constrained")
    figure.subplots(down, across, squeeze=False)
    for panel in figure.axes[len(names) :]:
        panel.set_axis_off()
    for panel, name in zip(figure.axes, names, strict=False):
        curves = [record["runs"][name]["history"] for record in records if name in record["runs"]]
        for number, history in enumerate(curves):
            values = [100 * v for v in history.get("val_accuracy", history["accuracy"])]
            style = {
                "color": "#0072B2",
                "alpha": 0.75,
                "linewidth": 1.3,
                "marker": "o" if len(values) == 1 else None,
            }
            panel.plot(range(1, len(values) + 1), values, label=None if number else "ours", **style)
        if curve := told.get(name, {}).get("curve"):
            panel.plot(
                range(1, len(curve) + 1), curve, "--", color="#D55E00", linewidth=1.3, label="published"
            )
        panel.set_title(name, fontsize=9)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    handles = {
        label: line
        for axis in figure.axes
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper right", ncols=2, frameon=False, fontsize=9
    )
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    PICTURES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURES / f"{experiment}.png", metadata={"Software": None})
