"""Compiling CUDA C without a device: NVIDIA's run-time compiler from its wheel, through ctypes."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path


def library() -> Path | None:
    """NVRTC as pip installs it (nvidia-cuda-nvrtc, or nvidia-cuda-nvrtc-cu12), or None."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [path for root in roots for path in sorted(root.glob("*/lib/libnvrtc.so.*"))]
    return found[0] if found else None


def compile_nvrtc(source: str, architecture: int) -> str:
    """The compiler's notes on registers and spills; RuntimeError with its messages if it refuses."""
    nvrtc = ctypes.CDLL(str(library()))
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    options = [f"--gpu-architecture=sm_{architecture}", "-std=c++17", "--ptxas-options=-v"]
    texts = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), texts)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    cubin = ctypes.c_size_t()
    if not failed:
        nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(cubin))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed or not cubin.value:
        raise RuntimeError(f"NVRTC error {failed}:\n{log.value.decode()}")
    return log.value.decode()


def compile_nvcc(source: str, architecture: int) -> str:
    """The same by nvcc."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(source, encoding="ascii")
        flags = [
            "-cubin",
            f"-arch=sm_{architecture}",
            "-std=c++17",
            "-Xptxas=-v",
            "-o",
            f"{folder}/kernel.cubin",
        ]
        done = subprocess.run(["nvcc", *flags, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvcc error {done.returncode}:\n{done.stderr}")
    return done.stderr


def compilers() -> dict[str, object]:
    """Those that this machine has."""
    found: dict[str, object] = {"nvrtc": compile_nvrtc} if library() else {}
    return found | ({"nvcc": compile_nvcc} if shutil.which("nvcc") else {})


def resources(notes: str) -> list[tuple[int, int, int]]:
    """(registers, bytes of spill stores, of spill loads) of each kernel."""
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", notes)
    registers = re.findall(r"Used (\d+) registers", notes)
    return [(int(r), int(s), int(k)) for r, (s, k) in zip(registers, spills, strict=True)]
