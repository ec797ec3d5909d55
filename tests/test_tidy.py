"""Rules of the house that no linter knows: sizes, who may print, references of kernels, and our import names."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("dovetail", "dra_driver", "kube", "packing", "sandbox", "scheduler", "simulator", "topology")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHES = sorted((ROOT / "bench").rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *BENCHES], ids=named)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert [function.name for function in functions(path) if code_lines(function) > MAX_FUNCTION_LINES] == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_only_the_command_line_prints(path: Path) -> None:
    if path.is_relative_to(ROOT / "dovetail"):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_every_module_kernel_is_named_by_a_test_or_a_reference() -> None:
    """A kernel module nobody checks by name has no slow twin to be equal to."""
    checkers = [*(ROOT / "packing").glob("reference*.py"), *TESTS]
    words = "\n".join(path.read_text(encoding="utf-8") for path in checkers if path != Path(__file__))
    unchecked = []
    for path in sorted((ROOT / "packing" / "kernels").glob("*.py")):
        kernels = [function.name for function in functions(path) if _is_kernel(function)]
        called_here = {name for name in kernels if not name.startswith("_")}
        if called_here and not any(re.search(rf"\b{name}\b", words) for name in [*called_here, path.stem]):
            unchecked.append(named(path))
    assert unchecked == []


def test_no_installed_distribution_claims_our_import_names() -> None:
    owners = importlib.metadata.packages_distributions()
    assert {name: owners[name] for name in PACKAGES if set(owners.get(name, ())) - {"dovetail"}} == {}


def _is_kernel(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = (node for decorator in function.decorator_list for node in ast.walk(decorator))
    return any(isinstance(node, ast.Name) and node.id == "kernel" for node in names)
