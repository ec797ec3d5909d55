"""Laws of `place`: what it gives is legal, it finds what there is to find, and what it remembers is never stale."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from packing.mix import DemandMix
from packing.model import (
    Demand,
    Devices,
    GpuModel,
    LinkWish,
    MigMode,
    PartitionRequest,
    Placement,
    Selector,
    ShareRequest,
    WholeRequest,
)
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.reference_state import satisfies
from tests.packing.clusters import (
    A30,
    A100,
    P100,
    T4,
    World,
    clusters,
    demands,
    examples,
    flat_shape,
    histories,
    mixes,
    node,
    requests,
)

MIX = DemandMix.from_demands([(Demand(requests=(WholeRequest(),)), 1)])
any_policy = st.sampled_from(POLICIES)


def faults(nodes, claims):
    """Return what is wrong with claims [(demand, placement)], from the rules alone; no state is kept."""
    wrong = []
    for host in nodes:
        pods = [(demand, placement) for demand, placement in claims if placement.node == host.name]
        if sum(demand.cpu_milli for demand, _ in pods) > host.cpu_milli:
            wrong.append(f"{host.name}: more CPU than it has")
        if sum(demand.memory_mib for demand, _ in pods) > host.memory_mib:
            wrong.append(f"{host.name}: more memory than it has")
        units = [unit for demand, placement in pods for unit in zip(demand.requests, placement.devices, strict=True)]
        wrong += [fault for request, devices in units for fault in unit_faults(host, request, devices)]
        for i, model in enumerate(host.shape.gpus):
            on_it = [(request, devices) for request, devices in units if i in devices.gpus]
            wrong += [f"{host.name} GPU {i}: {fault}" for fault in gpu_faults(model, on_it)]
    return wrong


def unit_faults(host, request, devices):
    """What is wrong with the devices of one request, whatever else is on the node."""
    models = [host.shape.gpus[i] for i in devices.gpus]
    if not all(request.selector.matches(model) for model in models):
        yield "a GPU the selector excludes"
    if set(devices.gpus) & host.unhealthy:
        yield "an unhealthy GPU"
    splits = [model.mig is not None and model.mig.placeable for model in models]
    if isinstance(request, PartitionRequest):
        if len(devices.gpus) != 1 or not all(splits) or host.mig_mode is MigMode.DISABLED:
            yield "a partition where none can be"
        elif not satisfies(models[0].mig.profile(devices.profile), request):
            yield "a profile that was not asked for"
        elif devices.start not in models[0].mig.profile(devices.profile).starts:
            yield "a start the profile does not have"
        return
    if host.mig_mode is MigMode.ENABLED and any(splits):
        yield "a GPU in MIG mode, used whole or shared"
    count = request.count if isinstance(request, WholeRequest) else 1
    if len(set(devices.gpus)) != count or len(devices.gpus) != count:
        yield "not the number of GPUs asked for"
    if isinstance(request, WholeRequest) and request.link is LinkWish.REQUIRE and count > 1:
        mask = sum(1 << i for i in devices.gpus)
        links = host.shape.links
        joined = links.quality_mbps[mask] >= request.min_gbps * 1000 if request.min_gbps else links.nvlink[mask] == 1
        if not joined:
            yield "links below what is required"


def gpu_faults(model: GpuModel, units):
    """What is wrong with the units of one GPU together."""
    kinds = Counter(type(request) for request, _ in units)
    if len(kinds) > 1:
        yield "used in several ways at a time"
    if kinds[WholeRequest] > 1:
        yield "given whole twice"
    shares = [request for request, _ in units if isinstance(request, ShareRequest)]
    if len({share.sharing for share in shares}) > 1:
        yield "time-slicing and MPS mixed"
    if sum(share.compute_milli for share in shares) > 1000:
        yield "more compute than there is"
    if sum(share.memory_mib for share in shares) > model.memory_mib:
        yield "more memory than there is"
    parts = [(model.mig.profile(devices.profile), devices.start) for _, devices in units if devices.profile]
    slices = [slice_ for profile, start in parts for slice_ in range(start, start + profile.size)]
    if len(set(slices)) < len(slices) or any(not 0 <= slice_ < model.mig.memory_slices for slice_ in slices):
        yield "partitions overlap"
    for one, other in combinations([profile for profile, _ in parts], 2):
        if one.takes & other.blocked_by:
            yield "two partitions need one engine"


@examples(120)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(25))
def test_whatever_is_placed_is_legal(nodes, mix, policy, history):
    world = World.of(nodes, mix, policy)
    held = {}
    for number, step in enumerate(history):
        if isinstance(step, int):
            held.pop(world.evict(step), None)
        else:
            placement = world.admit(f"pod-{number}", step)
            if placement is not None:
                held[f"pod-{number}"] = (step, placement)
        assert faults(nodes, list(held.values())) == []


@examples(60)
@given(nodes=clusters(), mix=mixes(), policy=any_policy, history=histories(), probes=st.lists(demands(), max_size=4))
def test_what_is_remembered_is_never_stale(nodes, mix, policy, history, probes):
    """A policy and usage that lived through a history, with a rollback in it, decide as ones that never saw it."""
    world = World.of(nodes, mix, policy)
    for number, step in enumerate(history):
        mark = world.usage.checkpoint()
        for probe in probes:
            place(world.fabric, world.usage, probe, world.policy)
        if isinstance(step, int):
            world.evict(step)
        else:
            world.admit(f"pod-{number}", step)
        place(world.fabric, world.usage, probes[0] if probes else Demand(), world.policy)
        if number % 3 == 2:
            world.usage.rollback(mark)
        else:
            world.usage.forget(mark)
        for probe in [*probes, *(step for step in history if not isinstance(step, int))]:
            fresh = make_policy(policy, mix, world.fabric)
            expected = place(world.fabric, world.usage.copy(), probe, fresh)
            assert place(world.fabric, world.usage, probe, world.policy) == expected


def choices(host, request):
    """Every conceivable choice of devices for a request, legal or not."""
    gpus = range(len(host.shape.gpus))
    if isinstance(request, WholeRequest):
        return [Devices(gpus=chosen) for chosen in combinations(gpus, request.count)]
    if isinstance(request, ShareRequest):
        return [Devices(gpus=(i,)) for i in gpus]
    return [
        Devices(gpus=(i,), profile=profile.name, start=start)
        for i in gpus
        if (geometry := host.shape.gpus[i].mig) is not None and geometry.placeable
        for profile in geometry.profiles
        for start in profile.starts
        if satisfies(profile, request)
    ]


small = st.sampled_from(((T4, T4), (A30,), (A30, T4), (A100,), (P100, P100, P100)))
pods = st.lists(requests(), min_size=2, max_size=3).map(lambda asked: Demand(requests=tuple(asked)))


@examples(150)
@given(
    gpus=small,
    mode=st.sampled_from(MigMode),
    mix=mixes(),
    policy=any_policy,
    before=st.lists(demands(most=1), max_size=3),
    pod=pods,
)
def test_a_pod_of_several_requests_is_placed_wherever_any_allocation_exists(gpus, mode, mix, policy, before, pod):
    """Brute force over all combinations of devices against the policy's choice and the search behind it."""
    host = node("only", flat_shape(*gpus), mig_mode=mode)
    world = World.of((host,), mix, policy)
    held = []
    for number, demand in enumerate(before):
        placement = world.admit(f"pod-{number}", demand)
        if placement is not None:
            held.append((demand, placement))
    found = place(world.fabric, world.usage, pod, world.policy).placement
    assert (found is not None) == exists(host, pod, held)


def exists(host, pod, held):
    for devices in product(*(choices(host, request) for request in pod.requests)):
        if not faults([host], [*held, (pod, Placement(node=host.name, devices=devices))]):
            return True
    return False


def test_a_dead_end_of_the_policy_is_not_the_end():
    """Best fit puts the first share where only the second would fit; the pod is placed all the same."""
    host = node("only", flat_shape(T4, A100), cpu_milli=1000)
    pod = Demand(
        requests=(
            ShareRequest(memory_mib=10_000),
            ShareRequest(memory_mib=15_000, compute_milli=100, selector=Selector(products=("T4",))),
        )
    )
    for policy in POLICIES:
        world = World.of((host,), MIX, policy)
        found = place(world.fabric, world.usage, pod, world.policy).placement
        assert found is not None
        assert [devices.gpus for devices in found.devices] == [(1,), (0,)], policy
