"""Laws of `Usage`: what is free and what is used are the whole; apply, release, rollback and copy keep it so."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from packing import reference
from packing.fabric import build_fabric
from packing.kernels import arrays as codes
from packing.model import ClaimId, Devices, PartitionRequest, Placement, ShareRequest, Sharing, Snapshot, WholeRequest
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.reference_state import Gpu
from packing.usage import Usage
from tests.packing.clusters import T4, World, clusters, examples, flat_shape, histories, mixes, node

CAPACITY = ("nodes", "gpus", "hosted")
"""The arrays of `UsageArrays` that say what is free; the others only count changes."""


def capacity(usage):
    """Return copies of what is free."""
    return [getattr(usage.arrays, name).copy() for name in CAPACITY]


def same(before, usage):
    return all(np.array_equal(old, new) for old, new in zip(before, capacity(usage), strict=True))


def grow(world, history, start=0):
    """Run a history, its pods numbered from `start`."""
    for number, step in enumerate(history, start):
        if isinstance(step, int):
            world.evict(step)
        else:
            world.admit(f"pod-{number}", step)


def running(usage):
    """Return the claims of a usage as `Snapshot.running` has them."""
    fabric = usage.fabric
    found = []
    for claim, held in usage.claims.items():
        demand = usage.classes.demands[held.demand_class]
        found.append((claim, demand, decoded(fabric, held)))
    return found


def decoded(fabric, held):
    node = fabric.nodes[held.node]
    devices = []
    for mask, profile, start in zip(held.gpus, held.profiles, held.starts, strict=True):
        gpus = tuple(i for i in range(16) if mask >> i & 1)
        geometry = node.shape.gpus[gpus[0]].mig
        name = geometry.profiles[profile].name if profile != codes.NONE and geometry else ""
        devices.append(Devices(gpus=gpus, profile=name, start=start))
    return Placement(node=node.name, devices=tuple(devices))


def use_of(gpu: Gpu):
    """Return the use code that the units on a GPU amount to."""
    if not (gpu.may_run_pods or gpu.may_be_partitioned):
        return codes.OUT
    uses = {
        codes.WHOLE
        if isinstance(request, WholeRequest)
        else codes.PARTITIONED
        if isinstance(request, PartitionRequest)
        else {Sharing.MPS: codes.MPS, Sharing.TIME_SLICING: codes.TIME_SLICED}[request.sharing]
        for request, _ in gpu.units
    }
    assert len(uses) <= 1, f"GPU {gpu.index} is used in several ways"
    return uses.pop() if uses else codes.FREE


any_policy = st.sampled_from(POLICIES)


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(20))
def test_free_and_used_are_the_whole_in_every_dimension(nodes, mix, policy, history):
    world = World.of(nodes, mix, policy)
    grow(world, history)
    slow = reference.Cluster(nodes)
    for claim, demand, placement in running(world.usage):
        slow.apply(claim, demand, placement)
    arrays = world.usage.arrays
    for n, state in enumerate(slow.states()):
        assert arrays.nodes[n].tolist() == [state.cpu_milli, state.memory_mib, sum(1 << i for i in state.idle)]
        assert arrays.hosted[n].sum() == len(state.units)
        shares = sum(isinstance(request, ShareRequest) for request, _ in state.units)
        assert arrays.hosted[n, codes.HOSTED_SHARE] == shares
        for gpu in state.gpus:
            row = arrays.gpus[slow.first_gpu(n) + gpu.index].tolist()
            taken = gpu.occupation
            assert row == [use_of(gpu), gpu.left_milli, gpu.left_mib, taken.slices, taken.exclusive, len(gpu.units)]


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(20), order=st.randoms(use_true_random=False))
def test_releasing_everything_in_any_order_leaves_an_empty_cluster(nodes, mix, policy, history, order):
    world = World.of(nodes, mix, policy)
    empty = capacity(world.usage)
    grow(world, history)
    claims = sorted(world.usage.claims)
    order.shuffle(claims)
    for claim in claims:
        world.usage.release(claim)
    assert same(empty, world.usage)
    assert not world.usage.claims


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(), demand=st.data())
def test_release_undoes_apply_exactly(nodes, mix, policy, history, demand):
    world = World.of(nodes, mix, policy)
    grow(world, history)
    wanted = demand.draw(st.sampled_from([step for step in history if not isinstance(step, int)] or [None]))
    if wanted is None:
        return
    before = capacity(world.usage)
    if world.admit("last", wanted) is not None:
        world.usage.release(ClaimId("last"))
    assert same(before, world.usage)


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, first=histories(), then=histories(), inner=histories(6))
def test_rollback_undoes_any_history_and_nested_checkpoints_keep_theirs(nodes, mix, policy, first, then, inner):
    world = World.of(nodes, mix, policy)
    grow(world, first)
    usage = world.usage
    before, claims, versions = capacity(usage), dict(usage.claims), usage.arrays.version.copy()
    outer = usage.checkpoint()
    grow(world, then, start=100)
    middle, middle_claims = capacity(usage), dict(usage.claims)
    nested = usage.checkpoint()
    grow(world, inner, start=200)
    usage.rollback(nested)
    assert same(middle, usage)
    assert usage.claims == middle_claims
    kept = usage.checkpoint()
    grow(world, inner, start=300)
    usage.forget(kept)
    usage.rollback(outer)
    assert same(before, usage)
    assert usage.claims == claims
    assert (usage.arrays.version >= versions).all(), "a version must never return to a former value"


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, first=histories(), then=histories())
def test_a_copy_is_independent_both_ways(nodes, mix, policy, first, then):
    world = World.of(nodes, mix, policy)
    grow(world, first)
    twin = World(world.nodes, world.fabric, world.usage.copy(), world.policy)
    before, claims = capacity(world.usage), dict(world.usage.claims)
    grow(twin, then, start=100)
    assert same(before, world.usage)
    assert world.usage.claims == claims
    after, after_claims = capacity(twin.usage), dict(twin.usage.claims)
    grow(world, then[::-1], start=200)
    assert same(after, twin.usage)
    assert twin.usage.claims == after_claims


def test_a_copy_costs_no_rebuild(monkeypatch):
    """Copies are made for every what-if; looking at each GPU of a large cluster anew took 40 ms of it."""
    usage = Usage(build_fabric((node("n", flat_shape(T4)),)))
    monkeypatch.setattr("packing.usage._all_free", None)
    assert same(capacity(usage), usage.copy())


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(20), seed=st.integers(0, 99))
def test_the_order_of_nodes_and_claims_and_how_it_came_about_is_irrelevant(nodes, mix, policy, history, seed):
    world = World.of(nodes, mix, policy)
    grow(world, history)
    claims = running(world.usage)
    shuffled = list(nodes)
    random.Random(seed).shuffle(shuffled)
    random.Random(seed).shuffle(claims)
    fabric, usage = pack(Snapshot(nodes=tuple(shuffled), running=tuple(claims)))
    assert same(capacity(usage), world.usage)
    assert [node.name for node in fabric.nodes] == [node.name for node in world.fabric.nodes]
    if policy == "random":  # draws by the number of changes so far
        return
    known = make_policy(policy, mix, fabric)
    for step in history:
        if not isinstance(step, int):
            assert place(fabric, usage, step, known) == place(world.fabric, world.usage, step, world.policy)
