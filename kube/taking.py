"""Taking a snapshot of a live cluster: reads, never writes; and leaves out what decides nothing and may be secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kube.client import ApiClient
from kube.kinds import CLAIMS, CLASSES, NAMESPACES, NODES, PODS, SLICES, TAINT_RULES, TEMPLATES, Kind

Json = dict[str, Any]

KINDS: tuple[Kind[Any], ...] = (NODES, NAMESPACES, PODS, SLICES, CLAIMS, TEMPLATES, CLASSES)
"""In the order in which `kubectl get` is told to list them; taint rules, where they are served, come last."""
POD_SPEC = frozenset(
    {"nodeName", "schedulerName", "priority", "overhead", "resources", "resourceClaims", "schedulingGates"}
    | {"nodeSelector", "affinity", "tolerations"}
)
"""What of a pod's specification can matter to where it goes; commands and environment do not."""
CONTAINER = frozenset({"name", "resources", "restartPolicy"})
POD_STATUS = frozenset(
    {"phase", "conditions", "nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus"}
)
NODE_STATUS = frozenset({"capacity", "allocatable"})
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def take_snapshot(client: ApiClient) -> Json:
    """Return the objects that decisions depend on as a List, as `kubectl get -A -o json` would, without the rest."""
    items: list[Json] = []
    for kind in KINDS:
        items += [lean(each) for each in await client.list_raw(kind)]
    rules = await client.served(TAINT_RULES)
    if rules is not None:
        items += [lean(each) for each in await client.list_raw(rules)]
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}


def lean(stored: Mapping[str, Any]) -> Json:
    """Return an object without managed fields, and of pods and nodes without what nothing here reads."""
    metadata = {key: each for key, each in stored.get("metadata", {}).items() if key != "managedFields"}
    annotations = {key: each for key, each in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
    if stored.get("kind") == "Pod":
        metadata = {key: each for key, each in metadata.items() if key not in {"labels", "annotations"}}
    elif annotations:
        metadata["annotations"] = annotations
    else:
        metadata.pop("annotations", None)
    found = {**stored, "metadata": metadata}
    if stored.get("kind") == "Pod":
        found |= {"spec": _pod_spec(stored.get("spec") or {}), "status": _only(stored.get("status"), POD_STATUS)}
    elif stored.get("kind") == "Node":
        found["status"] = _only(stored.get("status"), NODE_STATUS)
    return found


def _pod_spec(spec: Mapping[str, Any]) -> Json:
    kept = _only(spec, POD_SPEC)
    for containers in ("initContainers", "containers"):
        if spec.get(containers):
            kept[containers] = [_only(each, CONTAINER) for each in spec[containers]]
    return kept


def _only(value: Mapping[str, Any] | None, names: frozenset[str]) -> Json:
    return {key: each for key, each in (value or {}).items() if key in names}
