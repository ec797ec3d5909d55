"""S4: how many pods of two GPUs get two that NVLink joins, when jobs of 1, 2, 4 and 8 GPUs come and go.

One list of arrivals and departures (suite L, cluster b: boxes whose GPUs are linked in pairs alone), replayed one by
one through the planner, our scheduler and the default one. A departure is over before the next arrival begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.scheduler.fill import holds
from bench.scheduler.inorder import InOrder, in_order
from bench.scheduler.rig import DEFAULT, OURS, running
from dovetail.sandbox_cmd_gpus import names_by_machine
from dra_driver.publish import DRIVER_NAME
from sandbox import objects
from simulator.quality.churn import Allocator, Spot
from simulator.quality.linkclusters import SHARES, SIZES, LinkCluster, link_arrivals, link_cluster
from simulator.quality.ourlinks import OurLinks

MACHINE, CLUSTER = "a100-8-pcie-nvlink-pairs", "b"
NODES, LOAD, SEED, ARRIVALS = 10, 0.85, 0, 600
PLANNER = "planner"
PAIR = 2

Spots = Mapping[int, Spot | None]
"""Job -> machine and mask of its GPUs; None where it was refused."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """What comes and goes, in order, on which cluster."""

    cluster: LinkCluster
    sizes: tuple[int, ...]
    """Of each job, GPUs."""
    events: tuple[tuple[int, bool], ...]
    """(job, whether it comes)."""

    def pairs_pct(self, spots: Spots) -> float:
        """Return how many of the accepted jobs of two GPUs got two that are joined, %."""
        taken = [spot for job, spot in spots.items() if spot is not None and self.sizes[job] == PAIR]
        return 100 * sum(self._is_joined(spot) for spot in taken) / len(taken)

    def _is_joined(self, spot: Spot) -> bool:
        node, mask = spot
        one, other = (at for at in range(mask.bit_length()) if mask >> at & 1)
        return self.cluster.machines[node].nvlink.matrix[one][other] > 0


def recorded(nodes: int = NODES, arrivals: int = ARRIVALS, seed: int = SEED) -> Recorded:
    """Return the arrivals of suite L on so many nodes, and the departures up to the last of them."""
    whole = link_cluster(CLUSTER)
    cluster = replace(
        whole,
        node_names=tuple(sorted(names_by_machine({MACHINE: nodes})[MACHINE])),
        machines=whole.machines[:nodes],
        ratio=whole.ratio[:nodes],
    )
    drawn = link_arrivals(cluster, LOAD, seed, arrivals)
    times = [(time, 1, job) for job, time in enumerate(drawn.time.tolist())]
    ends = (drawn.time + drawn.life).tolist()
    times += [(time, 0, job) for job, time in enumerate(ends) if time <= times[-1][0]]
    events = tuple((job, bool(comes)) for _, comes, job in sorted(times))
    return Recorded(cluster, tuple(drawn.kind.tolist()), events)


def planned(recording: Recorded, allocator: Allocator | None = None) -> Spots:
    """Return where the planner, or a peer of suite L, places the jobs."""
    decides = allocator or OurLinks(recording.cluster)
    spots: dict[int, Spot | None] = {}
    for job, comes in recording.events:
        if comes:
            spots[job] = decides.take(job, recording.sizes[job])
        elif spots[job] is not None:
            decides.release(job)
    return spots


def mix_file(folder: Path) -> Path:
    """Write the shares of sizes as a pod list: what the planner knows of the jobs, for the scheduler."""
    sizes = [size for size, share in zip(SIZES, SHARES, strict=True) for _ in range(round(100 * share))]
    rows = [f"job-{at},0,0,{size},1000" for at, size in enumerate(sizes)]
    path = folder / "mix.csv"
    path.write_text("\n".join(["name,cpu_milli,memory_mib,num_gpu,gpu_milli", *rows]) + "\n")
    return path


def replayed(kubeconfig: Path, namespace: str, scheduler: str, recording: Recorded) -> Spots:
    """Return where a scheduler places the jobs, as real pods with named claims. All are gone in the end."""
    return asyncio.run(_replayed(kubeconfig, namespace, scheduler, recording))


async def _replayed(kubeconfig: Path, namespace: str, scheduler: str, recording: Recorded) -> Spots:
    spots: dict[int, Spot | None] = {}
    async with in_order(kubeconfig, namespace, scheduler) as queue:
        for job, comes in recording.events:
            name = f"{scheduler}-{job}"
            if comes:
                spots[job] = await _arrive(queue, name, scheduler, recording, job)
            elif spots[job] is not None:
                await queue.withdraw(name)
        for job in [job for job, spot in spots.items() if spot is not None and (job, False) not in recording.events]:
            await queue.withdraw(f"{scheduler}-{job}")
    return spots


async def _arrive(queue: InOrder, name: str, scheduler: str, recording: Recorded, job: int) -> Spot | None:
    claim = objects.claim(queue.namespace, name, DRIVER_NAME, count=recording.sizes[job])
    await queue.offer(objects.pod(queue.namespace, name, claim=name, scheduler=scheduler), claim)
    node = await queue.release(name)
    if not node:
        await queue.client.delete("ResourceClaim", queue.namespace, name)
        return None
    held = holds(await queue.client.get("ResourceClaim", queue.namespace, name))
    return recording.cluster.node_names.index(node), sum(1 << gpu for _, gpu in held)


def measured(recording: Recorded, schedulers: Sequence[str] = (OURS, DEFAULT)) -> dict[str, Spots]:
    """Replay a recording through the planner and through schedulers, on one control plane of its own."""
    found = {PLANNER: planned(recording)}
    with TemporaryDirectory() as folder:
        flags = (f"--mix={mix_file(Path(folder))}",)
        with running(MACHINE, len(recording.cluster.node_names), flags=flags) as rig:
            for each in schedulers:
                found[each] = replayed(rig.plane.kubeconfig, "default", each, recording)
                print(f"{each}: {recording.pairs_pct(found[each]):.1f} % of the pods with two GPUs", flush=True)
    return found


def differing(one: Spots, other: Spots) -> list[int]:
    """Return the jobs that are not on the same GPUs."""
    return [job for job in one if one[job] != other[job]]


def report(recording: Recorded, found: Mapping[str, Spots]) -> None:
    """Print the shares side by side, and which placements of ours are not the planner's."""
    jobs = len(recording.sizes)
    print(f"{len(recording.cluster.node_names)} x {MACHINE}, {jobs} arrivals, load {LOAD}")
    for name, spots in found.items():
        accepted = sum(spot is not None for spot in spots.values())
        pairs = recording.pairs_pct(spots)
        print(f"  {name:20} {pairs:6.2f} % of two-GPU pods on a pair, {accepted} jobs accepted")
    if {OURS, DEFAULT} <= found.keys():
        ratio = recording.pairs_pct(found[OURS]) / recording.pairs_pct(found[DEFAULT])
        print(f"  ours over the default scheduler: {ratio:.2f} x")
    if OURS in found:
        differ = differing(found[PLANNER], found[OURS])
        print(f"  placements of ours that are not the planner's: {len(differ)}", *differ[:5])
