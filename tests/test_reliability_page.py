"""docs/reliability.md names tests that are there, and all cases that concern a scheduler or what a driver prepares."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NUMBERS = (*range(1, 8), *range(11, 18), 19, *range(20, 29), *range(30, 39))
"""Of the cases that concern a scheduler, and what the node driver prepares."""


def test_every_case_has_a_row() -> None:
    assert sorted({int(number) for number in re.findall(r"^\| T(\d\d) ", PAGE, re.MULTILINE)}) == list(NUMBERS)


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > len(NUMBERS)
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        there = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
        assert not name or name in there, f"{path}::{name}"
