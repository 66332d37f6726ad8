"""Which test stands for which scenario: writes docs/reliability.md from tests/scenarios.toml and the marks.

python -m tests.scenarios
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
TITLES = {"F": "Faults survived", "B": "Bad files refused", "N": "Numbers and shapes"}
HEAD = """# Reliability

What goes wrong, what minidl does then, and the tests that show it. Written by `python -m tests.scenarios` from
`tests/scenarios.toml` and the marks of the tests: change those, not this page.
"""


def scenarios() -> dict[str, dict[str, str]]:
    """{"F1": {"title": ..., "expected": ...}}, in order."""
    tables = tomllib.loads((TESTS / "scenarios.toml").read_text())
    return {f"{kind}{number}": row for kind, rows in tables.items() for number, row in rows.items()}


def marked(file: Path) -> Iterator[tuple[str, str]]:
    """(number, test) of every scenario mark on the functions of a file, those of single parameters included."""
    for node in ast.walk(ast.parse(file.read_text())):
        for decorator in getattr(node, "decorator_list", []):
            for call in ast.walk(decorator):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.scenario":
                    yield from ((ast.literal_eval(number), node.name) for number in call.args)


def coverage() -> dict[str, list[tuple[Path, str]]]:
    """The tests of each scenario, by number."""
    found: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for number, test in marked(file):
            found[number].append((file.relative_to(TESTS), test))
    return found


def page() -> str:
    """The text of docs/reliability.md."""
    rows, tests = scenarios(), coverage()
    lines = [HEAD]
    for kind, title in TITLES.items():
        lines += [f"## {title}", "", "| | scenario | expected | tests |", "|---|---|---|---|"]
        for number, row in rows.items():
            if number[0] == kind and number in tests:
                links = "<br>".join(_link(*test) for test in tests[number])
                lines.append(f"| {number} | {row['title']} | {row['expected']} | {links} |")
        lines.append("")
    lines += ["## Without a test", ""]
    for number, row in rows.items():
        if number not in tests:
            lines.append(f"- {number}, {row['title']}: {row.get('reason', 'no reason is given')}.")
    return "\n".join(lines) + "\n"


def _link(file: Path, test: str) -> str:
    return f"[{file.with_suffix('')}: {test.removeprefix('test_')}](../tests/{file})"


if __name__ == "__main__":
    PAGE.write_text(page())
