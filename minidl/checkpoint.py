"""Checkpoints: all that a training run needs to go on as if it had never been stopped, in one file.

A checkpoint is a safetensors file: the arrays of the model ("model/..."), the optimiser ("optimizer/...") and the
callbacks ("callbacks/0/..."), each with its CRC-32, and one JSON text with everything else. Random numbers need no
room: they are functions of seed, epoch and step. Files are written whole or not at all, and the last few are kept,
so that one that was damaged later can be replaced by the one before.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import kernels
from .backend import Array, checksum
from .environment import environment
from .layers.base import Layer
from .optim import Optimizer
from .weights import WeightsError, read, save
from .weights.safetensors_file import read_metadata

NAME = "checkpoint-{:010d}.safetensors"  # by the number of steps
FORMAT = "1"
DAY = 86_400  # seconds after which a file that a crash left half-written is nobody's any more
SAME = (
    "minidl",
    "numpy",
    "blas",
    "blas_threads",
    "cpu",
    "numba",
    "kernels",
    "threads",
)  # for equal last bits


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run."""


class Saved(NamedTuple):
    """A checkpoint that was read and found whole."""

    path: Path
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # progress, settings, environment, callbacks

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays below `prefix`, by the rest of their names."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}


def write(
    folder: Path, steps: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], keep: int
) -> Path:
    """Write the checkpoint after `steps` steps and remove all but the newest `keep`; its path."""
    path, text = folder / NAME.format(steps), json.dumps(facts)
    metadata = {"checkpoint": FORMAT, "facts": text, "facts_crc32": str(zlib.crc32(text.encode()))}
    save(dict(arrays), path, metadata)
    listed = paths(folder)
    for old in [other for other in listed if other <= path][keep:]:
        old.unlink(missing_ok=True)
    for left in folder.glob(".checkpoint-*.tmp-*"):
        if time.time() - left.stat().st_mtime > DAY:
            left.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str]) -> Saved:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        It is missing, damaged, or no checkpoint.
    """
    try:
        arrays, metadata = dict(read(path)), read_metadata(path)
        text = metadata["facts"]
        if metadata["checkpoint"] != FORMAT:
            raise ValueError(f"of format {metadata['checkpoint']!r}, but this minidl reads {FORMAT!r}")
        if metadata["facts_crc32"] != str(zlib.crc32(text.encode())):
            raise ValueError("whose settings are not those that were written: their CRC-32 has changed")
        facts = json.loads(text)
    except KeyError as error:
        raise CheckpointError(f"{os.fspath(path)} is no checkpoint: it has no {error}") from error
    except (OSError, ValueError, WeightsError) as error:
        raise CheckpointError(f"cannot read the checkpoint {os.fspath(path)}: {error}") from error
    except Exception as error:  # of the safetensors library, on a file that changed between two reads
        raise CheckpointError(f"cannot read the checkpoint {os.fspath(path)}: {error!r}") from error
    return Saved(Path(path), arrays, facts)


def paths(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, newest first."""
    found = [
        path
        for path in folder.glob(NAME[:11] + "*")
        if re.fullmatch(r"checkpoint-\d+\.safetensors", path.name)
    ]
    return sorted(found, reverse=True)


def newest(folder: Path) -> Saved | None:
    """The newest checkpoint that is whole; None if there are none at all.

    Raises
    ------
    CheckpointError
        There are some, and every one is damaged.
    """
    reasons = []
    for path in paths(folder):
        try:
            saved = load(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(
                f"{reason}; going on from the one before, {path.name}", RuntimeWarning, stacklevel=2
            )
        return saved
    if reasons:
        advice = "move them away to begin anew"
        raise CheckpointError(f"no checkpoint in {folder} can be read; {advice}:\n  " + "\n  ".join(reasons))
    return None


def settings(model: Layer, optimizer: Optimizer, x: Array, y: Array, **others: Any) -> dict[str, Any]:
    """What two runs must have in common for one to go on with the other's checkpoint, ready for JSON."""
    layers = {path: repr(layer) for path, layer in model.named_layers() if path and "\n" not in repr(layer)}
    state = {name: f"{value.dtype} {value.shape}" for name, value in model.state_dict().items()}
    return {
        "layer": layers,
        "weights": state,
        "trained": [name for name, p in model.named_parameters() if p.requires_grad],
        "optimizer": _described(optimizer),
        "data": f"{x.dtype} {x.shape}, targets {y.dtype} {y.shape} with CRC-32 {checksum(y):08x}",
        **{
            key: value if isinstance(value, (int, str)) else _described(value)
            for key, value in others.items()
        },
    }


def _described(thing: Any) -> str:
    """A number or text as it is, a function by name, an object by class and settings: no addresses in memory."""
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return repr(thing)
    if isinstance(thing, (tuple, list)):
        return f"({', '.join(map(_described, thing))})"
    if hasattr(thing, "__qualname__"):
        return str(thing.__qualname__)
    public = {k: v for k, v in getattr(thing, "__dict__", {}).items() if k[0] != "_" and k != "epoch"}
    return f"{type(thing).__name__}({', '.join(f'{k}={_described(v)}' for k, v in public.items())})"


def conditions() -> dict[str, Any]:
    """What the last bits of a result depend on besides the settings."""
    facts = environment() | kernels.conditions()
    return {key: facts.get(key) for key in SAME}


def compare(saved: Saved, settings: Mapping[str, Any]) -> None:
    """See that a run with `settings` can go on from a checkpoint, and warn of another environment.

    Raises
    ------
    CheckpointError
        It belongs to another run: every difference is listed.
    """
    old, now = saved.facts["settings"], json.loads(json.dumps(settings))  # tuples have become lists
    problems = [line for key in {**old, **now} for line in _differences(key, old.get(key), now.get(key))]
    if problems:
        advice = "Make the run as it was, or begin one in another folder"
        raise CheckpointError(
            f"{saved.path} was written by another run; nothing was loaded. {advice}:\n  "
            + "\n  ".join(problems)
        )
    before, here = saved.facts["environment"], conditions()
    changed = [
        f"{key} was {before.get(key)}, now {here[key]}" for key in SAME if before.get(key) != here[key]
    ]
    if changed:
        warnings.warn(
            f"{saved.path.name} was written elsewhere ({'; '.join(changed)}): training goes on, but will not equal "
            f"the uninterrupted run to the last bit",
            RuntimeWarning,
            stacklevel=2,
        )


def _differences(key: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for k in {**old, **new} for line in _differences(f"{key} {k!r}", old.get(k), new.get(k))]
    return [] if old == new else [f"{key}: {_shown(old)} in the checkpoint, {_shown(new)} now"]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
