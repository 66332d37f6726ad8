"""The generic tests of every operation, from the table in tests/cases.py."""

from __future__ import annotations

import pytest

from minidl import ops
from minidl.testing import check_op
from tests.cases import CASES


@pytest.mark.scenario("N4", "N8", "N17")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operation(case):
    check_op(case)


def test_every_public_operation_has_a_case():
    tested = {case.name.partition("-")[0] for case in CASES}
    assert tested == set(ops.__all__)


def test_case_names_are_unique():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
