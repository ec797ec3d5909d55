"""docs/driver.md names tests that are there, marked as it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "driver.md").read_text(encoding="utf-8")
FOLDERS = ("tests/dra_driver/plugin", "tests/driver_node", "tests/manifests")
NAMED = re.compile(r"`(test_\w+\.py)::(\w+)`( \(soak\))?")


def test_every_test_that_is_named_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 50
    for file, name, soak in named:
        (path,) = [ROOT / folder / file for folder in FOLDERS if (ROOT / folder / file).exists()]
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        there = {each.name: each for each in ast.parse(path.read_text("utf-8")).body if isinstance(each, functions)}
        assert name in there, f"{file}::{name}"
        marks = {ast.unparse(each) for each in there[name].decorator_list}
        assert ("pytest.mark.soak" in marks) == bool(soak), f"{file}::{name}"
