"""What runs already is taken up as it is, also on GPUs that have become unhealthy since; nothing new goes there."""

from __future__ import annotations

import pytest

from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    Devices,
    GpuModel,
    MigMode,
    Node,
    NodeName,
    NodeShape,
    PartitionRequest,
    Placement,
    ShareRequest,
    Sharing,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import make_policy
from topology.catalog import mig_geometry
from topology.errors import InvalidInputError
from topology.quality import flat_quality

A100 = GpuModel(product="A100", memory_mib=40_960, mig=mig_geometry("a100-40gb"))
SHAPE = NodeShape("pair", (A100, A100), flat_quality(2))
SICK = Node(
    name=NodeName("n"), shape=SHAPE, cpu_milli=0, memory_mib=0, mig_mode=MigMode.DYNAMIC, unhealthy=frozenset({0})
)
SHARE = ShareRequest(compute_milli=400, memory_mib=8000)


def _on_gpu_0(request, name="c", profile="", start=-1):
    devices = Devices(gpus=(0,), profile=profile, start=start)
    return ClaimId(name), Demand(requests=(request,)), Placement(node=SICK.name, devices=(devices,))


RUNNING = {
    "whole": [_on_gpu_0(WholeRequest())],
    "shares": [_on_gpu_0(SHARE, "a"), _on_gpu_0(SHARE, "b")],
    "partitions": [
        _on_gpu_0(PartitionRequest(profile="3g.20gb"), "a", "3g.20gb", 4),
        _on_gpu_0(PartitionRequest(profile="1g.5gb"), "b", "1g.5gb", 0),
    ],
}


@pytest.mark.parametrize("running", RUNNING.values(), ids=RUNNING.keys())
def test_what_runs_on_an_unhealthy_gpu_is_kept_and_nothing_new_goes_there(running):
    empty = pack(Snapshot(nodes=(SICK,)))[1].arrays.gpus.copy()
    fabric, usage = pack(Snapshot(nodes=(SICK,), running=tuple(running)))
    for request in (WholeRequest(), SHARE, PartitionRequest(profile="1g.5gb")):
        demand = Demand(requests=(request,))
        policy = make_policy("dovetail", DemandMix.from_demands([(demand, 1)]), fabric)
        placement = place(fabric, usage, demand, policy).placement
        assert placement is not None
        assert placement.devices[0].gpus == (1,)
    for claim, _, _ in running:
        usage.release(claim)
    assert (usage.arrays.gpus == empty).all()


@pytest.mark.parametrize("running", RUNNING.values(), ids=RUNNING.keys())
def test_a_new_claim_is_refused_where_a_running_one_is_kept(running):
    _, usage = pack(Snapshot(nodes=(SICK,)))
    claim, demand, placement = running[0]
    with pytest.raises(InvalidInputError, match=f"claim {claim} on n: devices: request 0: is not free on GPUs 0"):
        usage.apply(claim, demand, placement)
    usage.restore(claim, demand, placement)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (RUNNING["whole"][0], _on_gpu_0(WholeRequest(), "x")),
        (RUNNING["whole"][0], _on_gpu_0(SHARE, "x")),
        (RUNNING["shares"][0], _on_gpu_0(ShareRequest(compute_milli=1, sharing=Sharing.MPS), "x")),
        (RUNNING["partitions"][0], _on_gpu_0(PartitionRequest(profile="4g.20gb"), "x", "3g.20gb", 4)),
    ],
)
def test_two_claims_that_cannot_share_a_gpu_are_refused_also_on_an_unhealthy_one(first, second):
    _, usage = pack(Snapshot(nodes=(SICK,), running=(first,)))
    before = [array.copy() for array in usage.arrays]
    with pytest.raises(InvalidInputError, match="claim x"):
        usage.restore(*second)
    assert all((old == new).all() for old, new in zip(before, usage.arrays, strict=True))


def test_a_policy_serves_the_fabric_it_was_made_for():
    fabric, usage = pack(Snapshot(nodes=(SICK,)))
    other, _ = pack(Snapshot(nodes=(SICK,)))
    demand = Demand(requests=(SHARE,))
    policy = make_policy("dovetail", DemandMix.from_demands([(demand, 1)]), other)
    with pytest.raises(AssertionError, match="another fabric"):
        place(fabric, usage, demand, policy)


@pytest.mark.parametrize("gbps", [-1.0, 0.0004, 1e300, float("nan"), float("inf")])
def test_a_minimum_quality_is_a_number_that_means_something(gbps):
    with pytest.raises(InvalidInputError, match="min_gbps"):
        WholeRequest(count=2, link="require", min_gbps=gbps)


ALL_SICK = Node(
    name=NodeName("n"), shape=SHAPE, cpu_milli=1000, memory_mib=0, mig_mode=MigMode.ENABLED, unhealthy=frozenset({0, 1})
)


def test_a_sick_partitioned_gpu_is_worth_nothing_where_no_healthy_one_can_be_partitioned():
    fabric, usage = pack(Snapshot(nodes=(ALL_SICK,), running=tuple(RUNNING["partitions"])))
    pod = Demand(cpu_milli=500)
    for counts in ([(pod, 1)], [(pod, 1), (Demand(requests=(PartitionRequest(profile="1g.5gb"),)), 9)]):
        decision = place(fabric, usage, pod, make_policy("dovetail", DemandMix.from_demands(counts), fabric))
        assert decision.placement is not None
        assert decision.score == 0


@pytest.mark.parametrize(
    ("profile", "start"), [("4g.20gb", 6), ("4g.20gb", 1), ("", 0), ("", -1), ("1g.5gb", -1), ("1g.5gb", 7)]
)
def test_an_impossible_placement_is_refused_also_on_an_unhealthy_gpu(profile, start):
    _, usage = pack(Snapshot(nodes=(SICK,)))
    request = PartitionRequest(profile="4g.20gb")
    with pytest.raises(InvalidInputError, match="claim c"):
        usage.restore(*_on_gpu_0(request, profile=profile, start=start))
    assert usage.arrays.gpus[0].tolist() == pack(Snapshot(nodes=(SICK,)))[1].arrays.gpus[0].tolist()
