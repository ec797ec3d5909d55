"""P7: what the planner predicts is what the cluster does. The openb trace as real pods, placement by placement."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.scheduler import meters, openb
from bench.scheduler.inorder import ahead, in_order
from bench.scheduler.openb import Trace
from bench.scheduler.rig import OUR_EXTENDER, OURS, WRITERS, Rig, deployed
from kube.quantity import parse_quantity
from packing.dra.model import NANO
from packing.model import WHOLE_MILLI
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.fakenodes import FakeNodes
from sandbox.load.client import LoadClient
from sandbox.load.workload import LABEL
from sandbox.objects import Manifest
from simulator.result import PlacedPod

NODE_GRACE_S = 600
"""Thousands of leases renewed every few seconds would take the time of a small machine."""
CREATED_AHEAD = 32
TOLD = 20
TOLD_EVERY = 200
_GPU = re.compile(r"gpu-(\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """What a cluster did with a trace."""

    trace: Trace
    planned: tuple[PlacedPod, ...]
    planned_pct: float | None
    """Unallocated % at 100 % arrived, as the planner says; None where that many did not arrive."""
    placed: tuple[PlacedPod, ...]
    """What the API server has at the end."""
    taken: tuple[Mapping[tuple[str, int], int], ...]
    """Per arrival, thousandths of the GPUs (node, index) that its claim holds."""
    took_s: float
    refusals: Mapping[str, int]
    troubles: Mapping[str, int]

    @property
    def pct(self) -> float | None:
        """Unallocated % at 100 % arrived, of the cluster."""
        return self.trace.unallocated_pct_at_100([sum(each.values()) for each in self.taken])

    def overcommitted(self) -> list[tuple[str, int]]:
        """Return the GPUs of which claims hold more than there is."""
        held: Counter[tuple[str, int]] = Counter()
        for each in self.taken:
            held.update(each)
        return [gpu for gpu, milli in held.items() if milli > WHOLE_MILLI]

    def differing(self) -> list[int]:
        """Return the arrivals whose node or GPUs are not those planned."""
        both = zip(self.planned, self.placed, strict=True)
        return [at for at, (one, other) in enumerate(both) if (one.node, one.gpus) != (other.node, other.gpus)]


def populate(plane: ControlPlane, trace: Trace) -> None:
    """Create the nodes of a trace and their slices."""
    FakeNodes.start(plane).add(map(openb.node_manifest, trace.nodes), timeout_s=600)
    with ThreadPoolExecutor(WRITERS) as writers:
        slices = (each for node in trace.nodes for each in openb.slice_manifests(node))
        list(writers.map(plane.api.create, slices))


def flags(trace: Trace) -> tuple[str, str]:
    """Return what the scheduler is told beyond its manifests: as much as the planner knows."""
    return "--place-all", f"--mix={trace.spec.pods.resolve()}"


def filled(kubeconfig: Path, namespace: str, scheduler: str, trace: Trace) -> Filled:
    """Release the pods of a trace in order on a cluster that has its nodes, and read where they are."""
    return asyncio.run(_filled(kubeconfig, namespace, scheduler, trace))


async def _filled(kubeconfig: Path, namespace: str, scheduler: str, trace: Trace) -> Filled:
    planned, planned_pct = trace.planned()
    async with in_order(kubeconfig, namespace, "fill") as queue:

        async def create(arrival: int) -> None:
            claim = openb.claim_manifest(trace, arrival, namespace)
            await queue.offer(openb.pod_manifest(trace, arrival, namespace, scheduler), claim)

        begin_s, elsewhere = time.monotonic(), 0
        async for arrival in ahead(create, len(trace), CREATED_AHEAD):
            node = await queue.release(trace.name(arrival))
            elsewhere += node != planned[arrival].node
            if (arrival + 1) % TOLD_EVERY == 0:
                so_far = f"{arrival + 1} of {len(trace)} pods, {time.monotonic() - begin_s:.0f} s"
                print(f"{so_far}, {elsewhere} on another node than planned", flush=True)
        took_s = time.monotonic() - begin_s
        placed, taken = await _found(queue.client, namespace, trace)
        return Filled(trace, planned, planned_pct, placed, taken, took_s, dict(queue.refusals), dict(queue.troubles))


async def _found(
    client: LoadClient, namespace: str, trace: Trace
) -> tuple[tuple[PlacedPod, ...], tuple[dict[tuple[str, int], int], ...]]:
    """Return where the API server has each arrival: its pod's node, and what its claim holds."""
    label = f"{LABEL}=fill"
    pods = (await client.list("Pod", namespace, label, whole=True))["items"]
    claims = (await client.list("ResourceClaim", namespace, label, whole=True))["items"]
    nodes = {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}
    held = {claim["metadata"]["name"]: holds(claim) for claim in claims}
    names = [trace.name(arrival) for arrival in range(len(trace))]
    taken = tuple(held.get(name, {}) for name in names)
    gpus = (tuple(sorted(index for _, index in each)) for each in taken)
    placed = (PlacedPod(pod=name, node=nodes.get(name, ""), gpus=each) for name, each in zip(names, gpus, strict=True))
    return tuple(placed), taken


def holds(claim: Manifest) -> dict[tuple[str, int], int]:
    """Return the thousandths of the GPUs (node, index) that a claim holds: all, or the share that is consumed."""
    results = claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
    return {
        (result["pool"].partition("/")[0], gpu_of(result["device"])): int(
            parse_quantity(result.get("consumedCapacity", {}).get(openb.COMPUTE, WHOLE_MILLI)) // NANO
        )
        for result in results
    }


def gpu_of(device: str) -> int:
    """Return the index of the GPU that a device of ours is, or is a part of."""
    found = _GPU.match(device)
    assert found is not None, f"{device} is no device of the trace"
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run took (S5)."""

    ready_mib: float
    """Memory of the extender before the first pod."""
    peak_mib: float
    end_mib: float
    cpu_s: Mapping[str, float]
    """Processor time by program, from the first pod to the last."""


def measured(trace: Trace) -> tuple[Filled, Costs]:
    """Run a trace on a control plane of its own."""
    options = ControlPlaneOptions(default_scheduler=False, node_grace_s=NODE_GRACE_S)
    with ControlPlane.start(options) as plane:
        populate(plane, trace)
        with deployed(plane, *flags(trace)) as pod:
            pids = Rig(plane, pod).pids()
            extender = pids[OUR_EXTENDER]
            ready_mib, before_s = meters.resident_mib(extender), _used_s(pids)
            found = filled(plane.kubeconfig, "default", OURS, trace)
            used_s = {name: used - before_s[name] for name, used in _used_s(pids).items()}
            return found, Costs(ready_mib, meters.peak_mib(extender), meters.resident_mib(extender), used_s)


def _used_s(pids: Mapping[str, int]) -> dict[str, float]:
    return {"this program": time.process_time()} | {name: meters.used_s(pid) for name, pid in pids.items()}


def report(found: Filled, costs: Costs) -> None:
    """Print the figure beside the planner's, and which placements differ."""
    count, differing = len(found.trace), found.differing()
    print(f"{len(found.trace.nodes)} nodes, {count} pods in {found.took_s:.0f} s: {count / found.took_s:.1f} pods/s")
    print(f"unallocated % at 100 % arrived: cluster {found.pct}, planner {found.planned_pct}")
    failed = [sum(not each.node for each in side) for side in (found.placed, found.planned)]
    print(f"failed: cluster {failed[0]}, planner {failed[1]}; placements that differ: {len(differing)}")
    print(*(line(found, at) for at in differing[:TOLD]), sep="\n", end="\n" if differing else "")
    memory = f"{costs.ready_mib:.0f} before, {costs.peak_mib:.0f} at most, {costs.end_mib:.0f} at the end"
    print(f"extender, MiB: {memory}")
    by_use = sorted(costs.cpu_s.items(), key=lambda item: -item[1])
    print("CPU ms per pod: " + ", ".join(f"{name} {used_s / count * 1e3:.1f}" for name, used_s in by_use))
    for title, texts in (("refused", found.refusals), ("tried again", found.troubles)):
        print(*(f"{title} {times} x {text}" for text, times in Counter(texts).most_common(3)), sep="\n")


def line(found: Filled, at: int) -> str:
    """Return one arrival that went elsewhere, in words."""
    planned, placed = (f"{each.node or 'nowhere'} {list(each.gpus)}" for each in (found.planned[at], found.placed[at]))
    return f"  arrival {at}, {found.placed[at].pod}: planner {planned}, cluster {placed}; {found.trace.demand(at)}"
