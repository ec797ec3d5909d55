"""A decision ends after steps that neither nodes nor alternatives multiply, and says when that cut it short."""

from __future__ import annotations

from itertools import islice, product

from hypothesis import given
from hypothesis import strategies as st

from packing.dra.allocate import Allocator
from packing.dra.ledger import Ledger
from packing.dra.model import MAX_RESULTS, Constraint, SubRequest
from packing.dra.search import Effort
from packing.dra.translate import combinations
from tests.packing.clusters import examples
from tests.packing.dra.builders import (
    GPUS,
    NICS,
    Machine,
    allocator_of,
    ask,
    claim,
    exactly,
    first_available,
    inventory_of,
    nic_pool,
)

COUNTS = st.lists(st.lists(st.integers(0, 17), min_size=1, max_size=3), min_size=1, max_size=4)
"""Of a claim: per request the counts of its alternatives; 0 stands for all devices."""


def request(at: int, counts: list[int]):
    subs = {
        f"s{a}": SubRequest(name=f"r{at}/s{a}", selection=GPUS, count=count, all_devices=not count)
        for a, count in enumerate(counts)
    }
    return first_available(f"r{at}", **subs)


@examples(300)
@given(asked=st.lists(COUNTS, min_size=1, max_size=2))
def test_choices_of_alternatives_are_all_that_a_claim_has_room_for_in_order(asked) -> None:
    """Against the product of all alternatives, those of more devices than a claim may have left out."""
    ours = ask(*(claim(*(request(at, counts) for at, counts in enumerate(each))) for each in asked))
    requests = [request for each in ours.claims for request in each.requests]
    expected = []
    for chosen in product(*(each.alternatives for each in requests)):
        left = iter(chosen)
        claims = [tuple(islice(left, len(each.requests))) for each in ours.claims]
        if all(sum(0 if sub.all_devices else sub.count for sub in subs) <= MAX_RESULTS for subs in claims):
            expected.append(tuple(claims))
    assert list(combinations(ours)) == expected


def test_choices_of_too_many_devices_are_not_gone_through() -> None:
    """Found in review: 32 requests of one device or, in seven other ways, of two, were tried 8^32 times over."""
    asked = ask(*(request(at, [1, *[2] * 7]) for at in range(32)))
    (found,) = combinations(asked)
    assert [sub.count for sub in found[0]] == [1] * 32


def test_a_claim_that_is_too_large_in_every_way_ends_the_others() -> None:
    asked = ask(claim(*(request(at, [1] * 8) for at in range(30))), claim(request(0, [33])))
    assert list(combinations(asked)) == []


def cards(nodes: int, *, different: bool = True) -> Allocator:
    """Nodes of eight cards at four roots, each node in use in another way."""
    roots = [f"root-{at % 4}" for at in range(8)]
    return allocator_of(
        Ledger(
            inventory_of(
                *(Machine(f"n{n}", beside=(nic_pool(*roots),), cpu_milli=1000 + n * different) for n in range(nodes))
            )
        )
    )


def pairs():
    """Two requests of two cards at one root each; the search has to try."""
    one = Constraint(attribute="resource.kubernetes.io/pcieRoot", requests=frozenset({"a"}))
    other = Constraint(attribute="resource.kubernetes.io/pcieRoot", requests=frozenset({"b"}))
    return ask(claim(exactly(NICS, 2, name="a"), exactly(NICS, 2, name="b"), constraints=[one, other]), signature="p")


def test_a_decision_that_runs_out_of_steps_says_so_and_goes_on_when_asked_again() -> None:
    """Found in review: the bound was one per node and combination, so that a decision had none."""
    ours, efforts = cards(6), []
    for _ in range(10):
        effort = Effort(20)
        found = ours.allocate(pairs(), effort=effort)
        efforts.append(20 - effort.find.left)
        if not found.unfinished and not found.undecided:
            break
    assert max(efforts) <= 20
    full = cards(6).allocate(pairs())
    assert full.allocation is not None
    assert found.allocation is not None
    assert found.score == full.score


def test_nothing_found_for_want_of_steps_is_undecided() -> None:
    found = cards(2).allocate(pairs(), effort=Effort(1))
    assert (found.allocation, found.undecided, found.unfinished) == (None, True, True)


def test_choices_share_the_steps_of_one_decision() -> None:
    """Three requests of three ways each, of which none fits: each try goes on, and the end is proof."""
    root = Constraint(attribute="resource.kubernetes.io/pcieRoot")
    ours, unfinished = cards(1), 0
    asked = ask(claim(*(request(at, [9] * 3) for at in range(3)), constraints=[root]), signature="c")
    for _ in range(20):
        found = ours.allocate(asked, effort=Effort(500))
        assert found.allocation is None
        assert found.undecided == found.unfinished
        if not found.unfinished:
            break
        unfinished += 1
    assert unfinished > 0
    assert not found.undecided


def test_more_devices_than_distinct_values_are_not_searched_for() -> None:
    """Found in review: five of eight cards at four different roots were looked for in every way."""
    distinct = Constraint(attribute="resource.kubernetes.io/pcieRoot", distinct=True)
    for count, fits in ((4, True), (5, False)):
        effort = Effort(100)
        asked = ask(claim(exactly(NICS, count), constraints=[distinct]))
        found = cards(1).allocate(asked, effort=effort)
        assert (found.allocation is not None, found.undecided) == (fits, False)
        assert fits or effort.find.left == 100
    matching = Constraint(attribute="resource.kubernetes.io/pcieRoot")
    effort = Effort(100)
    asked = ask(claim(exactly(NICS, 3), constraints=[matching]))
    assert not cards(1).allocate(asked, effort=effort).undecided
    assert effort.find.left == 100
