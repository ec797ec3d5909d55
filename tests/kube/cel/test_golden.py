"""Our selectors answer as Kubernetes' own code does: the same values, the same costs, errors where it has errors."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from kube import cel
from kube.cel import SelectorFault, SelectorSyntaxError
from kube.cel.frame import Frame
from kube.cel.selector import build, device_value, run
from kube.cel.signatures import functions
from kube.quantity import parse_quantity
from packing.dra.model import Attribute, AttributeKind
from sandbox import tools
from sandbox.pytest_plugin import had_or_skipped
from tests.kube.cel import golden
from tests.kube.cel.plainly import plain, read, same

ROWS = golden.table()


def _attribute(written: dict[str, Any]) -> Attribute:
    ((kind, value),) = written.items()
    if isinstance(value, list):
        return Attribute(AttributeKind(kind.removesuffix("s")), tuple(value), is_list=True)
    return Attribute(AttributeKind(kind), (value,))


def _inputs(name: str) -> tuple[str, dict[str, Attribute], dict[str, int], bool]:
    driver, device = golden.DEVICES[name]["driver"], golden.DEVICES[name]["device"]

    def qualified(key: str) -> str:
        return key if "/" in key else f"{driver}/{key}"

    attributes = {qualified(key): _attribute(written) for key, written in device.get("attributes", {}).items()}
    capacity = {qualified(key): parse_quantity(held["value"]) for key, held in device.get("capacity", {}).items()}
    return driver, attributes, capacity, device.get("allowMultipleAllocations", False)


INPUTS = {name: _inputs(name) for name in golden.DEVICES}


def ours(row: dict[str, Any]) -> dict[str, Any]:
    """Answer a case as the table does."""
    lists = golden.DEVICES[row["device"]].get("lists", False)
    driver, attributes, capacity, multiple = INPUTS[row["device"]]
    try:
        selector = cel.compile(row["expression"], lists=lists)
    except SelectorSyntaxError as refused:
        if not refused.reason.startswith("must evaluate to"):
            return {"refused": str(refused)}
        return {"refused": str(refused), **_value(row, lists=lists)}
    try:
        matches, cost = selector.evaluate(driver, attributes, capacity, multiple=multiple)
    except SelectorFault as fault:
        return {"fault": str(fault)}
    return {"matches": matches, "cost": cost}


def _value(row: dict[str, Any], *, lists: bool) -> dict[str, Any]:
    driver, attributes, capacity, multiple = INPUTS[row["device"]]
    try:
        _, evaluate = build(row["expression"], lists=lists, of_any_type=True)
    except SelectorSyntaxError:
        return {}
    frame = Frame((device_value(driver, attributes, capacity, multiple=multiple),))
    try:
        return {"value": plain(run(evaluate, frame)), "cost": frame.cost}
    except SelectorFault as fault:
        return {"fault": str(fault)}


def differences(row: dict[str, Any]) -> list[str]:
    """Say in what our answer differs."""
    answer = ours(row)
    found = [key for key in ("refused", "fault", "matches", "value") if (key in answer) != (key in row)]
    if not found and "value" in row and not same(answer["value"], read(row["value"])):
        found.append("value")
    if not found and answer.get("matches") != row.get("matches"):
        found.append("matches")
    if not found and "cost" in row and answer["cost"] != row["cost"]:
        found.append("cost")
    return [f"{row['expression']} @{row['device']}: {key}: {answer} instead of {row}" for key in found]


def test_every_row_of_the_table_has_our_answer() -> None:
    wrong = [text for row in ROWS for text in differences(row)]
    assert not wrong, f"{len(wrong)} of {len(ROWS)} rows differ:\n" + "\n".join(wrong[:50])


@pytest.mark.cluster
def test_kubernetes_still_says_what_the_table_says() -> None:
    """The table is no hand-work: Kubernetes' code, asked again, gives a sample of it (seed 20261121)."""
    program = had_or_skipped(lambda: tools.provide(["celgolden"])["celgolden"])
    sample = random.Random(20261121).sample(list(golden.cases()), 400)
    known = {(row["expression"], row["device"]): row for row in ROWS}
    for row in golden.ask(program, sample):
        kept = known[row["expression"], row["device"]]
        assert {**row, "cost": None} == {**kept, "cost": None}
        assert "cost" not in kept or kept["cost"] == row["cost"]


def test_the_table_calls_every_function_and_tells_all_kinds_of_answers() -> None:
    text = "\n".join(row["expression"] for row in ROWS)
    named = [name for name in functions() if name[0].isalpha() and name.partition(".")[0] != "cel"]
    no_selector_has = {"errored", "error", "reason", "group", "serviceAccount", "resource", "subresource", "namespace"}
    no_selector_has |= {"name", "fieldSelector", "labelSelector"}
    assert not [name for name in named if name not in no_selector_has and f"{name}(" not in text]
    kinds = Counter(key for row in ROWS for key in ("matches", "value", "fault", "refused") if key in row)
    assert len(ROWS) >= 600
    assert min(kinds.values()) >= 500
