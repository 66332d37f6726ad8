"""Compiles CUDA C with g++ and runs its kernels on NumPy arrays (see cuda_on_cpu.h)."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
SIGNATURE = re.compile(r'extern "C" __global__ void\s*(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(([^)]*)\)')
BARRIER = re.compile(r"column_sums\(|finished_last\(|product<|__syncthreads|__shfl|warp_sum")
TYPES = {
    "float": np.float32, "double": np.float64, "int": np.int32, "unsigned": np.uint32, "bool": np.bool_,
    "long long": np.int64, "u64": np.uint64, "unsigned char": np.uint8, "signed char": np.int8,
}  # fmt: skip


def available() -> bool:
    return shutil.which("g++") is not None


class Module:
    """The kernels of one source; constants of the compilation are set before each launch, so g++ runs once."""

    def __init__(self, source: str):
        lines = source.splitlines()
        constant = re.compile(r"constexpr int ([A-Z]+) = (\d+);$")
        self.constants = {m[1]: int(m[2]) for line in lines if (m := constant.match(line))}
        self.typedefs = dict(
            m.groups()[::-1] for line in lines if (m := re.match(r"typedef ([\w ]+) (\w);$", line))
        )
        text = "\n".join(line for line in lines if not constant.match(line))
        names = sorted(self.constants)
        self.library = _compile(text, tuple(names))
        self.parameters = {name: _parameters(arguments) for name, arguments in SIGNATURE.findall(text)}

    def run(self, name: str, grid: tuple[int, ...], threads: int, arguments: tuple[Any, ...]) -> None:
        """One launch. TypeError unless each argument is exactly of its parameter's type."""
        for constant, value in self.constants.items():
            ctypes.c_int.in_dll(self.library, constant).value = value
        parameters = self.parameters[name]
        if len(parameters) != len(arguments):
            raise TypeError(f"{name} takes {len(parameters)} arguments, got {len(arguments)}")
        values = [self._value(name, *pair) for pair in zip(parameters, arguments, strict=True)]
        sizes = (*grid, 1, 1)[:3]
        getattr(self.library, f"launch_{name}")(*map(ctypes.c_uint, (*sizes, threads)), *values)

    def _value(self, kernel: str, parameter: tuple[str, bool, str], argument: Any) -> Any:
        kind, pointer, name = parameter
        dtype = np.dtype(TYPES[self.typedefs.get(kind, kind)])
        if pointer:
            if argument is None:
                return ctypes.c_void_p(0)
            if not isinstance(argument, np.ndarray) or argument.dtype != dtype:
                raise TypeError(f"{kernel}: {name} is {dtype}*, got {getattr(argument, 'dtype', argument)}")
            return ctypes.c_void_p(argument.ctypes.data)
        if not isinstance(argument, np.generic) or argument.dtype != dtype:
            raise TypeError(f"{kernel}: {name} is {dtype}, got {type(argument)}")
        return np.ctypeslib.as_ctypes_type(dtype)(argument.item())


def _parameters(arguments: str) -> list[tuple[str, bool, str]]:
    """(type, whether it is a pointer, name) of each."""
    found = []
    for argument in arguments.split(","):
        kind, star, name = re.match(r"\s*(?:const )?([\w ]+?)\s*(\*?)\s*(\w+)$", argument.strip()).groups()
        found.append((kind, bool(star), name))
    return found


@cache
def _compile(text: str, constants: tuple[str, ...]) -> ctypes.CDLL:
    launchers = []
    parts = re.split(r'(?=extern "C" __global__)', text)
    for part in parts[1:]:
        name, arguments = SIGNATURE.match(part).groups()
        barriers = "true" if BARRIER.search(part) else "false"
        names = ", ".join(parameter[2] for parameter in _parameters(arguments))
        launchers.append(
            f'extern "C" void launch_{name}(unsigned gx, unsigned gy, unsigned gz, unsigned threads, {arguments}) {{ '
            f"launch(gx, gy, gz, threads, {barriers}, [=] {{ {name}({names}); }}); }}"
        )
    variables = "".join(f'extern "C" {{ int {name}; }}\n' for name in constants)
    code = "\n".join([f'#include "{HEADER.name}"', variables, text, *launchers])
    key = hashlib.sha256((code + HEADER.read_text()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"minidl-cuda-on-cpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{key}.so"
    if not built.exists():
        source, fresh = folder / f"{key}-{os.getpid()}.cpp", folder / f"{key}-{os.getpid()}.so"
        source.write_text(code)
        flags = [
            "-std=c++17",
            "-O3",
            "-march=native",
            "-fno-strict-aliasing",
            "-ffp-contract=off",
            "-w",
            "-shared",
            "-fPIC",
        ]
        flags += ["-U_FORTIFY_SOURCE"]  # which takes jumps between stacks for mistakes
        flags += ["-Wl,-Bsymbolic"]  # kernels have plain names, which other libraries may have too
        flags += ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]  # a GPU stops there too
        done = subprocess.run(
            ["g++", *flags, "-I", str(HEADER.parent), str(source), "-o", str(fresh)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        source.unlink()
        if done.returncode:
            raise RuntimeError(f"g++: {done.stderr[:4000]}")
        fresh.replace(built)
    return ctypes.CDLL(str(built))
