"""Objects of a cluster, built as the API server would send them and decoded as the product decodes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from dra_driver.publish import resource_slices
from dra_driver.simulated import simulated_gpus
from kube.objects import Node, Pod, ResourceClaim, ResourceSlice
from topology.catalog import machine
from topology.modes import MigMode, Sharing

T = TypeVar("T")
Json = dict[str, Any]
DRIVER = "gpu.dovetail.dev"


def decoded(found: Json, kind: type[T]) -> T:
    """Return an object as it comes out of the API server's JSON."""
    return msgspec.json.decode(msgspec.json.encode(found), type=kind)


def slice_of(
    name: str,
    devices: Sequence[Json] = (),
    *,
    driver: str = DRIVER,
    pool: str = "pool",
    generation: int = 1,
    count: int = 1,
    counters: Sequence[Json] = (),
    **where: Any,
) -> ResourceSlice:
    """Return a resource slice; without `where` it is of node-1."""
    spec: Json = {
        "driver": driver,
        "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
        **(where or {"nodeName": "node-1"}),
    }
    spec |= {"devices": list(devices)} if devices else {}
    spec |= {"sharedCounters": list(counters)} if counters else {}
    return decoded({"metadata": {"name": name}, "spec": spec}, ResourceSlice)


def device(name: str, attributes: Json | None = None, **fields: Any) -> Json:
    """Return a device of a slice; attributes as plain Python values."""
    return {"name": name, "attributes": {key: _attribute(value) for key, value in (attributes or {}).items()}, **fields}


def _attribute(value: object) -> Json:
    match value:
        case bool():
            return {"bool": value}
        case int():
            return {"int": value}
        case dict():
            return value
    return {"string": str(value)}


def machine_slices(
    name: str,
    node: str = "node-1",
    *,
    mig_mode: MigMode = MigMode.DISABLED,
    sharing: Iterable[Sharing] = (),
    generation: int = 1,
) -> list[ResourceSlice]:
    """Return what our driver publishes on a node that is a machine of the catalog."""
    gpus = simulated_gpus(machine(name), node, mig_mode=mig_mode, sharing=tuple(sharing))
    return [decoded(each, ResourceSlice) for each in resource_slices(gpus, generation=generation)]


def node(name: str = "node-1", cpu: str = "96", memory: str = "1Ti", **labels: str) -> Node:
    """Return a node; keywords are labels."""
    status = {"allocatable": {"cpu": cpu, "memory": memory}}
    return decoded({"metadata": {"name": name, "uid": f"uid-{name}", "labels": labels}, "status": status}, Node)


def pod(
    name: str = "pod-1",
    *,
    on: str = "",
    cpu: str = "1",
    memory: str = "1Gi",
    phase: str = "Pending",
    claims: Sequence[str] = (),
    **spec: Any,
) -> Pod:
    """Return a pod of namespace `default` with one container; `claims` by name of their objects."""
    body: Json = {
        "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": memory}}}],
        "resourceClaims": [{"name": each, "resourceClaimName": each} for each in claims],
        **({"nodeName": on} if on else {}),
        **spec,
    }
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return decoded({"metadata": metadata, "spec": body, "status": {"phase": phase}}, Pod)


def claim(
    name: str = "claim-1",
    results: Sequence[Json] = (),
    *,
    on: str = "node-1",
    requests: Sequence[Json] = (),
    uid: str = "",
    namespace: str = "default",
    reserved_for: Sequence[str] = (),
) -> ResourceClaim:
    """Return a claim, allocated on node `on` where there are `results`."""
    asked = list(requests) or [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]
    status: Json = {}
    if results:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [on]}]}
        status = {
            "allocation": {
                "devices": {"results": list(results)},
                "nodeSelector": {"nodeSelectorTerms": [term]},
            },
            "reservedFor": [{"resource": "pods", "name": each, "uid": f"uid-{each}"} for each in reserved_for],
        }
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}"}
    return decoded({"metadata": metadata, "spec": {"devices": {"requests": asked}}, "status": status}, ResourceClaim)


def result(device: str, pool: str = "node-1/gpu.dovetail.dev", *, driver: str = DRIVER, **fields: Any) -> Json:
    """Return a device in an allocation."""
    return {"request": "gpu", "driver": driver, "pool": pool, "device": device, **fields}
