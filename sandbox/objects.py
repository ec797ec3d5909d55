"""Manifests that tests need again and again. Pure: values in, plain dictionaries out, as `kubectl apply` takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]

RESOURCE_API = "resource.k8s.io/v1"
IMAGE = "localhost/busybox:1"
"""The image that real nodes have; simulated ones run anything."""


def namespace(name: str) -> Manifest:
    """Return a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def node(name: str, *, labels: Mapping[str, str] | None = None, capacity: Mapping[str, str] | None = None) -> Manifest:
    """Return a Node with room for many small pods; `capacity` adds to or replaces its resources."""
    resources = {"cpu": "128", "memory": "1Ti", "pods": "1000", **(capacity or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "status": {"capacity": resources, "allocatable": resources},
    }


def device_class(name: str, driver: str, *selectors: str) -> Manifest:
    """Return a DeviceClass for a driver's devices that satisfy all CEL selectors."""
    expressions = [f'device.driver == "{driver}"', *selectors]
    return {
        "apiVersion": RESOURCE_API,
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}} for expression in expressions]},
    }


def device(name: str, *, attributes: Mapping[str, Manifest] | None = None, **capacity: str) -> Manifest:
    """Return a device of a resource slice: typed attributes, and capacities such as memory="80Gi"."""
    return {
        "name": name,
        "attributes": dict(attributes or {}),
        "capacity": {key: {"value": value} for key, value in capacity.items()},
    }


def resource_slice(node_name: str, driver: str, devices: Sequence[Manifest]) -> Manifest:
    """Return the one ResourceSlice of a node's pool."""
    return {
        "apiVersion": RESOURCE_API,
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node_name}-{driver}"},
        "spec": {
            "driver": driver,
            "nodeName": node_name,
            "pool": {"name": node_name, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }


def _claim_spec(class_name: str, count: int, selectors: Iterable[str]) -> Manifest:
    exactly: Manifest = {"deviceClassName": class_name, "allocationMode": "ExactCount", "count": count}
    if expressions := [{"cel": {"expression": expression}} for expression in selectors]:
        exactly["selectors"] = expressions
    return {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}


def claim(namespace: str, name: str, class_name: str, *selectors: str, count: int = 1) -> Manifest:
    """Return a ResourceClaim for `count` devices of a class."""
    return {
        "apiVersion": RESOURCE_API,
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": name},
        "spec": _claim_spec(class_name, count, selectors),
    }


def claim_template(namespace: str, name: str, class_name: str, *selectors: str, count: int = 1) -> Manifest:
    """Return a ResourceClaimTemplate: every pod gets a claim of its own."""
    return {
        "apiVersion": RESOURCE_API,
        "kind": "ResourceClaimTemplate",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"spec": _claim_spec(class_name, count, selectors)},
    }


def pod(
    namespace: str,
    name: str,
    *,
    claim: str | None = None,
    template: str | None = None,
    scheduler: str | None = None,
    command: Sequence[str] = ("sleep", "infinity"),
    **spec: object,
) -> Manifest:
    """Return a one-container Pod that uses a claim, or one made from a template; `spec` adds fields to its spec."""
    container: Manifest = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": list(command)}
    content: Manifest = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    if scheduler is not None:
        content["schedulerName"] = scheduler
    if claim is not None or template is not None:
        source = {"resourceClaimName": claim} if claim is not None else {"resourceClaimTemplateName": template}
        content["resourceClaims"] = [{"name": "gpu", **source}]
        container["resources"] = {"claims": [{"name": "gpu"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {**content, **spec},
    }


def is_running(pod: Manifest) -> bool | str:
    """Say whether a pod runs, or why not: for `Api.wait`."""
    status = pod.get("status", {})
    if status.get("phase") == "Running":
        return True
    conditions = [condition for condition in status.get("conditions", []) if condition["status"] != "True"]
    reasons = [
        f"{condition['type']}: {condition.get('message', condition.get('reason', ''))}" for condition in conditions
    ]
    waiting = [
        f"{container['name']}: {container['state']['waiting'].get('message', container['state']['waiting']['reason'])}"
        for container in status.get("containerStatuses", [])
        if "waiting" in container.get("state", {})
    ]
    return f"phase {status.get('phase')}; {'; '.join([*reasons, *waiting])}"
