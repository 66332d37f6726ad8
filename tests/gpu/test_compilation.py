"""Every CUDA kernel compiled for two generations of GPUs, without one: no errors, and no registers spilled to memory."""

from __future__ import annotations

import re

import pytest

from tests.gpu import nvrtc
from tests.gpu.cuda_on_cpu import SIGNATURE

COMPILERS = nvrtc.compilers()
GEOMETRY = {"H": 13, "W": 13, "C": 32, "OH": 9, "OW": 9, "KH": 5, "KW": 5, "SH": 1, "SW": 1, "DH": 1, "DW": 1, "TOP": 0, "LEFT": 0}  # fmt: skip
# Types and constants of each file, beside T = float and T = double.
CHOICES = {
    "columns": [{}], "dropout": [{}], "elementwise": [{}], "loss": [{}], "optim": [{}],
    "windows": [{"I": "u1"}, {"I": "i4"}],
    "batches": [{"S": "u1", "L": "i8", "R": "f4", "PIXELS": 1}, {"S": "f4", "L": "f4", "R": "f4", "PIXELS": 0}],
}  # fmt: skip


def sources(cupy):
    """(title, source) of each file in each of its choices."""
    from minidl.kernels.cuda import launching

    assert set(CHOICES) == {path.stem for path in launching.FOLDER.glob("*.cu")}
    for file, choices in CHOICES.items():
        for choice in choices:
            constants = dict(GEOMETRY) if file == "windows" else {}
            types = {name: value for name, value in choice.items() if isinstance(value, str)}
            constants |= {name: value for name, value in choice.items() if isinstance(value, int)}
            for single in ("f4", "f8") if "R" not in types else ("",):
                chosen = types | ({"T": single} if single else {})
                yield f"{file} {chosen}", launching.source(file, chosen, tuple(constants.items()))


@pytest.mark.skipif(not COMPILERS, reason="needs nvidia-cuda-nvrtc (pip) or nvcc")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("compiler", COMPILERS or ["none"])
def test_every_kernel_compiles_without_spills(cupy, compiler, architecture, record_property):
    count = 0
    for title, source in sources(cupy):
        used = nvrtc.resources(COMPILERS[compiler](source, architecture))
        assert len(used) == len(SIGNATURE.findall(source)), title
        assert not any(stores or loads for _, stores, loads in used), f"{title}: spills, {used}"
        assert max(registers for registers, _, _ in used) <= 128, f"{title}: {used}"
        count += len(used)
    record_property("kernels", count)
    assert count >= 40


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
