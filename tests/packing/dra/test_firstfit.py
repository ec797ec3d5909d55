"""What is predicted of the in-tree allocator is what it does: a table of its own answers (`golden`, 1.36.3)."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from packing.dra.firstfit import first_fit
from packing.dra.reference import is_valid
from packing.kernels.arrays import CPU
from tests.packing.dra.builders import allocator_of
from tests.packing.dra.golden import Json, _given, decode
from tests.packing.dra.small import Case

TABLE = Path(__file__).with_name("firstfit.jsonl.gz")


@cache
def table() -> list[Json]:
    return [json.loads(line) for line in gzip.decompress(TABLE.read_bytes()).splitlines()]


def results_of(answer: Json) -> list[list[Json]] | None:
    """The devices in-tree gave to each claim, without what says nothing about the choice."""
    if "claims" not in answer:
        return None
    kept = ("request", "driver", "pool", "device", "adminAccess", "consumedCapacity")
    return [[{key: each[key] for key in kept if key in each} for each in claim] for claim in answer["claims"]]


def predicted(case: Case) -> list[list[Json]] | None:
    """The same as predicted by the product."""
    ledger = case.ledger()
    found = allocator_of(ledger).predict(case.ask)
    assert bool(found) == (first_fit(ledger, 0, case.ask) is not None)
    if not found:
        return None
    claims = [[_given(given) for given in results] for results in found[0][0].claims]
    for each in (each for claim in claims for each in claim):
        if not each.get("consumedCapacity"):
            each.pop("consumedCapacity", None)
    return claims


def test_every_pick_of_the_in_tree_allocator_is_predicted() -> None:
    wrong = [at for at, found in enumerate(table()) if predicted(decode(found)) != results_of(found["answer"])]
    assert wrong == []


def test_we_find_an_allocation_wherever_in_tree_does_and_more() -> None:
    """In-tree may give what the API does not allow (`distinctAttribute` within a request) or what we refuse (binding
    conditions); every other allocation of its is one, and then we find one too."""
    more = 0
    for found in table():
        case = decode(found)
        ours = allocator_of(case.ledger()).allocate(case.ask).allocation
        theirs = allocator_of(case.ledger()).predict(case.ask)
        if not theirs:
            more += ours is not None
            continue
        if is_valid(case.reach, case.held, case.ask, theirs[0][0].claims, unready=case.unready):
            assert ours is not None
    assert more > 0


@pytest.mark.parametrize("policy", ["dovetail", "upstream"])
def test_predictions_are_scored_by_the_policy(policy: str) -> None:
    case = next(case for case in map(decode, table()) if allocator_of(case.ledger()).predict(case.ask))
    ledger = case.ledger()
    ledger.usage.arrays.nodes[0, CPU] = 0
    (_, score), *_ = allocator_of(ledger, policy).predict(case.ask)
    assert isinstance(score, int)
