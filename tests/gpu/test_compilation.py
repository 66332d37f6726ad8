"""Every CUDA kernel compiled for two generations of GPUs, without one: no errors, and no registers spilled to memory."""

from __future__ import annotations

import itertools
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gpu import nvrtc
from tests.gpu.cuda_on_cpu import SIGNATURE

COMPILERS = nvrtc.compilers()
GEOMETRY = {"H": 13, "W": 13, "C": 32, "OH": 9, "OW": 9, "KH": 5, "KW": 5, "SH": 1, "SW": 1, "DH": 1, "DW": 1, "TOP": 0, "LEFT": 0}  # fmt: skip
SQUARE = {"H": 56, "W": 56, "C": 256, "OH": 56, "OW": 56, "KH": 3, "KW": 3, "SH": 1, "SW": 1, "DH": 1, "DW": 1, "TOP": 1, "LEFT": 1}  # fmt: skip
PHASES = {"PH": 56, "PW": 56, "STEPH": 1, "STEPW": 1, "REACHH": 1, "REACHW": 1}
STRIDED = {"OH": 28, "OW": 28, "SH": 2, "SW": 2, "PH": 28, "PW": 28, "STEPH": 2, "STEPW": 2}
SINGLE, DOUBLE = {"T": "f4"}, {"T": "f8"}
# Types and constants of each file.
CHOICES = {
    **{file: [SINGLE, DOUBLE] for file in ("columns", "dropout", "elementwise", "loss", "optim")},
    "metrics": [kind | {"LANES": lanes} for kind in (SINGLE, DOUBLE) for lanes in (1, 32)],
    "thin": [kind | {"THIN_ROWS": rows} for kind in (SINGLE, DOUBLE) for rows in (1, 4)],
    "windows": [single | {"I": offset} | GEOMETRY for single in (SINGLE, DOUBLE) for offset in ("u1", "i4")],
    "batches": [{"S": "u1", "L": "i8", "R": "f4", "PIXELS": 1}, {"S": "f4", "L": "f4", "R": "f4", "PIXELS": 0}],
}  # fmt: skip


def choices(file):
    """Types and constants that a file is compiled with; convolutions in every tile that the host chooses."""
    if not file.startswith("conv"):
        return CHOICES[file]
    from minidl.kernels.cuda import implicit

    wide = {"F": 256, "WIDEX": 1, "WIDEY": 1, "WIDEW": 1}
    narrow = {"F": 10, "C": 3, "WIDEX": 0, "WIDEY": 0, "WIDEW": 0}
    tiles = [
        {"TILE_M": high, "TILE_N": across, "SPLIT": int(precision == "fp32")}
        for precision, widest in implicit.WIDEST.items()
        for high, across in implicit.TILES
        if across <= widest
    ]
    phases = ({}, STRIDED) if file == "conv_grad_input" else ({},)
    choices = itertools.product(phases, (wide, narrow), tiles)
    return [SQUARE | PHASES | strides | numbers | tile for strides, numbers, tile in choices]


def sources(cupy):
    """(title, source) of each file in each of its choices."""
    from minidl.kernels.cuda import launching

    for file in sorted(path.stem for path in launching.FOLDER.glob("*.cu")):
        for choice in choices(file):
            types = {name: value for name, value in choice.items() if isinstance(value, str)}
            constants = {name: value for name, value in choice.items() if isinstance(value, int)}
            yield f"{file} {choice}", launching.source(file, types, tuple(constants.items()))


@pytest.mark.skipif(not COMPILERS, reason="needs nvidia-cuda-nvrtc (pip) or nvcc")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("compiler", COMPILERS or ["none"])
def test_every_kernel_compiles_without_spills(cupy, compiler, architecture, record_property):
    count, most, every = 0, 0, list(sources(cupy))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the compilers are processes, or leave the interpreter
        notes = list(pool.map(lambda pair: COMPILERS[compiler](pair[1], architecture), every))
    for (title, source), note in zip(every, notes, strict=True):
        used = nvrtc.resources(note)
        assert len(used) == len(SIGNATURE.findall(source)), title
        assert not any(stores or loads for _, stores, loads in used), f"{title}: spills, {used}"
        most_allowed = 255 if title.startswith("conv") else 128  # for blocks of half as many threads
        assert max(registers for registers, _, _ in used) <= most_allowed, f"{title}: {used}"
        count, most = count + len(used), max(most, *[registers for registers, _, _ in used])
    record_property("kernels", count)
    record_property("registers", most)
    assert count >= 90


@pytest.mark.skipif(not COMPILERS, reason="needs nvidia-cuda-nvrtc (pip) or nvcc")
def test_mistakes_and_spills_are_noticed():
    compiler = next(iter(COMPILERS.values()))
    with pytest.raises(RuntimeError, match=r"nothing.*undefined"):
        compiler('extern "C" __global__ void k(float* x) { *x = nothing; }', 90)
    body = "".join(f"float v{i} = x[{i} * n]; " for i in range(120)) + "__syncthreads(); "
    body += "".join(f"x[{i} * n] = v{i} * v{(7 * i + 3) % 120}; " for i in range(120))
    narrow = f'extern "C" __global__ void __launch_bounds__(1024, 2) k(float* x, int n) {{ {body} }}'
    assert any(stores for _, stores, _ in nvrtc.resources(compiler(narrow, 90)))


def test_the_fake_sees_every_kernel(cupy):
    """A kernel whose signature the pattern misses would be neither run nor counted."""
    for title, source in sources(cupy):
        assert len(re.findall("__global__", source)) == len(SIGNATURE.findall(source)), title
