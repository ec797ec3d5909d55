"""How many fit: as many as `place()` and apply find one after the other, and the next one is refused."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from packing.capacity import count_fits
from packing.mix import DemandMix
from packing.model import ClaimId, Demand, Node, ShareRequest, Snapshot, WholeRequest
from packing.pack import pack
from packing.place import place
from packing.policy import make_policy
from packing.usage import Usage
from tests.packing.clusters import A100, World, clusters, demands, examples, flat_shape, histories, node

EMPTY = DemandMix(())


def picture(usage: Usage) -> tuple[list[bytes], dict[ClaimId, object], list[Demand]]:
    """Everything a question could leave behind, node versions included."""
    return [array.tobytes() for array in usage.arrays], dict(usage.claims), list(usage.classes.demands)


def after(nodes: tuple[Node, ...], history: list[Demand | int]) -> World:
    world = World.of(nodes, EMPTY, "best-fit")
    for at, step in enumerate(history):
        if isinstance(step, int):
            world.evict(step)
        else:
            world.admit(f"c{at}", step)
    return world


@examples(60)
@given(clusters(), histories(6), demands(), st.integers(0, 30))
def test_the_count_is_what_placing_one_by_one_finds(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand, limit: int
) -> None:
    world = after(nodes, history)
    before = picture(world.usage)
    found = count_fits(world.fabric, world.usage, demand, world.policy, limit=limit)
    assert picture(world.usage) == before
    assert sum(found.per_node.values()) == len(found.placements) <= limit
    for at, placement in enumerate(found.placements):
        assert world.admit(f"more{at}", demand) == placement
    if found.refusal is None:
        assert len(found.placements) == limit
    else:
        assert found.refusal.fitting == 0
        assert sum(reason.nodes for reason in found.refusal.reasons()) == len(nodes)
        assert place(world.fabric, world.usage, demand, world.policy).placement is None
    assert [array.tobytes() for array in found.after.arrays[:3]] == [a.tobytes() for a in world.usage.arrays[:3]]


def test_four_gpus_hold_four_wholes_or_twelve_shares_of_three_tenths() -> None:
    fabric, usage = pack(Snapshot(nodes=(node("b", flat_shape(A100, A100)), node("a", flat_shape(A100, A100)))))
    policy = make_policy("first-fit", EMPTY, fabric)
    whole = count_fits(fabric, usage, Demand(requests=(WholeRequest(),)), policy)
    assert dict(Counter(placement.node for placement in whole.placements)) == {"a": 2, "b": 2}
    assert list(whole.per_node) == ["a", "b"]
    shares = count_fits(fabric, usage, Demand(requests=(ShareRequest(compute_milli=300),)), policy)
    assert len(shares.placements) == 12
    assert shares.refusal is not None
    assert shares.refusal.line() == "0/2 nodes: 2 no GPU with 30 % left (most 10 %)"
