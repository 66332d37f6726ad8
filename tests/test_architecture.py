"""The house rules of CONTRIBUTING.md, checked on the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minidl"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file imports only from floors below its own; files of one folder may import each other, downwards.
FLOORS = {
    "_version": 0,
    "checks": 0,
    "backend": 0,
    "files": 0,
    "operators": 0.5,
    "grad_mode": 0,
    "environment": 1,
    "pictures": 5,
    "rng": 0,
    "shapes": 0,
    "kernels": 1,
    "init": 2,
    "data": 2,
    "backward": 1.5,
    "autograd": 2,
    "ops": 3,
    "layers": 4,
    "optim": 5,
    "weights": 5,
    "models": 5.5,
    "inspect": 5,
    "info": 5,
    "metrics": 5,
    "testing": 5,
    "plot": 6,
    "report": 6.5,
    "callbacks": 7,
    "anomaly": 5,
    "checkpoint": 6,
    "interrupts": 0,
    "evaluation": 6,
    "graphs": 1,
    "captured": 7,
    "caching": 7.5,
    "train": 8,
    "cli": 9,
    "__main__": 10,
    "__init__": 10,
}
ONLY_IN = {
    "cupy": {
        "backend.py",
        *(f"kernels/cuda/{f.name}" for f in (PACKAGE / "kernels/cuda").glob("*.py")),
    },
    "numba": {
        f"kernels/cpu/{name}.py"
        for name in ("blas", "compiling", "digits", "masks", "matrix_unit", "microkernel", "partner")
    },
    "threadpoolctl": {"environment.py", "kernels/threads.py"},
    "matplotlib": {"plot.py", "data/glyphs.py"},
    "onnx": {"weights/onnx_export.py", "weights/onnx_nodes.py"},
    "scipy": {"data/formats.py"},
    "h5py": {"weights/keras_file.py", "weights/reading.py"},
}


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path):
    """(absolute dotted module, imported only for type checking) of each import in a file."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = ("minidl", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, id(node) in typing_only) for name in names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_go_down(file):
    own = name_of(file)
    for module, typing_only in imports(file):
        parts = module.split(".")
        if parts[0] != "minidl" or typing_only or len(parts) < 2:
            continue
        other = parts[1] if parts[1] in FLOORS else "__init__"
        if other != own:
            assert FLOORS[other] < FLOORS[own], (
                f"{own} (floor {FLOORS[own]}) imports {other} (floor {FLOORS[other]})"
            )


@pytest.mark.parametrize("library", ONLY_IN)
def test_optional_libraries_stay_in_their_rooms(library):
    users = {
        str(f.relative_to(PACKAGE))
        for f in FILES
        for module, typing_only in imports(f)
        if module.split(".")[0] == library and not typing_only
    }
    assert users <= ONLY_IN[library]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_rooms(file):
    tree = ast.parse(file.read_text())
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), "assert does not validate input"
    assert len(file.read_text().splitlines()) <= 260
    assert file.name != "utils.py"
    assert ast.get_docstring(tree), "a file says what it is"


@pytest.mark.parametrize("file", sorted((PACKAGE / "ops").glob("*.py")), ids=lambda f: f.name)
def test_an_operation_never_names_a_device(file):
    words = {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
    assert not words & {"cupy", "cuda", "device", "cpu"}


def test_import_loads_nothing_optional():
    code = "import sys, minidl; print(*sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    heavy = [
        "matplotlib",
        "scipy",
        "numba",
        "cupy",
        "onnx",
        "h5py",
        "torch",
        "pooch",
        "requests",
        "safetensors",
    ]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *heavy], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_public_names_have_docstrings():
    import minidl as dl

    for module in (dl, dl.ops, dl.layers, dl.optim, dl.callbacks, dl.data, dl.weights, dl.testing):
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not name.startswith("_"):
                assert value.__doc__, f"{module.__name__}.{name} has no docstring"
