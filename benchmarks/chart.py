"""Bars: the time of each contestant over that of PyTorch's faster mode, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.train_step import best_torch

COLOURS = {  # of Okabe and Ito's palette
    "minidl": "#0072B2",
    "torch": "#D55E00",
    "torch_channels_last": "#E69F00",
    "keras": "#009E73",
    "jax": "#CC79A7",
}
LONGEST = 3.0  # bars are cut off here, with their value beside them


def bars(record: dict[str, Any], path: Path) -> None:
    """Draw the cases of `record` that are not part of the scaling curve, and that curve below."""
    cases = {
        name: case for name, case in record["cases"].items() if "@" not in name and best_torch(case["peers"])
    }
    scaling = {name: case for name, case in record["cases"].items() if "@" in name}
    peers = [peer for peer in COLOURS if any(peer in case["peers"] for case in cases.values())]
    height = 0.2 * len(peers) * len(cases) + 0.35 * len(cases) + 1.2
    figure = Figure(figsize=(8, height + (3.4 if scaling else 0)), layout="constrained")
    rows = figure.subplots(
        2 if scaling else 1, 1, height_ratios=[height, 3.2] if scaling else [1], squeeze=False
    )
    _ratios(rows[0, 0], cases, peers)
    if scaling:
        _curve(rows[1, 0], scaling)
    facts = record["environment"]
    figure.suptitle(f"{facts['cpu']}, {record['threads']} threads, {facts['date'][:10]}", fontsize=9)
    figure.savefig(path, dpi=130)


def _ratios(ax: Any, cases: dict[str, Any], peers: list[str]) -> None:
    step = 1.6 + len(peers)
    for row, case in enumerate(cases.values()):
        base = best_torch(case["peers"]) or 1.0
        for i, peer in enumerate(peers):
            if peer in case["peers"]:
                ratio, y = case["peers"][peer]["median_ms"] / base, row * step + i
                label = peer.replace("_", " ") if row == 0 else None
                ax.barh(y, min(ratio, LONGEST), 0.9, color=COLOURS[peer], label=label)
                ax.text(min(ratio, LONGEST) + 0.02, y, f"{ratio:.2f}", va="center", fontsize=7)
    titles = [f"{case['title']}\nbatch {case['batch']}" for case in cases.values()]
    ax.set_yticks([row * step + (len(peers) - 1) / 2 for row in range(len(cases))], titles, fontsize=8)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set(xlim=(0, LONGEST + 0.25), xlabel="time / time of PyTorch's faster mode (shorter is faster)")
    ax.margins(y=0.01)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(peers))


def _curve(ax: Any, scaling: dict[str, Any]) -> None:
    batches = [case["batch"] for case in scaling.values()]
    for peer, colour in COLOURS.items():
        if all(peer in case["peers"] for case in scaling.values()):
            times = [1e3 * case["peers"][peer]["median_ms"] / case["batch"] for case in scaling.values()]
            ax.plot(batches, times, "o-", color=colour, markersize=4, label=peer.replace("_", " "))
    title = next(iter(scaling.values()))["title"].rpartition(",")[0]
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.set(xlabel="batch", ylabel="microseconds per image", title=title)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
