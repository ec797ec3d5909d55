"""If any allocation exists one is found, and what is found is one: against every way to allocate, tried plainly."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from packing.dra.reference import allocations, is_valid
from tests.packing.clusters import FACTOR
from tests.packing.dra.builders import allocator_of
from tests.packing.dra.small import Case, cases


def alternatives(case: Case, claims) -> list[int]:
    """Which alternative of each request was taken."""
    chosen = []
    for claim, givens in zip(case.ask.claims, claims, strict=True):
        taken = {given.request for given in givens}
        chosen += [
            next(at for at, sub in enumerate(request.alternatives) if sub.name in taken) for request in claim.requests
        ]
    return chosen


@settings(max_examples=3000 * FACTOR, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(case=cases(odd=True))
def test_an_allocation_is_found_if_and_only_if_one_exists(case: Case) -> None:
    """The first alternatives that can be served are, and what is given is valid."""
    expected = next(allocations(case.reach, case.held, case.ask, unready=case.unready), None)
    outcome = allocator_of(case.ledger()).allocate(case.ask)
    assert not outcome.undecided
    if expected is None:
        assert outcome.allocation is None
        return
    assert outcome.allocation is not None
    found = [list(results) for results in outcome.allocation.claims]
    assert is_valid(case.reach, case.held, case.ask, found, unready=case.unready)
    assert alternatives(case, found) == alternatives(case, expected)
