"""Small exact cases: published scores, machines without an NVLink island, and what partitions leave of a GPU."""

from __future__ import annotations

import math

import pytest

from packing import reference_frag
from packing.kernels.frag import gradient_score
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
    Selector,
    ShareRequest,
    WholeRequest,
)
from packing.place import place
from packing.policy import POLICIES
from tests.packing.clusters import A30, A100, P100, T4, World, flat_shape, machine_shape, node

ONE = WholeRequest()
MIX = DemandMix.from_demands([(Demand(cpu_milli=4000, requests=(ONE,)), 1)])


def compiled(before: float, after: float) -> int:
    """Call an inner kernel, which has no wrapper of its own, through its Python source."""
    return int(getattr(gradient_score, "py_func", gradient_score)(before, after))


@pytest.mark.parametrize("score", [compiled, reference_frag.gradient_score])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 0, 50), (1000, 0, 73), (0, 1000, 26), (8000, 0, 99), (0, 8000, 0), (1, 0, 50), (0, 1, 49)],
)
def test_fgd_scores_the_sigmoid_of_the_gpus_saved(score, before, after, expected):
    assert score(float(before), float(after)) == expected
    assert expected == math.floor(100 / (1 + math.exp((after - before) / 1000)))


def placed(world, claim, *requests, cpu_milli=0):
    """Place and apply; return the devices of each request, None where nothing fits."""
    found = world.admit(claim, Demand(cpu_milli=cpu_milli, requests=requests))
    return None if found is None else [(devices.gpus, devices.profile, devices.start) for devices in found.devices]


def hold(world, claim, request, name, *gpus, profile="", start=-1):
    """Give exact devices to a claim."""
    devices = (Devices(gpus=gpus, profile=profile, start=start),)
    world.usage.apply(ClaimId(claim), Demand(requests=(request,)), Placement(node=NodeName(name), devices=devices))


def score(world, *requests):
    return place(world.fabric, world.usage, Demand(requests=requests), world.policy).score


def test_gpu_packing_scores_in_three_branches():
    """An empty node: 33 less its GPUs; idle GPUs to open: 50 less their number, at least 33; else 100 less fill."""
    world = World.of((node("n", flat_shape(*[T4] * 8)),), MIX, "gpu-packing")
    half = ShareRequest(compute_milli=500)
    assert score(world, half) == 25
    hold(world, "a", half, "n", 0)
    assert score(world, half) == 100 - 50 // 10
    assert score(world, ShareRequest(compute_milli=600)) == 49
    assert score(world, WholeRequest(count=7)) == 43
    hold(world, "b", ShareRequest(compute_milli=100), "n", 1)
    assert score(world, half) == 95, "the fullest that fits"
    assert score(world, ShareRequest(compute_milli=900)) == 100 - 90 // 10


def test_gpu_packing_looks_only_at_gpus_the_pod_may_use():
    world = World.of((node("n", flat_shape(T4, A100, A100)),), MIX, "gpu-packing")
    hold(world, "a", ShareRequest(compute_milli=900), "n", 0)
    share = ShareRequest(compute_milli=100, selector=Selector(products=("A100",)))
    assert score(world, share) == 49, "an idle A100 must be opened; the T4 that has room is not for this pod"


def test_gpu_clustering_prefers_its_own_kind():
    world = World.of((node("n", flat_shape(*[T4] * 8)),), MIX, "gpu-clustering")
    assert score(world, ONE) == 25
    hold(world, "a", ONE, "n", 0)
    assert [score(world, ONE), score(world, WholeRequest(count=2))] == [3 + 75, 3]
    hold(world, "b", WholeRequest(count=2), "n", 1, 2)
    assert [score(world, ONE), score(world, ShareRequest(compute_milli=1))] == [9 + 50, 9]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("machine", "count", "largest"), [("dgx1-v100", 8, 8), ("l40s-8-pcie", 2, 1), ("rtx3090-2-nvlink", 2, 2)]
)
def test_require_without_a_minimum_means_one_nvlink_island(policy, machine, count, largest):
    world = World.of((node("n", machine_shape(machine)),), MIX, policy)
    got = placed(world, "pod", WholeRequest(count=count, link=LinkWish.REQUIRE))
    assert (got is not None) == (count <= largest)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_gpu_needs_no_links(policy):
    world = World.of((node("n", machine_shape("l40s-8-pcie")),), MIX, policy)
    assert placed(world, "one", WholeRequest(count=1, link=LinkWish.REQUIRE)) is not None
    assert placed(world, "two", WholeRequest(count=1, link=LinkWish.REQUIRE, min_gbps=900)) is not None


@pytest.mark.parametrize("policy", POLICIES)
def test_require_on_a_dgx1_finds_the_island_that_is_left(policy):
    """With 1 and 2 of the cube mesh gone, no ring goes through 0 or 3; 4, 5, 6 is the first of those among 4 to 7.

    0-3 has two links (50 GB/s), 3-7 one (25 GB/s), 0-7 none.
    """
    world = World.of((node("n", machine_shape("dgx1-v100")),), MIX, policy)
    hold(world, "a", WholeRequest(count=2), "n", 1, 2)
    assert placed(world, "b", WholeRequest(count=3, link=LinkWish.REQUIRE)) == [((4, 5, 6), "", -1)]
    assert placed(world, "c", WholeRequest(count=3, link=LinkWish.REQUIRE)) is None
    assert placed(world, "d", WholeRequest(count=2, link=LinkWish.REQUIRE, min_gbps=51)) is None
    assert placed(world, "e", WholeRequest(count=2, link=LinkWish.REQUIRE, min_gbps=50)) == [((0, 3), "", -1)]


def mig(*gpus, policy="dovetail", mode=MigMode.ENABLED):
    return World.of((node("n", flat_shape(*gpus), mig_mode=mode),), MIX, policy)


def part(profile):
    return PartitionRequest(profile=profile)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_small_partition_in_each_half_leaves_no_room_for_a_large_one(policy):
    world = mig(A100, policy=policy)
    hold(world, "a", part("1g.5gb"), "n", 0, profile="1g.5gb", start=0)
    hold(world, "b", part("1g.5gb"), "n", 0, profile="1g.5gb", start=4)
    assert placed(world, "c", part("3g.20gb")) is None
    assert placed(world, "d", part("2g.10gb")) == [((0,), "2g.10gb", 2)]


@pytest.mark.parametrize("policy", POLICIES)
def test_seven_of_the_smallest_fill_an_a100(policy):
    world = mig(A100, policy=policy)
    starts = [placed(world, f"pod-{i}", part("1g.5gb"))[0][2] for i in range(7)]
    assert sorted(starts) == list(range(7))
    assert placed(world, "eighth", part("1g.5gb")) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_the_profile_with_media_engines_is_unique_on_a_gpu(policy):
    world = mig(A100, A100, policy=policy)
    pods = [placed(world, f"pod-{i}", part("1g.5gb+me")) for i in range(3)]
    assert sorted(pod[0][0] for pod in pods[:2]) == [(0,), (1,)]
    assert pods[2] is None


def test_media_engines_are_free_again_when_their_partition_goes_and_others_stay():
    world = mig(A100)
    assert placed(world, "stays", part("1g.5gb")) is not None
    for _ in range(2):
        assert placed(world, "media", part("1g.5gb+me")) is not None
        world.usage.release(ClaimId("media"))


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ("1g.6gb+me", "1g.6gb+me", False),
        ("1g.6gb+me", "2g.12gb+me", False),
        ("2g.12gb+me", "1g.6gb+me", False),
        ("2g.12gb+me", "2g.12gb", True),
        ("1g.6gb+me", "2g.12gb", True),
    ],
)
def test_an_a30_has_its_media_engines_once(first, second, fits):
    world = mig(A30)
    assert placed(world, "a", part(first)) is not None
    assert (placed(world, "b", part(second)) is not None) == fits


def test_a_gpu_is_used_in_one_way_at_a_time_and_any_way_again_once_idle():
    world = mig(A100, mode=MigMode.DYNAMIC)
    half, small = ShareRequest(compute_milli=500), part("1g.5gb")
    for request, others in ((half, (ONE, small)), (small, (ONE, half)), (ONE, (half, small))):
        assert placed(world, "pod", request) is not None
        assert [placed(world, "other", other) for other in others] == [None, None]
        world.usage.release(ClaimId("pod"))


def test_a_gpu_of_unknown_memory_gives_shares_of_compute_only():
    world = World.of((node("n", flat_shape(P100)),), MIX, "dovetail")
    assert placed(world, "memory", ShareRequest(compute_milli=100, memory_mib=1)) is None
    assert placed(world, "compute", ShareRequest(compute_milli=100)) == [((0,), "", -1)]
