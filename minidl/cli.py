"""The command line: ``python -m minidl info | inspect | convert``, and ``datasets list | get | verify | path``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ._version import __version__
from .backend import checksum
from .data import DataError, get, list_datasets, path, verify
from .info import info
from .weights import WeightsError, read, save


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if a data set is not, 2 for a wrong command line."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except WeightsError as error:
        print(f"minidl: {error}", file=sys.stderr)
        return 1
    except ValueError as error:  # an unknown name
        print(f"minidl: {error}", file=sys.stderr)
        return 2
    except (DataError, OSError) as error:
        print(f"minidl: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minidl", description="Deep learning on NumPy and CuPy.")
    parser.add_argument("--version", action="version", version=f"minidl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    machine = commands.add_parser("info", help="processor, BLAS, kernels, GPU, folders, and what is missing")
    machine.set_defaults(run=_info)
    shown = commands.add_parser("inspect", help="names, shapes and checksums in a file of weights")
    shown.add_argument("file", help="safetensors, npz, Keras's .h5 or .keras, PyTorch's .pth")
    shown.add_argument("--json", action="store_true", help="for other programs")
    shown.set_defaults(run=_inspect)
    converted = commands.add_parser(
        "convert", help="write the weights of another framework as safetensors or npz"
    )
    converted.add_argument("file", help="as for inspect")
    converted.add_argument("to", help="a name that ends in .safetensors or .npz")
    converted.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    converted.set_defaults(run=_convert)
    datasets = commands.add_parser("datasets", help="find, download and check data sets")
    actions = datasets.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("list", _list, "names, and where each data set is"),
        ("get", _get, "download what is missing"),
        ("verify", _verify, "compare every file with its published checksum"),
        ("path", _path, "the folder of a data set"),
    ):
        action = actions.add_parser(name, help=text)
        action.set_defaults(run=run)
        if name != "list":
            action.add_argument("name", help="such as mnist or emnist/letters")
    return parser


def _info(parsed: argparse.Namespace) -> int:
    facts, advice = info()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    for line in advice:
        print(f"- {line}")
    return 0


def _inspect(parsed: argparse.Namespace) -> int:
    arrays = read(parsed.file)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "shape": list(a.shape),
            "dtype": str(a.dtype),
            "bytes": a.nbytes,
            "crc32": f"{checksum(a):08x}",
        }
        for name, a in arrays.items()
    ]
    if parsed.json:
        print(json.dumps({"file": parsed.file, "origin": arrays.origin, "arrays": rows}, indent=1))
        return 0
    table = [("NAME", "SHAPE", "DTYPE", "BYTES", "CRC32")]
    table += [(r["name"], str(tuple(r["shape"])), r["dtype"], f"{r['bytes']:,}", r["crc32"]) for r in rows]
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    for name, shape, dtype, size, crc in table:
        print(f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {dtype:<{widths[2]}}  {size:>{widths[3]}}  {crc}")
    numbers = sum(a.size for a in arrays.values())
    print(f"{len(rows)} arrays, {numbers:,} numbers, {sum(a.nbytes for a in arrays.values()):,} bytes")
    return 0


def _convert(parsed: argparse.Namespace) -> int:
    if os.path.lexists(parsed.to) and not parsed.overwrite:
        raise FileExistsError(f"{parsed.to} exists; say --overwrite to replace it")
    arrays = read(parsed.file)
    save(dict(arrays), parsed.to)
    print(f"{len(arrays)} arrays written to {parsed.to}")
    return 0


def _list(parsed: argparse.Namespace) -> int:
    rows = [("NAME", "WHERE", "TITLE"), *((s.name, s.where, s.title) for s in list_datasets())]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, where, title in rows:
        print(f"{name:<{widths[0]}}  {where:<{widths[1]}}  {title}")
    return 0


def _get(parsed: argparse.Namespace) -> int:
    for file in get(parsed.name):
        print(file)
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    checks = verify(parsed.name)
    for check in checks:
        print(
            f"{'WRONG' if check.problem else 'ok':<5}  {check.file}"
            + (f"  {check.problem}" if check.problem else "")
        )
    return int(any(check.problem for check in checks))


def _path(parsed: argparse.Namespace) -> int:
    print(path(parsed.name))
    return 0
