"""Where a result was made: versions and machine."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ._version import __version__
from .backend import DeviceError, cupy_module


def environment() -> dict[str, Any]:
    """What a result depends on besides the code: versions and machine, free of paths and names of users.

    Returns
    -------
    dict
        date (ISO, with time zone), minidl, python, numpy, blas, blas_threads, platform, cpu, cores; and
        numba, cupy, gpu where they are in use. Ready for JSON.
    """
    blas, threads = _blas()
    release = re.match(r"[\d.]*\d|", platform.release())
    facts: dict[str, Any] = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "minidl": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas,
        "blas_threads": threads,
        "platform": f"{platform.system()} {release[0] if release else ''} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    if "numba" in sys.modules:
        facts["numba"] = sys.modules["numba"].__version__
    if "cupy" in sys.modules:
        try:
            cupy = cupy_module()
            facts["cupy"] = cupy.__version__
            facts["gpu"] = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
        except DeviceError:
            pass  # imported by someone, but of no use here
    return facts


def _blas() -> tuple[str, int | None]:
    """Name and version of NumPy's BLAS, and its threads where threadpoolctl is there to ask."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    try:
        import threadpoolctl
    except ImportError:
        return _name(built), None
    pools = threadpoolctl.threadpool_info()
    for pool in sorted(
        pools, key=lambda pool: "numpy" not in pool["filepath"]
    ):  # SciPy brings one of its own
        if pool["user_api"] == "blas":
            return f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')})", pool[
                "num_threads"
            ]
    return _name(built), None


def _name(built: Any) -> str:
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()


def _cpu() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [""])[0] or platform.processor() or platform.machine()
