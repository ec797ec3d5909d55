"""What the planner predicts is what the cluster does: one job list, in the planner's arrays and through API objects."""

from __future__ import annotations

import random

import pytest

from kube.cluster import Cluster, ClusterSettings
from kube.objects import DeviceClass, ResourceClaim
from packing.dra.model import Allocation, PartKind
from packing.mix import DemandMix
from packing.model import (
    ClaimId,
    Demand,
    Node,
    NodeName,
    PartitionRequest,
    Placement,
    Request,
    ShareRequest,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, make_policy
from packing.shapes import shape_of
from tests.kube.builders import DRIVER, Json, claim, decoded, machine_slices, node, pod, result
from topology.catalog import machine
from topology.modes import MigMode, Sharing

CORES, MEMORY_GIB = 96, 1024
OURS = f"device.attributes['{DRIVER}']"
WHOLES: list[Request] = [WholeRequest(count=count) for count in (1, 2, 4)]
PARTITIONS: list[Request] = [PartitionRequest(profile=profile) for profile in ("1g.10gb", "2g.20gb", "3g.40gb")]
SHARES: list[Request] = [
    ShareRequest(compute_milli=compute, memory_mib=memory, sharing=Sharing.MPS)
    for compute, memory in ((250, 4096), (500, 0), (0, 10240))
]
CLUSTERS: dict[str, tuple[tuple[str, ...], list[Request]]] = {
    "links of V100": (("dgx1-v100",) * 4, WHOLES),
    "cards on one side": (("a10g-8-pcie",) * 3, WHOLES + SHARES),
    "MIG": (("dgx-a100-80",) * 2, WHOLES + PARTITIONS),
    "all kinds": (("dgx-a100-80", "hgx-h100-8", "l4-8-pcie"), WHOLES + PARTITIONS[1:] + SHARES),
}


def jobs(requests: list[Request], seed: int, count: int = 120) -> list[tuple[Demand, int]]:
    """Return demands, each with the number of an earlier job that leaves before it, or -1."""
    draw = random.Random(seed)
    found = []
    for at in range(count):
        asked = Demand(cpu_milli=draw.choice([0, 2000, 8000]), memory_mib=4096, requests=(draw.choice(requests),))
        found.append((asked, draw.randrange(at) if at > 20 and draw.random() < 0.5 else -1))
    return found


def planned(machines: tuple[str, ...], todo: list[tuple[Demand, int]], policy: str, mix: DemandMix) -> list[str]:
    nodes = tuple(
        Node(
            name=NodeName(f"node-{at}"),
            shape=shape_of(machine(name)),
            cpu_milli=CORES * 1000,
            memory_mib=MEMORY_GIB * 1024,
            mig_mode=MigMode.DYNAMIC if any(gpu.mig for gpu in shape_of(machine(name)).gpus) else MigMode.DISABLED,
        )
        for at, name in enumerate(machines)
    )
    fabric, usage = pack(Snapshot(nodes=nodes))
    bound = make_policy(policy, mix, fabric, seed=7)
    texts = []
    for at, (demand, leaver) in enumerate(todo):
        if leaver >= 0 and ClaimId(str(leaver)) in usage.claims:
            usage.release(ClaimId(str(leaver)))
        placement = place(fabric, usage, demand, bound).placement
        if placement is not None:
            usage.apply(ClaimId(str(at)), demand, placement)
        texts.append("none" if placement is None else told(placement))
    return texts


def told(placement: Placement) -> str:
    (devices,) = placement.devices
    return f"{placement.node} {','.join(map(str, devices.gpus))} {devices.profile} {devices.start}"


def done(machines: tuple[str, ...], todo: list[tuple[Demand, int]], policy: str, mix: DemandMix) -> list[str]:
    """Return what the cluster decides; allocations come back by the watch, as what was decided."""
    on = Cluster(ClusterSettings(policy=policy, mix=mix, seed=7, place_all=True))
    for kind in ("gpu", "mig", "share"):
        expression = f"device.driver == '{DRIVER}' && {OURS}.type == '{kind}'"
        spec = {"selectors": [{"cel": {"expression": expression}}]}
        on.put(decoded({"metadata": {"name": kind}, "spec": spec}, DeviceClass))
    for at, name in enumerate(machines):
        on.put(node(f"node-{at}", cpu=str(CORES), memory=f"{MEMORY_GIB}Gi"))
        for each in machine_slices(name, f"node-{at}", mig_mode=MigMode.DYNAMIC, sharing=tuple(Sharing)):
            on.put(each)
    running: dict[int, ResourceClaim] = {}
    texts = []
    for at, (demand, leaver) in enumerate(todo):
        if leaver in running:
            on.remove(running.pop(leaver))
            on.remove(pod(f"job-{leaver}"))
        asked = claim(f"job-{at}", requests=[request_of(demand.requests[0])])
        on.put(asked)
        cpu, memory = f"{demand.cpu_milli}m", f"{demand.memory_mib}Mi"
        resolved = on.resolve(pod(f"job-{at}", cpu=cpu, memory=memory, claims=[f"job-{at}"]))
        allocation = on.decide(resolved).allocation
        if allocation is None:
            texts.append("none")
            continue
        texts.append(read(on, allocation))
        on.hold(at, resolved, allocation)
        running[at] = allocated(f"job-{at}", allocation)
        on.put(running[at])
        on.put(pod(f"job-{at}", on=allocation.node, cpu=cpu, memory=memory))
        on.drop(at)
    return texts


def request_of(request: Request) -> Json:
    exactly: Json = {}
    match request:
        case WholeRequest():
            exactly = {"deviceClassName": "gpu", "count": request.count}
        case PartitionRequest():
            selector = {"cel": {"expression": f"{OURS}.profile == '{request.profile}'"}}
            exactly = {"deviceClassName": "mig", "selectors": [selector]}
        case ShareRequest():
            selector = {"cel": {"expression": f"{OURS}.sharing == '{request.sharing}'"}}
            # What is not asked for is all of the memory; the least that can be asked for is a MiB.
            amounts = {"computeMilli": str(request.compute_milli), "memory": f"{max(1, request.memory_mib)}Mi"}
            exactly = {"deviceClassName": "share", "selectors": [selector], "capacity": {"requests": amounts}}
    return {"name": "gpu", "exactly": exactly}


def read(on: Cluster, allocation: Allocation) -> str:
    inventory = on.packed().inventory
    (givens,) = allocation.claims
    parts = []
    for given in givens:
        located = inventory.locate(given.device)
        assert located is not None
        parts.append(inventory.layout(located.node).parts[located.bit])
    gpus = sorted(part.gpu for part in parts)
    partition = parts[0].kind is PartKind.PARTITION
    profile, start = (parts[0].profile, parts[0].start) if partition else ("", -1)
    return f"{allocation.node} {','.join(map(str, gpus))} {profile} {start}"


def allocated(name: str, allocation: Allocation) -> ResourceClaim:
    """Return the claim as the API server sends it once the allocation is written."""
    (givens,) = allocation.claims
    results = []
    for at, given in enumerate(givens):
        one = result(given.device.name, given.device.pool)
        if given.consumed is not None:
            consumed = {capacity: f"{amount}n" for capacity, amount in given.consumed.items()}
            one |= {"shareID": f"00000000-0000-4000-8000-{at:012}", "consumedCapacity": consumed}
        results.append(one)
    return claim(name, results, on=allocation.node)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CLUSTERS)
def test_every_job_gets_the_devices_that_the_planner_gives_it(name: str, seed: int) -> None:
    machines, requests = CLUSTERS[name]
    # The least share that the API can ask for takes a MiB, so that the planner must reckon with it too.
    counted = [
        ShareRequest(compute_milli=r.compute_milli, memory_mib=max(1, r.memory_mib), sharing=r.sharing)
        if isinstance(r, ShareRequest)
        else r
        for r in requests
    ]
    todo = jobs(list(counted), seed)
    mix = DemandMix.from_demands([(demand, 1) for demand, _ in todo])
    expected = planned(machines, todo, "dovetail", mix)
    assert 0 < expected.count("none") < len(todo), "the cluster is full at times, and not always"
    assert done(machines, todo, "dovetail", mix) == expected


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"random"}))
def test_under_every_policy(policy: str) -> None:
    """But for random, which draws anew at every change: claims and pods of a cluster come one by one."""
    machines, requests = CLUSTERS["links of V100"]
    todo = jobs(list(requests), 3)
    mix = DemandMix.from_demands([(demand, 1) for demand, _ in todo])
    assert done(machines, todo, policy, mix) == planned(machines, todo, policy, mix)
