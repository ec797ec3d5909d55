"""The nearest fit: every change is proved, none is missed that a plain search over the same kinds finds cheaper."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from packing.asks import Kind
from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    Devices,
    LinkWish,
    MigMode,
    Node,
    NodeName,
    PartitionRequest,
    Placement,
    Request,
    Selector,
    ShareRequest,
    Sharing,
    Snapshot,
    WholeRequest,
)
from packing.nearest import NEW_NODE, Change, nearest_fit
from packing.pack import pack
from packing.place import place
from packing.policy import make_policy
from packing.trial import alone
from packing.usage import Usage
from tests.packing.clusters import (
    A100,
    T4,
    World,
    clusters,
    demands,
    examples,
    flat_shape,
    histories,
    machine_shape,
    node,
)

EMPTY = DemandMix(())


def after(nodes: tuple[Node, ...], history: list[Demand | int]) -> World:
    world = World.of(nodes, EMPTY, "best-fit")
    for at, step in enumerate(history):
        if isinstance(step, int):
            world.evict(step)
        else:
            world.admit(f"c{at}", step)
    return world


def fits(world: World, usage: Usage, demand: Demand) -> bool:
    return place(world.fabric, usage, demand, world.policy).placement is not None


def carry_out(world: World, change: Change) -> None:
    """Make the change on a cluster of its own and apply its placement; InvalidInputError where it is not free."""
    usage, fabric = world.usage.copy(), world.fabric
    at = fabric.index.get(change.placement.node)
    claims = [claim for claim, held in usage.claims.items() if held.node == at]
    match change.kind:
        case Kind.FREE:
            freed = ClaimId(change.text.split()[2])
            usage.release(freed)
        case Kind.MIG_MODE:
            assert at is not None
            assert not claims
            now = fabric.nodes[at]
            mode = MigMode.ENABLED if "turn on " in change.text else MigMode.DISABLED
            assert mode is not now.mig_mode
            _, usage = alone(usage, replace(now, mig_mode=mode), ())
        case Kind.MEND:
            assert at is not None
            gpu = int(change.text.split()[2])
            assert gpu in fabric.nodes[at].unhealthy
            _, usage = alone(usage, replace(fabric.nodes[at], unhealthy=fabric.nodes[at].unhealthy - {gpu}), claims)
        case Kind.ADD_NODE:
            like = fabric.nodes[fabric.index[NodeName(change.text.split()[4])]]
            _, usage = alone(usage, replace(like, name=NEW_NODE, unhealthy=frozenset()), ())
    usage.apply(ClaimId("asked"), change.demand, change.placement)


@examples(120)
@given(clusters(), histories(), demands())
def test_every_change_is_possible_and_needed_and_the_question_leaves_nothing_behind(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    world = after(nodes, history)
    if fits(world, world.usage, demand):
        return
    before = [array.tobytes() for array in world.usage.arrays], dict(world.usage.claims), len(world.usage.classes)
    near = nearest_fit(world.fabric, world.usage, demand, world.policy)
    assert before == (
        [array.tobytes() for array in world.usage.arrays],
        dict(world.usage.claims),
        len(world.usage.classes),
    )
    assert not near.bounded
    assert [change.rank for change in near.changes] == sorted(change.rank for change in near.changes)
    assert len({change.kind for change in near.changes}) == len(near.changes)
    for change in near.changes:
        carry_out(world, change)
        assert (change.demand == demand) is (change.kind in (Kind.MIG_MODE, Kind.FREE, Kind.MEND, Kind.ADD_NODE))
    assert nearest_fit(world.fabric, world.usage, demand, world.policy) == near


@examples(120)
@given(clusters(), histories(), demands())
def test_no_cheaper_claim_and_no_smaller_cut_would_do(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    world = after(nodes, history)
    if fits(world, world.usage, demand):
        return
    near = nearest_fit(world.fabric, world.usage, demand, world.policy)
    by_kind = {change.kind: change for change in near.changes}
    freed = []
    for claim, held in world.usage.claims.items():
        usage = world.usage.copy()
        usage.release(claim)
        if fits(world, usage, demand):
            pod = world.usage.classes.demands[held.demand_class]
            freed.append((world.usage.taken_milli(claim), pod.cpu_milli, pod.memory_mib, claim))
    assert (Kind.FREE in by_kind) is bool(freed)
    if freed:
        assert by_kind[Kind.FREE].text.split()[2] == min(freed)[3]
    cuts = {
        Kind.CPU: [replace(demand, cpu_milli=cpu) for cpu in range(demand.cpu_milli - 250, 0, -250)],
        Kind.MEMORY: [replace(demand, memory_mib=mib) for mib in range(demand.memory_mib - 128, 0, -128)],
        Kind.COUNT: list(fewer(demand)),
    }
    for kind, tried in cuts.items():
        works = next((each for each in tried if fits(world, world.usage, each)), None)
        if works is not None:
            # The change asks for no less than the plain search on its grid.
            asked = by_kind[kind].demand
            assert (asked.cpu_milli, asked.memory_mib) >= (works.cpu_milli, works.memory_mib)
            assert gpus(asked) >= gpus(works)
        elif kind is Kind.COUNT:
            assert kind not in by_kind


def gpus(demand: Demand) -> int:
    return sum(request.count for request in demand.requests if isinstance(request, WholeRequest))


def fewer(demand: Demand) -> list[Demand]:
    """Every demand with fewer GPUs in one request, those that give up least first."""
    found = []
    for u, request in enumerate(demand.requests):
        if isinstance(request, WholeRequest):
            for count in range(request.count - 1, 0, -1):
                rest = (*demand.requests[:u], replace(request, count=count), *demand.requests[u + 1 :])
                found.append(replace(demand, requests=rest))
    return sorted(found, key=gpus, reverse=True)


def one(request: Request, **pod: int) -> Demand:
    return Demand(requests=(request,), **pod)


def on(name: str, *gpus: int, profile: str = "", start: int = -1) -> Placement:
    return Placement(node=NodeName(name), devices=(Devices(gpus=gpus, profile=profile, start=start),))


PAIRS = machine_shape("a100-8-pcie-nvlink-pairs")
TWO = flat_shape(A100, A100)
WHOLE = one(WholeRequest())


@pytest.mark.parametrize(
    ("nodes", "running", "demand", "text"),
    [
        pytest.param(
            (node("a", PAIRS),),
            [],
            one(WholeRequest(count=4, link=LinkWish.REQUIRE)),
            "prefer fast links instead of requiring them",
            id="a wish costs nothing",
        ),
        pytest.param(
            (node("a", PAIRS),),
            [],
            one(WholeRequest(count=2, link=LinkWish.REQUIRE, min_gbps=600)),
            "ask for 300 GB/s instead of 600",
            id="the best quality there is, before giving up the requirement",
        ),
        pytest.param(
            (node("a", flat_shape(A100)),),
            [(one(ShareRequest(compute_milli=200, sharing=Sharing.MPS)), on("a", 0))],
            one(ShareRequest(compute_milli=500)),
            "share by mps instead of time-slicing",
            id="the other way of sharing",
        ),
        pytest.param(
            (node("a", TWO, mig_mode=MigMode.ENABLED),),
            [],
            WHOLE,
            "turn off MIG mode of idle node a",
            id="MIG mode off",
        ),
        pytest.param(
            (node("a", TWO),),
            [],
            one(PartitionRequest(profile="2g.10gb")),
            "turn on MIG mode of idle node a",
            id="MIG mode on",
        ),
        pytest.param(
            (node("a", TWO, cpu_milli=8000), node("b", TWO, cpu_milli=9000)),
            [(one(WholeRequest(count=2)), on("b", 0, 1))],
            one(WholeRequest(), cpu_milli=12_000),
            "ask for 8 cores instead of 12",
            id="exactly what the best node with GPUs has",
        ),
        pytest.param(
            (node("a", flat_shape(A100), mig_mode=MigMode.DYNAMIC),),
            [(one(PartitionRequest(profile="3g.20gb")), on("a", 0, profile="3g.20gb", start=4))],
            one(PartitionRequest(profile="7g.40gb")),
            "ask for 3g.20gb instead of 7g.40gb",
            id="the largest profile that fits costs half a GPU, like the claim, and takes it from nobody else",
        ),
        pytest.param(
            (node("a", flat_shape(T4)),),
            [(one(ShareRequest(compute_milli=100)), on("a", 0))],
            one(ShareRequest(compute_milli=950)),
            "ask for 90 % of a GPU instead of 95 %",
            id="a little less compute is less than a claim",
        ),
        pytest.param(
            (node("a", flat_shape(T4)),),
            [(one(ShareRequest(compute_milli=100)), on("a", 0))],
            WHOLE,
            "free claim c0 on a (0.1 GPU)",
            id="the claim that gives back least",
        ),
        pytest.param(
            (node("a", flat_shape(T4), unhealthy=frozenset({0})),),
            [],
            WHOLE,
            "mend GPU 0 of a",
            id="mending is nearer than a new node",
        ),
        pytest.param(
            (node("a", flat_shape(T4)), node("big", flat_shape(T4, T4))),
            [(WHOLE, on("a", 0)), (one(WholeRequest(count=2)), on("big", 0, 1))],
            one(WholeRequest()),
            "free claim c0 on a (1 GPU)",
            id="a claim as large as a new node's GPUs but smaller beside them",
        ),
    ],
)
def test_what_is_nearest(
    nodes: tuple[Node, ...], running: list[tuple[Demand, Placement]], demand: Demand, text: str
) -> None:
    held = tuple((ClaimId(f"c{at}"), asked, placement) for at, (asked, placement) in enumerate(running))
    fabric, usage = pack(Snapshot(nodes=nodes, running=held))
    near = nearest_fit(fabric, usage, demand, make_policy("dovetail", EMPTY, fabric))
    assert near.change is not None
    assert near.change.text == text


def test_kept_claims_are_never_freed_and_a_node_is_added_instead() -> None:
    fabric, usage = pack(Snapshot(nodes=(node("a", flat_shape(T4)),), running=((ClaimId("mine"), WHOLE, on("a", 0)),)))
    policy = make_policy("dovetail", EMPTY, fabric)
    near = nearest_fit(fabric, usage, WHOLE, policy, keep=[ClaimId("mine")])
    assert [(change.kind, change.text) for change in near.changes] == [(Kind.ADD_NODE, "add a node like a (1 GPU)")]


def test_nothing_is_proposed_where_no_single_change_helps() -> None:
    fabric, usage = pack(Snapshot(nodes=(node("a", flat_shape(T4)),)))
    demand = Demand(cpu_milli=10**9, memory_mib=10**9, requests=(WholeRequest(),))
    assert nearest_fit(fabric, usage, demand, make_policy("dovetail", EMPTY, fabric)).change is None


def test_the_bound_is_reported() -> None:
    nodes = tuple(node(f"n{at}", TWO) for at in range(9))
    running = tuple((ClaimId(f"c{at}-{gpu}"), WHOLE, on(f"n{at}", gpu)) for at in range(9) for gpu in (0, 1))
    fabric, usage = pack(Snapshot(nodes=nodes, running=running))
    policy = make_policy("dovetail", EMPTY, fabric)
    demand = one(WholeRequest(count=2))
    short = nearest_fit(fabric, usage, demand, policy, max_tries=5)
    assert (short.tries, short.bounded) == (5, True)
    whole = nearest_fit(fabric, usage, demand, policy)
    # One smaller count, one new node, and each of the 18 claims.
    assert (whole.tries, whole.bounded) == (20, False)


def test_many_broken_gpus_hide_neither_a_claim_nor_a_new_node() -> None:
    """Only so many changed nodes are tried; where mending never helps that must not use up the question."""
    pair = flat_shape(T4, T4)
    cut = tuple(node(f"n{at:03}", pair, unhealthy=frozenset({0}), mig_mode=MigMode.DYNAMIC) for at in range(60))
    full = (node("zz", pair),)
    running = [(ClaimId(f"c{at:03}"), WHOLE, on(f"n{at:03}", 1)) for at in range(60)]
    running.append((ClaimId("both"), one(WholeRequest(count=2)), on("zz", 0, 1)))
    fabric, usage = pack(Snapshot(nodes=(*cut, *full), running=tuple(running)))
    policy = make_policy("dovetail", EMPTY, fabric)
    near = nearest_fit(fabric, usage, one(WholeRequest(count=2)), policy)
    assert [change.kind for change in near.changes] == [Kind.FREE, Kind.ADD_NODE]
    assert near.changes[0].text == "free claim both on zz (2 GPUs)"
    assert not near.bounded


def test_the_bound_on_changed_nodes_hides_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken T4s are of no use to a share of an A100; the smallest claims are not enough either."""
    monkeypatch.setattr("packing.nearest.MAX_NODES", 3)
    nodes = tuple(node(f"n{at}", flat_shape(T4, A100), unhealthy=frozenset({0}), cpu_milli=1000) for at in range(6))
    running = []
    for at in range(6):
        running.append((ClaimId(f"small{at}"), one(ShareRequest(compute_milli=10)), on(f"n{at}", 1)))
        running.append((ClaimId(f"large{at}"), one(ShareRequest(compute_milli=600)), on(f"n{at}", 1)))
    fabric, usage = pack(Snapshot(nodes=nodes, running=tuple(running)))
    demand = one(ShareRequest(compute_milli=500, selector=Selector(products=("A100",))))
    near = nearest_fit(fabric, usage, demand, make_policy("dovetail", EMPTY, fabric))
    assert near.bounded
    texts = {change.kind: change.text for change in near.changes}
    assert texts[Kind.FREE] == "free claim large0 on n0 (0.6 GPU)"
    assert Kind.ADD_NODE in texts
