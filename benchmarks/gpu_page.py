"""The GPU's part of the pages: what `benchmarks.gpu` recorded, as tables and as a sentence."""

from __future__ import annotations

from typing import Any

OURS, PRECISIONS = "minidl_gpu:graph", ("fp32", "tf32")


def best_of_torch(rows: dict[str, Any]) -> tuple[str, float]:
    """PyTorch's fastest mode that found the same losses, and its microseconds."""
    sound = {
        mode: r["microseconds"] for mode, r in rows.items() if mode.startswith("torch") and "error" not in r
    }
    mode = min(sound, key=lambda name: sound[name])
    return mode.partition(":")[2].replace("_", ", ", 1).replace("_", " "), sound[mode]


def ratios(record: dict[str, Any]) -> dict[str, float]:
    """{"case precision": time of a replayed step or pass over PyTorch's fastest}, without what was not measured."""
    return {
        name: rows[OURS]["microseconds"] / best_of_torch(rows)[1]
        for name, rows in record["steps"].items()
        if "error" not in rows[OURS]
    }


def steps(record: dict[str, Any], titles: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table: for each precision the time, over PyTorch's fastest mode, and over its eager one."""
    head = ["workload"]
    for precision in PRECISIONS:
        head += [f"{precision}, us", "PyTorch", "its fastest mode", "PyTorch, eager"]
    rows = []
    for name, title in titles.items():
        row = [title]
        for precision in PRECISIONS:
            found = record["steps"][f"{name} {precision}"]
            (mode, best), mine = best_of_torch(found), found[OURS]["microseconds"]
            eager = found["torch_gpu:eager"]["microseconds"]
            row += [f"{mine:.0f}", f"{mine / best:.2f}", mode, f"{mine / eager:.2f}"]
        rows.append(row)
    return head, rows


def mnist(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one epoch of MNIST by seed."""
    head = ["seed", "minidl, ms on the GPU", "accuracy", "PyTorch, ms on the GPU", "accuracy"]
    both = zip(*(record["mnist"][library]["runs"] for library in ("minidl", "torch")), strict=True)
    rows = [
        [
            str(pair[0]["seed"]),
            *(text for run in pair for text in (f"{run['gpu_ms']:.0f}", f"{run['accuracy']:.2%}")),
        ]
        for pair in both
    ]
    return head, rows


def facts(record: dict[str, Any]) -> str:
    """Machine, versions, and how the tests that need a GPU ended in that run."""
    env, tests = record["environment"], record["tests"]
    torch = next(
        r["version"] for rows in record["steps"].values() for m, r in rows.items() if m == "torch_gpu:eager"
    )
    ended = tests.get("summary") or "did not finish in their time"
    late = [name for name, rows in record["steps"].items() if "error" in rows.get("torch_gpu:compile", {})]
    compiled = (
        f"`torch.compile` did not finish {len(late)} of {len(record['steps'])} in its time" if late else ""
    )
    return "; ".join(
        text
        for text in (
            f"{env['gpu']}, {env['date'][:10]}: CuPy {env['cupy']}, {torch.partition(',')[0]}",
            compiled,
            f"tests on this GPU: {ended}",
        )
        if text
    )


def sentence(record: dict[str, Any]) -> str:
    """For the front page."""
    found = ratios(record)
    behind = sum(ratio > 1 for ratio in found.values())
    return (
        f"On a GPU ({record['environment']['gpu']}) a captured step or pass takes {min(found.values()):.2f} to "
        f"{max(found.values()):.2f} of the time of PyTorch's fastest mode, a graph captured by hand; in {behind} of "
        f"{len(found)} cases PyTorch is ahead ([table](benchmarks/README.md#on-a-gpu))."
    )
