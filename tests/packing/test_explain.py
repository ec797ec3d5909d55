"""Reasons against `place()` itself: a node that is said to fit does, and one that refuses lacks what is named."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.explain import Explanation, cores, explain, explain_gpu, gib, reasons_line
from packing.kernels import explain as codes
from packing.kernels.explain import PROFILE_BITS
from packing.mix import DemandMix
from packing.model import (
    ANY_GPU,
    ClaimId,
    Demand,
    Devices,
    LinkWish,
    MigMode,
    Node,
    NodeName,
    PartitionRequest,
    Placement,
    Reason,
    Request,
    ShareRequest,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.trial import alone
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


def world_after(nodes: tuple[Node, ...], history: list[Demand | int], policy: str = "dovetail") -> World:
    world = World.of(nodes, EMPTY, policy)
    for at, step in enumerate(history):
        if isinstance(step, int):
            world.evict(step)
        else:
            world.admit(f"c{at}", step)
    return world


def on_node(world: World, n: int, changed: Node, demand: Demand) -> tuple[Explanation, bool]:
    """Explain a demand on one node taken alone and perhaps changed, and whether `place()` finds room there."""
    claims = [claim for claim, held in world.usage.claims.items() if held.node == n]
    fabric, usage = alone(world.usage, changed, claims)
    policy = make_policy("first-fit", EMPTY, fabric)
    found = explain(fabric, usage, demand, policy)
    return found, place(fabric, usage, demand, policy).placement is not None


@examples(150)
@given(clusters(), histories(), demands(), st.sampled_from(POLICIES))
def test_a_node_fits_exactly_where_place_restricted_to_it_finds_room(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand, policy: str
) -> None:
    world = world_after(nodes, history, policy)
    found = explain(world.fabric, world.usage, demand, world.policy)
    for n, each in enumerate(world.fabric.nodes):
        alone_found, placed = on_node(world, n, each, demand)
        assert found.fits(n) is placed, found.text(n)
        assert alone_found.rows[0].tolist() == found.rows[n].tolist()
        assert (found.text(n) == "") is placed
    assert (found.fitting > 0) is (place(world.fabric, world.usage, demand, world.policy).placement is not None)


@examples(100)
@given(clusters(), histories(), demands())
def test_counts_add_up_to_the_nodes_that_refuse_and_the_question_changes_nothing(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    world = world_after(nodes, history)
    before = [array.tobytes() for array in world.usage.arrays]
    found = explain(world.fabric, world.usage, demand, world.policy)
    reasons = found.reasons()
    assert sum(reason.nodes for reason in reasons) == len(nodes) - found.fitting
    assert list(reasons) == sorted(reasons, key=lambda reason: (-reason.nodes, reason.text))
    assert len({reason.text for reason in reasons}) == len(reasons)
    assert all(reason.text for reason in reasons)
    assert len(found.line().encode()) <= 1024
    assert [array.tobytes() for array in world.usage.arrays] == before


def without_constraint(world: World, n: int, demand: Demand, code: int, unit: int, detail: int) -> tuple[Node, Demand]:
    """Remove exactly the named constraint: the demand asks for what the node has, or the node is what it lacks."""
    node_now = world.fabric.nodes[n]
    if code == codes.FITS:
        return node_now, demand
    if code in (codes.SMALL_CPU, codes.NO_CPU):
        return node_now, replace(demand, cpu_milli=detail)
    if code in (codes.SMALL_MEMORY, codes.NO_MEMORY):
        return node_now, replace(demand, memory_mib=detail)
    request = demand.requests[unit]
    changed: Request = request
    match code:
        case codes.NOT_SELECTED:
            changed = replace(request, selector=ANY_GPU)
        case codes.UNHEALTHY:
            return replace(node_now, unhealthy=frozenset()), demand
        case codes.MIG_ON | codes.MIG_OFF:
            return replace(node_now, mig_mode=MigMode.DYNAMIC), demand
    if isinstance(request, WholeRequest):
        if code in (codes.SMALL_COUNT, codes.BUSY) and detail:
            changed = replace(request, count=detail, link=LinkWish.NONE, min_gbps=0)
        elif code in (codes.NEVER_LINKED, codes.NOT_LINKED):
            changed = replace(request, link=LinkWish.PREFER, min_gbps=0)
    elif isinstance(request, ShareRequest):
        if code == codes.SHARE_COMPUTE:
            changed = replace(request, compute_milli=detail) if detail or request.memory_mib else request
        elif code in (codes.SHARE_MEMORY, codes.SMALL_GPU_MEMORY):
            changed = replace(request, memory_mib=detail) if detail or request.compute_milli else request
    elif code == codes.PARTITION_ROOM and detail:
        geometry = world.fabric.geometries[detail >> PROFILE_BITS & (1 << PROFILE_BITS) - 1]
        profile = geometry.profiles[(1 << PROFILE_BITS) - 1 - (detail & (1 << PROFILE_BITS) - 1)]
        changed = PartitionRequest(profile=profile.name, selector=request.selector)
    requests = (*demand.requests[:unit], changed, *demand.requests[unit + 1 :])
    return node_now, replace(demand, requests=requests)


@examples(250)
@given(clusters(), histories(), demands())
def test_removing_the_named_constraint_leads_to_a_later_one_or_to_a_fit(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    """Each request on its own, so that another one with the same constraint does not stay behind."""
    world = world_after(nodes, history)
    for request in demand.requests or (None,):
        single = replace(demand, requests=(request,) if request else ())
        found = explain(world.fabric, world.usage, single, world.policy)
        for n in range(len(nodes)):
            code, unit, detail = found.rows[n].tolist()
            changed, less = without_constraint(world, n, single, code, unit, detail)
            if (changed, less) == (world.fabric.nodes[n], single):
                continue
            after, _ = on_node(world, n, changed, less)
            later = int(after.rows[0, 0])
            assert later == codes.FITS or later > code, (found.text(n), after.text(0))


@examples(250)
@given(clusters(), histories(), demands())
def test_the_detail_is_the_most_that_the_node_has(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    """One more than the detail is refused for the same reason."""
    world = world_after(nodes, history)
    for request in demand.requests:
        single = Demand(requests=(request,))
        found = explain(world.fabric, world.usage, single, world.policy)
        for n in range(len(nodes)):
            code, _, detail = found.rows[n].tolist()
            more: Request | None = None
            if isinstance(request, ShareRequest) and code == codes.SHARE_COMPUTE:
                more = replace(request, compute_milli=detail + 1)
            elif isinstance(request, ShareRequest) and code == codes.SHARE_MEMORY:
                more = replace(request, memory_mib=detail + 1)
            elif isinstance(request, WholeRequest) and code == codes.BUSY:
                more = replace(request, count=detail + 1, link=LinkWish.NONE, min_gbps=0)
            elif isinstance(request, WholeRequest) and code == codes.NOT_LINKED and request.min_gbps:
                more = replace(request, min_gbps=(detail + 1) / 1000)
            if more is not None:
                again = explain(world.fabric, world.usage, Demand(requests=(more,)), world.policy)
                assert again.rows[n].tolist() == [code, 0, detail]


def held(*gpus: int, profile: str = "", start: int = -1) -> Devices:
    return Devices(gpus=gpus, profile=profile, start=start)


def one(request: Request, **pod: int) -> Demand:
    return Demand(requests=(request,), **pod)


DGX1 = machine_shape("dgx1-v100")
PAIR = flat_shape(A100, A100)
W4 = WholeRequest(count=4, link=LinkWish.REQUIRE)


@pytest.mark.parametrize(
    ("nodes", "running", "demand", "line"),
    [
        pytest.param(
            (node("a", DGX1), node("b", DGX1)),
            [(one(WholeRequest(count=3)), "a", [held(0, 1, 2)]), (one(WholeRequest(count=6)), "b", [held(*range(6))])],
            one(WholeRequest(count=4)),
            "1/2 nodes: 1 fewer than 4 GPUs free (most 2)",
            id="free GPUs are counted",
        ),
        pytest.param(
            (node("a", PAIR, mig_mode=MigMode.ENABLED), node("b", PAIR), node("c", PAIR, cpu_milli=1000)),
            [(one(WholeRequest(), cpu_milli=63_000), "b", [held(0)])],
            one(WholeRequest(), cpu_milli=2000),
            "0/3 nodes: 1 MIG mode on, 1 not enough CPU (most 1 core), 1 too small for 2 cores (largest 1 core)",
            id="what nothing on the node can change comes before what is full",
        ),
        pytest.param(
            (node("a", PAIR, mig_mode=MigMode.DYNAMIC),),
            [
                (one(PartitionRequest(profile="3g.20gb")), "a", [held(0, profile="3g.20gb", start=0)]),
                (one(WholeRequest()), "a", [held(1)]),
            ],
            one(PartitionRequest(profile="7g.40gb")),
            "0/1 nodes: 1 no room for 7g.40gb (largest 3g.20gb)",
            id="the largest profile that still fits is named",
        ),
        pytest.param(
            (node("a", flat_shape(A100), mig_mode=MigMode.DYNAMIC),),
            [(one(PartitionRequest(profile="1g.5gb+me")), "a", [held(0, profile="1g.5gb+me", start=0)])],
            one(PartitionRequest(profile="1g.5gb+me")),
            "0/1 nodes: 1 engines of 1g.5gb+me taken",
            id="an exclusive profile is taken",
        ),
        pytest.param(
            (node("a", flat_shape(A100)),),
            [],
            Demand(requests=(ShareRequest(compute_milli=600), ShareRequest(compute_milli=600))),
            "0/1 nodes: 1 requests fit one by one but not together",
            id="requests that fit alone only",
        ),
        pytest.param(
            (node("a", flat_shape(A100)),),
            [(one(ShareRequest(compute_milli=600, memory_mib=1024)), "a", [held(0)])],
            one(ShareRequest(compute_milli=500)),
            "0/1 nodes: 1 no GPU with 50 % left (most 40 %)",
            id="compute of a share",
        ),
        pytest.param(
            (node("a", PAIR), node("b", flat_shape())),
            [],
            one(PartitionRequest(profile="1g.5gb")),
            "0/2 nodes: 1 MIG mode off, 1 no GPU",
            id="MIG mode off",
        ),
    ],
)
def test_lines_as_people_read_them(
    nodes: tuple[Node, ...], running: list[tuple[Demand, str, list[Devices]]], demand: Demand, line: str
) -> None:
    claims = tuple(
        (ClaimId(f"c{at}"), asked, Placement(node=NodeName(name), devices=tuple(devices)))
        for at, (asked, name, devices) in enumerate(running)
    )
    fabric, usage = pack(Snapshot(nodes=nodes, running=claims))
    assert explain(fabric, usage, demand, make_policy("dovetail", EMPTY, fabric)).line() == line


def test_an_island_that_was_cut_is_told_from_one_that_never_was() -> None:
    """NVLink bridges join GPUs 0 1, 2 3, ...: with one of each pair taken no pair is left; four never were joined."""
    pairs = machine_shape("a100-8-pcie-nvlink-pairs")
    fabric, usage = pack(Snapshot(nodes=(node("a", pairs),)))
    policy = make_policy("dovetail", EMPTY, fabric)
    joined = [mask for mask in range(256) if mask.bit_count() == 2 and pairs.links.nvlink[mask]]
    lower = tuple(sorted((mask & -mask).bit_length() - 1 for mask in joined))
    assert len(lower) == 4
    usage.apply(ClaimId("c"), one(WholeRequest(count=4)), Placement(node=NodeName("a"), devices=(held(*lower),)))
    two = explain(fabric, usage, one(WholeRequest(count=2, link=LinkWish.REQUIRE)), policy)
    assert two.reasons() == (Reason(text="no 2-GPU NVLink island (largest 1)", nodes=1),)
    four = explain(fabric, usage, one(W4), policy)
    assert four.reasons() == (Reason(text="machine without 4-GPU NVLink island (largest 2)", nodes=1),)


def test_a_long_list_of_reasons_is_cut_at_one_kilobyte_and_still_counted() -> None:
    nodes = tuple(node(f"n{at}", flat_shape(*[A100] * (at % 4 + 1))) for at in range(8))
    fabric, usage = pack(Snapshot(nodes=nodes))
    requests = tuple(PartitionRequest(profile=f"{at}" * 900) for at in range(3))
    found = explain(fabric, usage, Demand(requests=requests), make_policy("dovetail", EMPTY, fabric))
    assert len(found.line().encode()) <= 1024
    many = tuple(Reason(text="x" * 90, nodes=1) for _ in range(20))
    line = reasons_line(0, 20, many)
    assert len(line.encode()) <= 1024
    assert line.endswith(f"{20 - line.count('x' * 90)} for other reasons")


@examples(60)
@given(clusters(), histories(), demands())
def test_the_verdict_on_one_gpu_is_that_of_a_node_with_that_gpu_alone(
    nodes: tuple[Node, ...], history: list[Demand | int], demand: Demand
) -> None:
    """A single request without links fits on the node exactly if some GPU has nothing against it."""
    world = world_after(nodes, history)
    for request in demand.requests:
        plain = WholeRequest(selector=request.selector) if isinstance(request, WholeRequest) else request
        found = explain(world.fabric, world.usage, Demand(requests=(plain,)), world.policy)
        for n, each in enumerate(world.fabric.nodes):
            verdicts = [explain_gpu(world.fabric, world.usage, plain, n, g) for g in range(len(each.shape.gpus))]
            assert found.fits(n) is ("" in verdicts)


def test_a_small_gpu_counts_for_the_most_memory_that_is_left() -> None:
    """The T4 is too small for 20 GiB, but has more left than the A100 that would be large enough."""
    fabric, usage = pack(Snapshot(nodes=(node("a", flat_shape(A100, T4)),)))
    taken = one(ShareRequest(compute_milli=100, memory_mib=30_000))
    usage.apply(ClaimId("c"), taken, Placement(node=NodeName("a"), devices=(held(0),)))
    policy = make_policy("dovetail", EMPTY, fabric)
    found = explain(fabric, usage, one(ShareRequest(compute_milli=100, memory_mib=20_480)), policy)
    assert found.line() == "0/1 nodes: 1 no GPU with 20 GiB left (most 15 GiB)"


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled in this mode")
def test_the_kernel_is_compiled_once_for_clusters_with_and_without_gpus_and_mig() -> None:
    for nodes in ((node("a", flat_shape(T4)),), (node("a", PAIR), node("b", DGX1)), (node("a", flat_shape()),), ()):
        fabric, usage = pack(Snapshot(nodes=nodes))
        assert explain(fabric, usage, one(W4), make_policy("dovetail", EMPTY, fabric)).fitting <= 1
    assert len(vars(codes)["explain_nodes"].signatures) == 1


def test_unknown_links_are_a_reason_of_their_own_beside_islands_that_are_too_small() -> None:
    nodes = (
        node("f", flat_shape(*[T4] * 8)),
        node("g", flat_shape(*[T4] * 8)),
        node("p", machine_shape("l40s-8-pcie")),
    )
    world = World.of(nodes, EMPTY, "dovetail")
    for least in (0, 5000):
        demand = Demand(requests=(WholeRequest(count=8, link=LinkWish.REQUIRE, min_gbps=least),))
        found = explain(world.fabric, world.usage, demand, world.policy)
        assert found.reasons()[0] == Reason(text="links unknown", nodes=2)
        assert found.reasons()[1].text.startswith("machine without 8")
        assert [found.text(n) for n in range(2)] == ["links unknown"] * 2


def test_large_amounts_are_never_written_in_powers_of_ten() -> None:
    assert cores(10**12) == "1000000000 cores"
    assert cores(1_234_567_891) == "1234567.891 cores"
    assert gib(16 * 2**20) == "16384 GiB"
    assert gib(1536) == "1.5 GiB"
    assert gib(1000 * 1024 - 1) == "1000 GiB"
