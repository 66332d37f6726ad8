"""docs/reliability.md tells what the tests say."""

from __future__ import annotations

from collections import Counter

from tests.scenarios import PAGE, coverage, page, scenarios


def test_all_are_there():
    assert Counter(number[0] for number in scenarios()) == {"F": 37, "B": 77, "N": 32}
    assert all({"title", "expected"} <= set(row) for row in scenarios().values())


def test_marks_name_scenarios():
    unknown = set(coverage()) - set(scenarios())
    assert not unknown, f"marks of tests that are not in tests/scenarios.toml: {sorted(unknown)}"


def test_each_has_a_test_or_a_reason():
    tests = coverage()
    bare = [number for number, row in scenarios().items() if number not in tests and "reason" not in row]
    assert not bare, f"give a test the mark scenario(number), or the row a reason: {bare}"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run python -m tests.scenarios"
