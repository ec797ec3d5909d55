"""Types are known to msgspec before there are threads.

Two threads that meet a type for the first time at once crash the process: `msgspec.json.decode(raw, type=Record)` in 64
new threads did so in one of eight runs (msgspec 0.22), and ended the driver's test of concurrent calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dra_driver

PACKAGE = Path(dra_driver.__file__).parent
PLAIN = ("dict", "list", "str", "int", "float", "bool", "Json")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def prepared(tree: ast.Module) -> set[str]:
    """Names of types for which a decoder is made when the module is loaded."""
    return {
        ast.unparse(call.args[0])
        for statement in tree.body
        if isinstance(statement, ast.Expr | ast.Assign)
        for name, call in calls(statement)
        if name == "msgspec.json.Decoder"
    }


def late(tree: ast.Module) -> list[str]:
    """Types that are met at the first call."""
    asked = [
        ast.unparse(keyword.value)
        for name, call in calls(tree)
        if name == "msgspec.json.decode"
        for keyword in call.keywords
        if keyword.arg == "type"
    ]
    asked += [ast.unparse(call.args[1]) for name, call in calls(tree) if name == "msgspec.convert"]
    return [kind for kind in asked if kind.partition("[")[0] not in PLAIN and kind not in prepared(tree)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_types_are_known_before_there_are_threads(path: Path) -> None:
    assert late(ast.parse(path.read_text())) == []


def test_the_rule_finds_a_breach() -> None:
    assert late(ast.parse("def f(raw):\n    return msgspec.json.decode(raw, type=Record)")) == ["Record"]
    assert late(ast.parse("def f(raw):\n    return msgspec.convert(raw, Record)")) == ["Record"]
    assert late(ast.parse("msgspec.json.Decoder(Record)\ndef f(raw):\n    return msgspec.convert(raw, Record)")) == []
