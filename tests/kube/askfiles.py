"""Snapshots and questions as files have them, for tests of what people ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.simulated import simulated_gpus
from kube.cluster import ClusterSettings
from kube.fitfile import SnapshotCluster
from kube.fitting import Fit
from kube.question import read_question
from topology.catalog import machine
from topology.modes import MigMode, Sharing

Json = dict[str, Any]
PAIRS = "a100-8-pcie-nvlink-pairs"
ATTRIBUTES = f'device.attributes["{DRIVER_NAME}"]'


def device_class(name: str, kind: str, *, driver: str = DRIVER_NAME, **spec: Any) -> Json:
    expressions = [f'device.driver == "{driver}"']
    expressions += [f'{ATTRIBUTES}.type == "{kind}"'] if kind else []
    selectors = [{"cel": {"expression": each}} for each in expressions]
    return {"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": selectors, **spec}}


CLASSES = (
    device_class(DRIVER_NAME, "gpu", extendedResourceName="example.com/gpu"),
    device_class("mig", "mig"),
    device_class("share", "share"),
)


def slices(*nodes: str, mode: MigMode = MigMode.DISABLED, sharing: Iterable[Sharing] = ()) -> list[Json]:
    return [
        each
        for node in nodes
        for each in resource_slices(simulated_gpus(machine(PAIRS), node, mig_mode=mode, sharing=tuple(sharing)))
    ]


def nics(node: str, *roots: str) -> Json:
    root = "resource.kubernetes.io/pcieRoot"
    devices = [{"name": f"nic-{at}", "attributes": {root: {"string": each}}} for at, each in enumerate(roots)]
    spec: Json = {"driver": "nic.example.com", "nodeName": node, "devices": devices}
    spec["pool"] = {"name": f"{node}-nics", "generation": 1, "resourceSliceCount": 1}
    return {"kind": "ResourceSlice", "metadata": {"name": f"{node}-nics"}, "spec": spec}


def request(name: str = "gpu", *expressions: str, of: str = DRIVER_NAME, **fields: Any) -> Json:
    if expressions:
        fields["selectors"] = [{"cel": {"expression": each}} for each in expressions]
    return {"name": name, "exactly": {"deviceClassName": of, **fields}}


def claim(name: str, *requests: Json, devices: Sequence[str] = (), node: str = "", user: str = "", **spec: Any) -> Json:
    found: Json = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": list(requests) or [request()], **spec}},
    }
    if devices:
        found["metadata"]["uid"] = f"uid-{name}"
        results = [
            {"request": "gpu", "driver": DRIVER_NAME, "pool": f"{node}/{DRIVER_NAME}", "device": each}
            for each in devices
        ]
        reserved = [{"resource": "pods", "name": user or f"user-of-{name}", "uid": f"uid-user-{name}"}]
        found["status"] = {"allocation": {"devices": {"results": results}}, "reservedFor": reserved}
    return found


def pod(name: str, *claims: str, template: str = "", **spec: Any) -> Json:
    entries = [{"name": each, "resourceClaimName": each} for each in claims]
    entries += [{"name": "made", "resourceClaimTemplateName": template}] if template else []
    body = {"containers": [{"name": "main"}], "resourceClaims": entries, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": body}


def node(name: str, *, cpu: str = "8", taints: Sequence[Json] = (), **labels: str) -> Json:
    return {
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "10"}},
    }


def snapshot(*items: Json, drivers: Sequence[str] = (DRIVER_NAME,)) -> SnapshotCluster:
    document = {"kind": "List", "items": [*CLASSES, *items]}
    return SnapshotCluster(document, "snapshot.json", ClusterSettings(drivers=tuple(drivers)))


def ask(cluster: SnapshotCluster, *question: Json, on: str | None = None) -> Fit:
    return cluster.ask(read_question(question, "question.yaml"), node=on)


def devices(answer: Fit) -> list[list[str]]:
    return [[each["device"] for each in found["allocation"]["devices"]["results"]] for found in answer.claims]
