"""docs/reliability.md names tests that are there, the cases of schedulers and drivers, and what is planted."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
SCHEDULER, DRIVER = PAGE.split("## In the node driver")
OF_SCHEDULER = {*range(1, 5), *range(20, 27), 28, *range(30, 39)}
OF_DRIVER = {2, *range(5, 20), 27, 29, 39}
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
ROWS = re.compile(r"^\| T(\d\d) \|.*\| `(tests/[\w/]+\.py)(?:::(\w+))?` \| ?(.*?) ?\|$", re.MULTILINE)


def test_every_case_has_a_row() -> None:
    assert {int(number) for number, *_ in ROWS.findall(SCHEDULER)} == OF_SCHEDULER
    assert {int(number) for number, *_ in ROWS.findall(DRIVER)} >= OF_DRIVER


def test_every_row_is_read() -> None:
    assert len(ROWS.findall(PAGE)) == len(re.findall(r"^\| T\d\d ", PAGE, re.MULTILINE))


def test_every_test_that_is_named_is_there() -> None:
    for path, name in NAMED.findall(PAGE):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        there = {each.name for each in tree.body if isinstance(each, kinds)}
        assert not name or name in there, f"{path}::{name}"


def test_every_case_of_a_driver_has_a_mistake_planted() -> None:
    assert {int(number) for number, *_, planted in ROWS.findall(DRIVER) if planted} >= OF_DRIVER


@pytest.mark.parametrize(("path", "name"), [row[1:3] for row in ROWS.findall(DRIVER) if row[3]])
def test_the_mistake_is_planted(path: str, name: str) -> None:
    """In a table that names the test as what finds it, or in a test beside it."""
    file = ROOT / path
    seeded = file.with_name("test_seeded_bugs.py")
    beside = f"def {name[:8]}_is_found_when_it_is_planted("
    assert (seeded.exists() and name in seeded.read_text("utf-8")) or beside in file.read_text("utf-8")
