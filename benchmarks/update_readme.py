"""Write the tables of ``benchmarks/README.md``, and a sentence of ``README.md``, from recorded runs.

python -m benchmarks.update_readme [--check]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import gpu, gpu_page
from benchmarks.train_step import best_torch

HERE = Path(__file__).parent
README = HERE / "README.md"
KINDS = "*-cores.json", "*-mnist-cnn.json", "*-feature-cache.json", "*-gpu.json"


def newest_first(kind: str) -> list[Path]:
    """The records of a kind, by their own date."""
    found = (HERE / "results").glob(kind)
    return sorted(found, key=lambda path: json.loads(path.read_text())["environment"]["date"], reverse=True)


(STEPS, *ELSEWHERE), (TRAINING, *_), (FEATURES, *_), (GPU, *_) = map(newest_first, KINDS)


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
            *(f"{m:.0f}" if m >= 10 else f"{m:.1f}" for m in (mine["megabytes"], memory)),
        ]
        rows.append([case["title"], str(case["batch"]), *numbers])
    return table(head, rows)


def elsewhere(records: list[dict[str, Any]]) -> str:
    """The time over PyTorch's on other machines."""
    lines = []
    for record in records:
        ratios = [
            f"{case['title']} {case['peers']['minidl']['median_ms'] / (best_torch(case['peers']) or 1):.2f}"
            for name, case in record["cases"].items()
            if "@" not in name
        ]
        lines.append(f"{machine(record)}. Over PyTorch: {'; '.join(ratios)}.")
    return "\n\n".join(lines)


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


def cached(record: dict[str, Any]) -> str:
    """Seconds an epoch with and without features made once."""
    head = ["", "through the network", "on features", "times faster", "accuracy", "on features"]
    rows = []
    for name, run in record["runs"].items():
        slow, fast = run["seconds_an_epoch"]["uncached"], run["seconds_an_epoch"]["cached"]
        accuracies = [f"{values[-1]:.2%}" for values in run["accuracy"].values()]
        rows.append([name, f"{slow:.2f}", f"{fast:.3f}", f"{slow / fast:.0f}", *accuracies])
    return table(head, rows)


def on_gpu(record: dict[str, Any]) -> str:
    titles = {name: case.title for name, case in gpu.cases().items()}
    parts = (
        f"{gpu_page.facts(record)}.",
        table(*gpu_page.steps(record, titles)),
        "One epoch of MNIST by `benchmarks.mnist_epoch`, capture included:",
        table(*gpu_page.mnist(record)),
    )
    return "\n\n".join(parts)


def speed(step_record: dict[str, Any], training_record: dict[str, Any]) -> str:
    """The sentence of the front page."""
    cases, runs = step_record["cases"], training_record["runs"]
    over = {
        name: cases[name]["peers"]["minidl"]["median_ms"] / (best_torch(cases[name]["peers"]) or 1)
        for name in ("cnn", "vgg16", "lenet")
    }
    seconds = [statistics.mean(run["seconds"] for run in runs[name]) for name in ("minidl", "torch")]
    return (
        f"On two cores ({step_record['environment']['cpu']}) a training step of this network takes {over['cnn']:.2f} of "
        f"PyTorch's time, VGG16 forward {over['vgg16']:.2f}, LeNet with batches of four {over['lenet']:.2f}; ten epochs of "
        f"this network ({training_record['environment']['cpu']}) {seconds[0] / seconds[1]:.2f}. [All figures](benchmarks/README.md), and where others are ahead."
    )


def filled(text: str, parts: dict[str, str]) -> str:
    """`text` with each part between its two comments."""
    for name, content in parts.items():
        head, begin, rest = text.partition(f"<!-- {name}: begin -->")
        _, end, tail = rest.partition(f"<!-- {name}: end -->")
        text = f"{head}{begin}\n{content}\n{end}{tail}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the pages are up to date")
    check = parser.parse_args().check
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (STEPS, TRAINING, FEATURES, GPU)]
    picture = f"![The same as bars, and the time an image by batch size](results/{STEPS.stem}.png)"
    pages = {
        README: {
            "steps": f"{machine(records[0])}; {versions(records[0])}.\n\n{steps(records[0])}\n\n{picture}",
            "scaling": scaling(records[0]),
            "elsewhere": elsewhere([json.loads(path.read_text(encoding="utf-8")) for path in ELSEWHERE]),
            "training": f"{machine(records[1])}.\n\n{training(records[1])}",
            "features": cached(records[2]),
            "gpu": on_gpu(records[3]),
        },
        HERE.parent / "README.md": {
            "speed": speed(records[0], records[1]),
            "gpu": gpu_page.sentence(records[3]),
        },
    }
    stale = []
    for page, parts in pages.items():
        before = page.read_text(encoding="utf-8")
        text = filled(before, parts)
        stale += [page.name] if text != before else []
        if not check:
            page.write_text(text, encoding="utf-8")
    if check:
        print(f"differ from the recorded runs: {', '.join(stale)}" if stale else "up to date")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
