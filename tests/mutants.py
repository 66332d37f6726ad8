"""Break every gradient in every simple way, one at a time, and see that the tests notice.

    python tests/mutants.py            # all mutants, a few minutes
    python tests/mutants.py --list     # only show them
    python tests/mutants.py Conv2D     # those of one operation or kernel

A mutant changes one thing inside one ``backward`` method or one gradient kernel: a sign is flipped, a
factor or a summand dropped, an axis or a constant changed, ``+=`` made ``=``. The files are copied to a
temporary folder first; nothing here is changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ["tests/ops", "tests/test_autograd.py"]
KERNELS = [ROOT / f"minidl/kernels/{name}.py" for name in ("reference", "normalising", "windows")]
FILES = [*sorted((ROOT / "minidl/ops").glob("*.py")), *KERNELS]

EQUIVALENT = {  # mutants that compute the same thing
    ("Add", "swap two gradients"): "both are dy",
    ("Abs", "* for / or / for *"): "a sign is its own inverse",
}


def gradients(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(operation, function) of each backward method and each gradient kernel in a file."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "backward":
                    yield node.name, item
        if isinstance(node, ast.FunctionDef) and (node.name.endswith("_grad") or "_grad_" in node.name):
            yield node.name, node


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(what, replacement) for one node of a syntax tree."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Mult, ast.Div)):
            yield "drop the factor " + ast.unparse(node.right), node.left
            if isinstance(node.op, ast.Mult):
                yield "drop the factor " + ast.unparse(node.left), node.right
            other = ast.Div() if isinstance(node.op, ast.Mult) else ast.Mult()
            yield "* for / or / for *", ast.BinOp(node.left, other, node.right)
        if isinstance(node.op, (ast.Add, ast.Sub)):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield "+ for - or - for +", ast.BinOp(node.left, other, node.right)
            yield "drop the summand " + ast.unparse(node.right), node.left
        if isinstance(node.op, ast.MatMult):
            yield "drop a sign", ast.UnaryOp(ast.USub(), node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "drop the sign", node.operand
    if isinstance(node, ast.AugAssign):
        if isinstance(node.op, ast.Add):
            yield "= for +=", ast.Assign([node.target], node.value, lineno=node.lineno)
            yield "-= for +=", ast.AugAssign(node.target, ast.Sub(), node.value)
        if isinstance(node.op, (ast.Sub, ast.Mult)):
            yield "drop " + ast.unparse(node), ast.Pass()
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Gt, ast.Lt)):
        other = ast.Lt() if isinstance(node.ops[0], ast.Gt) else ast.Gt()
        yield "< for > or > for <", ast.Compare(node.left, [other], node.comparators)
    if isinstance(node, ast.keyword) and node.arg == "axis":
        yield "another axis", ast.keyword("axis", ast.Constant(0 if ast.unparse(node.value) != "0" else 1))
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) > 1:
        yield (
            "swap two gradients",
            ast.Return(ast.Tuple([node.value.elts[1], node.value.elts[0], *node.value.elts[2:]], ast.Load())),
        )
    if isinstance(node, ast.Return) and isinstance(node.value, (ast.Name, ast.Call, ast.Subscript)):
        yield "flip the sign of the result", ast.Return(ast.UnaryOp(ast.USub(), node.value))


class Replace(ast.NodeTransformer):
    """Replace the k-th visited node that has changes by its j-th change."""

    def __init__(self, k: int, j: int):
        self.k, self.j, self.seen, self.what = k, j, -1, ""

    def visit(self, node: ast.AST) -> ast.AST:
        options = list(changes(node))
        if options:
            self.seen += 1
            if self.seen == self.k and self.j < len(options):
                self.what, new = options[self.j]
                return ast.copy_location(copy.deepcopy(new), node)
        return self.generic_visit(node)


def mutants() -> Iterator[tuple[Path, str, str, str]]:
    """(file, operation, what, source) of every mutant."""
    for file in FILES:
        source = file.read_text()
        for name, function in gradients(ast.parse(source)):
            lines = source.splitlines(keepends=True)
            count = sum(1 for node in ast.walk(function) if list(changes(node)))
            for k in range(count):
                for j in range(4):
                    replace = Replace(k, j)
                    changed = ast.fix_missing_locations(replace.visit(copy.deepcopy(function)))
                    if not replace.what:
                        break
                    indent = " " * function.col_offset
                    text = "".join(f"{indent}{line}\n" for line in ast.unparse(changed).splitlines())
                    whole = [*lines[: function.lineno - 1], text, *lines[function.end_lineno :]]
                    yield file, name, replace.what, "".join(whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("only", nargs="*", help="names of operations")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if m[1:3] not in EQUIVALENT and m[1] in (arguments.only or [m[1]])]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        for part in ("minidl", "tests", "pyproject.toml"):
            copier = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copier(ROOT / part, Path(folder) / part)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--kernels=reference",
            *TESTS,
        ]
        environment = os.environ | {
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "ci",
        }
        for number, (file, name, what, source) in enumerate(chosen, 1):
            label = f"{number}/{len(chosen)} {name}: {what}"
            if arguments.list:
                print(label)
                continue
            target = Path(folder) / file.relative_to(ROOT)
            original = target.read_text()
            target.write_text(source)
            run = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            target.write_text(original)
            caught = run.returncode == 1
            print(f"{'red' if caught else 'SURVIVED'}  {label}", flush=True)
            if not caught:
                survivors.append(label)
    if not arguments.list:
        print(f"{len(chosen)} mutants, {len(survivors)} survived")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
