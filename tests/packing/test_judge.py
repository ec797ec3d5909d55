"""`judge` scores a given choice as `place()` scores its own, and `place(among)` is `place()` on those nodes alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.judge import UNFIT, judge
from packing.kernels.arrays import UNDECIDED
from packing.memory import memory_of
from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    Devices,
    LinkWish,
    MigMode,
    NodeName,
    PartitionRequest,
    Placement,
    ShapeSelector,
    ShareRequest,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.usage import Held, Usage
from tests.packing.clusters import A100, T4, World, clusters, demands, examples, flat_shape, machine_shape, mixes, node


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a cluster that some pods have come to and left, under any policy."""
    world = World.of(draw(clusters()), draw(mixes()), draw(st.sampled_from(POLICIES)))
    for at, demand in enumerate(draw(st.lists(demands(), max_size=6))):
        world.admit(f"pod-{at}", demand)
    if draw(st.booleans()):
        world.evict(draw(st.integers(0, 9)))
    return world


def held_by(usage: Usage, demand: Demand, placement: Placement) -> Held:
    """What `place()` decided, as indices."""
    twin = usage.copy()
    twin.apply(ClaimId("judged"), demand, placement)
    return twin.claims[ClaimId("judged")]


@examples(150)
@given(world=worlds(), demand=demands())
def test_a_choice_of_place_is_judged_at_its_score(world: World, demand: Demand) -> None:
    chosen = world.policy
    decision = place(world.fabric, world.usage, demand, chosen)
    if decision.placement is None:
        return
    held = held_by(world.usage, demand, decision.placement)
    assert judge(world.fabric, world.usage, chosen, [held, held]).tolist() == [decision.score] * 2


@examples(150)
@given(world=worlds(), demand=demands(), data=st.data())
def test_place_among_some_nodes_takes_the_best_of_these(world: World, demand: Demand, data) -> None:
    nodes = len(world.fabric.nodes)
    among = np.array(data.draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes)), dtype=np.bool_)
    chosen, policy = world.policy, world.policy.name
    decision = place(world.fabric, world.usage, demand, chosen, among)
    memory = memory_of(world.usage, chosen)
    scores = memory.cache.scores[memory.row(world.usage.classes.index(demand)), :nodes][among]
    if decision.placement is None:
        assert (scores <= UNDECIDED).all()
        assert decision.undecided == bool((scores == UNDECIDED).any())
        return
    assert among[world.fabric.index[decision.placement.node]]
    if policy != "random":
        at = np.flatnonzero(among)[int(scores.argmax())]
        assert world.fabric.nodes[at].name == decision.placement.node
        assert decision.score == scores.max()
    everywhere = place(world.fabric, world.usage, demand, chosen)
    assert everywhere.placement is not None
    if policy != "random" and among[world.fabric.index[everywhere.placement.node]]:
        assert decision == everywhere


def judged(nodes, demand: Demand, *devices: Devices, policy: str = "dovetail", running=()) -> int:
    fabric, usage = pack(Snapshot(nodes=nodes, running=running))
    bound = make_policy(policy, DemandMix(()), fabric)
    c = usage.classes.index(demand)
    masks = tuple(sum(1 << gpu for gpu in one.gpus) for one in devices)
    shape = nodes[0].shape
    profiles = tuple(-1 if not one.profile else shape.gpus[one.gpus[0]].mig.index(one.profile) for one in devices)
    held = Held(c, 0, masks, profiles, tuple(one.start for one in devices))
    return int(judge(fabric, usage, bound, [held])[0])


def test_nvlink_pairs_are_judged_above_others() -> None:
    nodes = (node("a", machine_shape("azure-nc96ads-a100-v4")),)
    pair = Demand(requests=(WholeRequest(count=2),))
    fabric, usage = pack(Snapshot(nodes=nodes))
    best = place(fabric, usage, pair, make_policy("dovetail", DemandMix(()), fabric))
    good = judged(nodes, pair, *best.placement.devices)
    others = [judged(nodes, pair, Devices(gpus=(0, other))) for other in range(1, 4)]
    assert max(others) == good
    assert sorted(others)[:2] == [min(others)] * 2 < [good] * 2


@pytest.mark.parametrize(
    ("demand", "devices"),
    [
        (Demand(requests=(WholeRequest(),)), (Devices(gpus=(0,)),)),
        (Demand(requests=(PartitionRequest(profile="1g.5gb"),)), (Devices(gpus=(0,), profile="1g.5gb", start=0),)),
        (Demand(requests=(ShareRequest(compute_milli=1),)), (Devices(gpus=(0,)),)),
        (Demand(requests=(WholeRequest(count=2, link=LinkWish.REQUIRE),)), (Devices(gpus=(1, 2)),)),
        (Demand(requests=(WholeRequest(), WholeRequest())), (Devices(gpus=(1,)), Devices(gpus=(1,)))),
        (Demand(cpu_milli=10**9), ()),
        (
            Demand(requests=(PartitionRequest(profile="3g.20gb"),)),
            (Devices(gpus=(1,), profile="3g.20gb", start=2),),
        ),
    ],
    ids=["taken", "taken for a partition", "taken for a share", "not linked", "twice", "no cores", "no such start"],
)
def test_devices_that_cannot_be_given_are_unfit(demand: Demand, devices: tuple[Devices, ...]) -> None:
    nodes = (node("a", flat_shape(A100, A100, A100), mig_mode=MigMode.DYNAMIC),)
    holder = (
        ClaimId("holder"),
        Demand(requests=(WholeRequest(),)),
        Placement(node=NodeName("a"), devices=(Devices(gpus=(0,)),)),
    )
    assert judged(nodes, demand, *devices, running=(holder,)) == UNFIT


def test_a_shape_selector_admits_gpus_by_position_and_profiles_by_geometry() -> None:
    nodes = (node("a", flat_shape(A100, T4, A100), mig_mode=MigMode.DYNAMIC), node("b", flat_shape(T4)))
    fabric, usage = pack(Snapshot(nodes=nodes))
    policy = make_policy("dovetail", DemandMix(()), fabric)

    def chosen(request) -> Devices:
        placement = place(fabric, usage, Demand(requests=(request,)), policy).placement
        assert placement is not None
        assert placement.node == "a"
        return placement.devices[0]

    assert chosen(WholeRequest(selector=ShapeSelector(gpus=(0b100, 0)))).gpus == (2,)
    assert chosen(ShareRequest(compute_milli=500, selector=ShapeSelector(gpus=(0b010, 0)))).gpus == (1,)
    third = A100.mig.index("3g.20gb")
    selector = ShapeSelector(gpus=(0b100, 0), profiles=(1 << third,))
    devices = chosen(PartitionRequest(profile="3g.20gb", selector=selector))
    assert (devices.gpus, devices.profile) == ((2,), "3g.20gb")
