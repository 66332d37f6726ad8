"""The command line: ``python -m minidl info`` and ``python -m minidl datasets list | get | verify | path``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ._version import __version__
from .data import DataError, get, list_datasets, path, verify
from .info import info


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 if a data set is not, 2 for a wrong command line."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except ValueError as error:  # an unknown name
        print(f"minidl: {error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(f"minidl: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minidl", description="Deep learning on NumPy and CuPy.")
    parser.add_argument("--version", action="version", version=f"minidl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    machine = commands.add_parser("info", help="processor, BLAS, kernels, GPU, folders, and what is missing")
    machine.set_defaults(run=_info)
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
