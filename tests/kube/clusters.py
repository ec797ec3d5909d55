"""Clusters of simulated machines, what is asked of them, and what they say is left."""

from __future__ import annotations

from typing import Any

import msgspec

from kube.cluster import Cluster, ClusterSettings
from kube.deciding import Decided
from kube.objects import DeviceClass, ResourceClaim, ResourceSlice
from packing.model import NodeName
from tests.kube.builders import DRIVER, claim, decoded, machine_slices, node, pod, result
from topology.modes import MigMode, Sharing

PAIR = ["gpu-2", "gpu-3"]
"""The pair that the policy takes first on an empty DGX-1 V100: two links."""
REST = [0, 1, 4, 5, 6, 7]
NODE_NAMES = ("node-1", "node-2")
CLASSES: dict[str, str] = {"whole": "gpu", "mig": "mig", "share": "share"}


def device_class(name: str, kind: str) -> DeviceClass:
    expression = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == '{kind}'"
    spec = {"selectors": [{"cel": {"expression": expression}}]}
    return decoded({"metadata": {"name": name}, "spec": spec}, DeviceClass)


def slices(name: str = "node-1", machine: str = "dgx1-v100") -> list[ResourceSlice]:
    return machine_slices(machine, name)


def cluster(nodes: tuple[str, ...] = NODE_NAMES, machine: str = "dgx1-v100", **settings: Any) -> Cluster:
    made = Cluster(ClusterSettings(**settings))
    for kind in CLASSES.items():
        made.put(device_class(*kind))
    for name in nodes:
        made.put(node(name))
        for each in machine_slices(machine, name, mig_mode=MigMode.DYNAMIC, sharing=tuple(Sharing)):
            made.put(each)
    return made


def asking(count: int = 1, name: str = "new", kind: str = "whole", **exactly: Any) -> ResourceClaim:
    request = {"name": "gpu", "exactly": {"deviceClassName": kind, "count": count, **exactly}}
    return claim(name, requests=[request])


def decide(on: Cluster, count: int = 1, among: tuple[str, ...] | None = None, **pod_fields: Any) -> Decided:
    on.put(asking(count))
    return on.decide(on.resolve(pod("new", claims=["new"], **pod_fields)), among)


def placed(answer: Decided) -> tuple[str, list[str]] | None:
    if answer.allocation is None:
        return None
    return answer.allocation.node, sorted(each.device.name for given in answer.allocation.claims for each in given)


def allocated(name: str, *gpus: int, on: str = "node-1", **fields: Any) -> ResourceClaim:
    return claim(name, [result(f"gpu-{gpu}", f"{on}/{DRIVER}") for gpu in gpus], on=on, **fields)


def newer(found: Any, version: int) -> Any:
    metadata = msgspec.structs.replace(found.metadata, resource_version=str(version))
    return msgspec.structs.replace(found, metadata=metadata)


def idle(on: Cluster, name: str = "node-1") -> list[int]:
    """Return the GPUs of a node that nobody uses."""
    packed = on.packed()
    mask = int(packed.ledger.usage.arrays.nodes[packed.inventory.fabric.index[NodeName(name)], 2])
    return [gpu for gpu in range(16) if mask >> gpu & 1]


def left(on: Cluster, name: str = "node-1") -> tuple[int, int]:
    """Return the millicores and MiB of a node that are left."""
    packed = on.packed()
    row = packed.ledger.usage.arrays.nodes[packed.inventory.fabric.index[NodeName(name)]]
    return int(row[0]), int(row[1])
