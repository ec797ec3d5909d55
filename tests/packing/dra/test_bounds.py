"""A decision ends after steps that neither nodes nor alternatives multiply, and says when that cut it short."""

from __future__ import annotations

from itertools import islice, product

from hypothesis import given
from hypothesis import strategies as st

from packing.dra.model import MAX_RESULTS, SubRequest
from packing.dra.translate import combinations
from tests.packing.clusters import examples
from tests.packing.dra.builders import GPUS, ask, claim, first_available

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
