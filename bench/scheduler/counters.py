"""S2: seconds per pod where every MIG placement of every GPU is a device, and counters keep them apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.scheduler.rig import DEFAULT, OURS, running
from dovetail.sandbox_cmd_gpus import names_by_machine
from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from sandbox.load.result import LoadResult
from sandbox.load.run import burst
from sandbox.load.workload import Workload
from sandbox.objects import Manifest
from topology.catalog import machine
from topology.modes import MigMode

MACHINE = "dgx-a100-80"
CLASS = "mig.gpu.dovetail.dev"
PROFILE = 'device.attributes["gpu.dovetail.dev"].profile == "1g.10gb"'
TIMEOUT_S = 1800.0


def partitions(nodes: Mapping[str, int], uids: Mapping[str, str]) -> Iterator[Manifest]:
    """Publish whole GPUs and all MIG placements, no shares."""
    for name, names in names_by_machine(nodes).items():
        for node in names:
            owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uids[node], "controller": True}
            gpus = simulated_gpus(machine(name), node, mig_mode=MigMode.DYNAMIC, sharing=())
            for each in resource_slices(gpus):
                each["metadata"]["ownerReferences"] = [owner]
                yield each


def measured(nodes: int, pods: int, default_pods: int) -> tuple[LoadResult, LoadResult]:
    """Return the burst of ours and that of the default scheduler, in this order on one control plane."""
    with running(MACHINE, nodes, slices=partitions) as rig:
        found = []
        for name, number in ((OURS, 10), (OURS, pods), (DEFAULT, default_pods)):
            load = Workload(
                namespace="default",
                name="partitions",
                pods=number,
                scheduler=name,
                device_class=CLASS,
                selectors=(PROFILE,),
            )
            result = burst(rig.plane.kubeconfig, load, timeout_s=TIMEOUT_S)
            assert not result.doubled
            print(f"{nodes} nodes, {name}: {result.as_dict()}", flush=True)
            found.append(result)
    return found[1], found[2]


def report(ours: LoadResult, default: LoadResult) -> None:
    """Print seconds per pod and their ratio."""
    took_s = {each.scheduler: each.last_bound_s / each.pods for each in (ours, default)}
    print({name: round(each, 4) for name, each in took_s.items()}, f"ratio {took_s[DEFAULT] / took_s[OURS]:.0f}")
