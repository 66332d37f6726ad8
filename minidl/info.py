"""What this machine has for minidl, and what is missing for full speed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import kernels
from .backend import DeviceError, cupy_module
from .data.places import cache_folder, data_folder, offline
from .data.registry import DataError
from .environment import environment


class Info(NamedTuple):
    """Facts by name, in order, and advice."""

    facts: dict[str, str]
    advice: list[str]


def info() -> Info:
    """Processor, BLAS, kernels, GPU and folders as they are in this process, and what would make it faster."""
    advice: list[str] = []
    compiled = kernels.of(np)  # loads Numba, which `environment` then reports
    machine = environment()
    facts = {
        "minidl": f"{machine['minidl']} on Python {machine['python']}, NumPy {machine['numpy']}",
        "processor": f"{machine['cpu']}, {_counted(machine['cores'], 'core')}",
        "BLAS": machine["blas"],
        "kernels": _kernels(compiled, machine, advice),
        "GPU": _gpu(machine, advice),
    }
    if machine["blas_threads"] is not None:
        facts["BLAS"] += f", {_counted(machine['blas_threads'], 'thread')}"
        if machine["blas_threads"] < (machine["cores"] or 1):
            advice.append(
                f"BLAS uses {machine['blas_threads']} of {machine['cores']} cores: OPENBLAS_NUM_THREADS, "
                f"OMP_NUM_THREADS or MKL_NUM_THREADS may say so"
            )
    if core := os.environ.get("OPENBLAS_CORETYPE"):
        advice.append(
            f"OPENBLAS_CORETYPE={core} holds matrix products to what that kind of processor can do; unset, this one may "
            f"be twice as fast"
        )
    return Info(facts | _folders(), advice)


def _kernels(compiled: Any, machine: dict[str, Any], advice: list[str]) -> str:
    if compiled is kernels.reference:
        missing = [name for name in ("numba", "threadpoolctl") if importlib.util.find_spec(name) is None]
        if missing:
            advice.append(f"compiled kernels need {' and '.join(missing)}: pip install 'minidl[fast]'")
        return "plain NumPy"
    conditions = kernels.conditions()
    unit = ", large products by AMX" if "AMX" in str(conditions["kernels"]) else ""
    count = _counted(conditions["threads"], "thread")
    return f"compiled by Numba {machine['numba']}, {count}{unit}, kept in {_cache_of(compiled)}"


def _cache_of(compiled: Any) -> str:
    """Where Numba keeps what it compiled."""
    return _short(compiled.CACHE)


def _gpu(machine: dict[str, Any], advice: list[str]) -> str:
    try:
        cupy = cupy_module()
    except DeviceError as error:
        first, _, rest = str(error).partition(". ")
        advice.append(f"for a GPU: {first}. {rest}")
        return "none in use"
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    memory = properties["totalGlobalMem"] / 2**30
    return f"{properties['name'].decode()}, {memory:.0f} GiB, CuPy {cupy.__version__}"


def _folders() -> dict[str, str]:
    try:
        own, cache = data_folder(), cache_folder()
    except DataError as error:
        return {"data": str(error)}
    network = ", offline" if offline() else ""
    return {"data": _short(own) if own else "MINIDL_DATA is not set", "cache": _short(cache) + network}


def _short(path: Path) -> str:
    """A path with ~ for the home folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _counted(number: Any, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
