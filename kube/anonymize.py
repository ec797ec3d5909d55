"""A snapshot without the names of its owner, in which all decisions are the same.

Names, namespaces and UIDs are numbered in the order of the originals, since ties are broken by names; the same snapshot
becomes the same each time. Labels keep their equalities. Kept as they are: what a question has to name (drivers, device
classes, resources, requests), names of devices, and what has no name in it (amounts, models, topology). Kept
annotations are those that we read. Opaque parameters of other drivers are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kube.arrange import RANK
from kube.decoding import without_nulls
from kube.devices import OWN
from kube.documents import stored_objects
from kube.extended import ANNOTATION
from kube.linkwish import CONFIG_DRIVER
from kube.nodeselect import NODE_NAME_FIELD
from kube.taking import lean

Json = dict[str, Any]

KEPT_DOMAINS = ("kubernetes.io", "k8s.io", "dovetail.dev")
_PLAIN = re.compile(r"[0-9]*|true|false")
_LITERAL = re.compile(r'"([^"\\]*)"|\'([^\'\\]*)\'')
RENAMED = ("Node", "Namespace", "Pod", "ResourceSlice", "ResourceClaim", "ResourceClaimTemplate", "DeviceTaintRule")
KINDS = (*RENAMED, "DeviceClass")
CLOSED = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
"""Namespaces that every cluster has."""


class Names:
    """New names for old ones. Each sort of names is numbered by itself, in the order of the old ones."""

    def __init__(self) -> None:
        self._old: dict[str, set[str]] = {}
        self._new: dict[str, dict[str, str]] = {}

    def meet(self, sort: str, name: str) -> str:
        """Note a name before any is asked for, and return it."""
        self._old.setdefault(sort, set()).add(name)
        return name

    def of(self, sort: str, name: str) -> str:
        """Return the new name of one that was met."""
        if not name:
            return name
        known = self._new.get(sort)
        if known is None:
            old = sorted(self._old.get(sort, ()))
            width = len(str(len(old)))
            known = self._new[sort] = {each: f"{sort}-{at:0{width}d}" for at, each in enumerate(old)}
        return known[name]


def anonymized(document: object, source: str = "snapshot") -> Json:
    """Return a snapshot with other names. Raises InvalidInputError for a document that is none.

    Kinds that no decision depends on are left out.
    """
    objects = [
        {"kind": kind, **without_nulls(lean({"kind": kind, **stored}))}
        for kind, stored in stored_objects([document], source)
        if kind in KINDS
    ]
    names = Names()
    _Walk(names.meet).all(objects)
    items = _Walk(names.of).all(objects)
    return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}


class _Walk:
    """Goes through objects and renames; the first walk only learns which names there are."""

    def __init__(self, rename: Callable[[str, str], str]) -> None:
        self._rename = rename
        self._values: dict[str, str] = {}
        """Attributes that tell devices apart: old -> new, for literals in expressions."""

    def all(self, objects: Iterable[Json]) -> list[Json]:
        """Return the objects renamed. Slices come first, since expressions quote what they hold."""
        ordered = sorted(objects, key=lambda each: each["kind"] != "ResourceSlice")
        return [self._object(each) for each in ordered]

    def _object(self, stored: Json) -> Json:
        kind = stored["kind"]
        found = {
            "apiVersion": stored.get("apiVersion", "v1"),
            "kind": kind,
            "metadata": self._metadata(kind, stored.get("metadata") or {}),
        }
        spec, status = stored.get("spec") or {}, stored.get("status") or {}
        match kind:
            case "Node":
                taints = [self._taint(each) for each in spec.get("taints") or ()]
                unschedulable = {"unschedulable": True} if spec.get("unschedulable") else {}
                found |= {"spec": {"taints": taints} | unschedulable, "status": status}
            case "Pod":
                found |= {"spec": self._pod(spec), "status": self._pod_status(status)}
            case "ResourceSlice":
                found["spec"] = self._slice(spec)
            case "ResourceClaim":
                found["spec"] = {"devices": self._claim(spec.get("devices") or {})}
                found["status"] = self._claim_status(status)
            case "ResourceClaimTemplate":
                inner = (spec.get("spec") or {}).get("devices") or {}
                found["spec"] = {"spec": {"devices": self._claim(inner)}}
            case "DeviceClass":
                found["spec"] = spec | self._selectors(spec) | self._config(spec)
            case "DeviceTaintRule":
                found["spec"] = self._rule(spec)
        return found

    def _metadata(self, kind: str, metadata: Json) -> Json:
        space = metadata.get("namespace")
        name = str(metadata.get("name") or "")
        found: Json = {"name": self._name(kind, name)}
        if space:
            found["namespace"] = self._space(space)
        if metadata.get("uid"):
            found["uid"] = self._rename("uid", metadata["uid"])
        for plain in ("resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"):
            if plain in metadata:
                found[plain] = metadata[plain]
        labels = self._labels(metadata.get("labels") or {})
        annotations = {
            key: value for key, value in (metadata.get("annotations") or {}).items() if key in {RANK, ANNOTATION}
        }
        owners = [self._owner(each) for each in metadata.get("ownerReferences") or ()]
        more = {"labels": labels, "annotations": annotations, "ownerReferences": owners}
        return found | {key: value for key, value in more.items() if value}

    def _name(self, kind: str, name: str) -> str:
        if kind == "Namespace":
            return self._space(name)
        if kind not in RENAMED:
            return name
        return self._rename(kind.lower(), name)

    def _space(self, name: str) -> str:
        return name if name in CLOSED else self._rename("namespace", name)

    def _owner(self, owner: Json) -> Json:
        kind = owner.get("kind", "")
        name = str(owner.get("name") or "")
        renamed = self._name(kind, name) if kind in KINDS else self._rename("owner", name)
        found = {"apiVersion": owner.get("apiVersion", ""), "kind": kind, "name": renamed}
        found["uid"] = self._rename("uid", str(owner.get("uid") or ""))
        return found | ({"controller": True} if owner.get("controller") else {})

    def _labels(self, labels: Mapping[str, Any]) -> Json:
        return {self._key(key): self._value(key, str(value)) for key, value in labels.items()}

    def _key(self, key: str) -> str:
        domain = key.rpartition("/")[0]
        if any(domain == kept or domain.endswith(f".{kept}") for kept in KEPT_DOMAINS):
            return key
        return self._rename("label", key)

    def _value(self, key: str, value: str) -> str:
        if key == "kubernetes.io/hostname":
            return self._rename("node", value)
        if key == "kubernetes.io/metadata.name":
            return self._space(value)
        return value if _PLAIN.fullmatch(value) else self._rename("value", value)

    def _selector(self, selector: Mapping[str, Any]) -> Json:
        """Rename a node selector."""
        terms = [
            {
                part: [self._requirement(each) for each in term[part]]
                for part in ("matchExpressions", "matchFields")
                if term.get(part)
            }
            for term in selector.get("nodeSelectorTerms") or ()
        ]
        return {"nodeSelectorTerms": terms}

    def _requirement(self, requirement: Json) -> Json:
        key, values = requirement.get("key", ""), requirement.get("values") or ()
        if key == NODE_NAME_FIELD:
            return requirement | {"values": [self._rename("node", each) for each in values]}
        found = requirement | {"key": self._key(key)}
        return found | ({"values": [self._value(key, each) for each in values]} if values else {})

    def _taint(self, taint: Json) -> Json:
        found = {"key": self._key(taint.get("key", "")), "effect": taint.get("effect", "")}
        return found | ({"value": self._value("", str(taint["value"]))} if taint.get("value") else {})

    def _toleration(self, toleration: Json) -> Json:
        found = dict(toleration)
        if toleration.get("key"):
            found["key"] = self._key(toleration["key"])
        if toleration.get("value"):
            found["value"] = self._value("", str(toleration["value"]))
        return found

    def _pod(self, spec: Json) -> Json:
        found: Json = {key: spec[key] for key in ("priority", "overhead", "resources") if key in spec}
        for part in ("containers", "initContainers"):
            if spec.get(part):
                found[part] = [self._container(at, each) for at, each in enumerate(spec[part])]
        if spec.get("nodeName"):
            found["nodeName"] = self._rename("node", spec["nodeName"])
        if spec.get("nodeSelector"):
            found["nodeSelector"] = self._labels(spec["nodeSelector"])
        required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
        if required:
            found["affinity"] = {"nodeAffinity": {REQUIRED: self._selector(required)}}
        if spec.get("tolerations"):
            found["tolerations"] = [self._toleration(each) for each in spec["tolerations"]]
        if spec.get("resourceClaims"):
            found["resourceClaims"] = [self._entry(each) for each in spec["resourceClaims"]]
        if spec.get("schedulingGates"):
            found["schedulingGates"] = [{"name": f"gate-{at}"} for at, _ in enumerate(spec["schedulingGates"])]
        return found

    def _container(self, at: int, container: Json) -> Json:
        resources = dict(container.get("resources") or {})
        if resources.get("claims"):
            resources["claims"] = [each | {"name": self._rename("entry", each["name"])} for each in resources["claims"]]
        return _without(container, {"name", "resources"}) | {"name": f"container-{at}", "resources": resources}

    def _entry(self, entry: Json) -> Json:
        found = {"name": self._rename("entry", entry.get("name", ""))}
        for field, kind in (
            ("resourceClaimName", "ResourceClaim"),
            ("resourceClaimTemplateName", "ResourceClaimTemplate"),
        ):
            if entry.get(field):
                found[field] = self._name(kind, entry[field])
        return found

    def _pod_status(self, status: Json) -> Json:
        found: Json = {"phase": status.get("phase", "")}
        found["conditions"] = [
            {name: each[name] for name in ("type", "status", "reason") if name in each}
            for each in status.get("conditions") or ()
            if each.get("type") == "PodScheduled"
        ]
        if status.get("nominatedNodeName"):
            found["nominatedNodeName"] = self._rename("node", status["nominatedNodeName"])
        if status.get("resourceClaimStatuses"):
            found["resourceClaimStatuses"] = [self._entry(each) for each in status["resourceClaimStatuses"]]
        special = status.get("extendedResourceClaimStatus")
        if special:
            claim = self._name("ResourceClaim", special["resourceClaimName"])
            found["extendedResourceClaimStatus"] = {"resourceClaimName": claim, "requestMappings": []}
        return found

    def _slice(self, spec: Json) -> Json:
        pool = spec.get("pool") or {}
        found = spec | {"pool": pool | {"name": self._pool(pool.get("name", ""))}}
        found |= self._where(spec)
        found["devices"] = [self._device(each) for each in spec.get("devices") or ()]
        return found

    def _pool(self, name: str) -> str:
        return self._rename("pool", name)

    def _where(self, spec: Json) -> Json:
        found: Json = {}
        if spec.get("nodeName"):
            found["nodeName"] = self._rename("node", spec["nodeName"])
        if spec.get("nodeSelector"):
            found["nodeSelector"] = self._selector(spec["nodeSelector"])
        return found

    def _device(self, device: Json) -> Json:
        found = device | self._where(device)
        attributes = {name: self._attribute(name, each) for name, each in (device.get("attributes") or {}).items()}
        found |= {"attributes": attributes} if attributes else {}
        taints = [self._taint(each) for each in device.get("taints") or ()]
        return found | ({"taints": taints} if taints else {})

    def _attribute(self, name: str, value: Json) -> Json:
        """Rename what tells a device from all others of its kind; addresses within a machine tell nothing."""
        own = name.rpartition("/")[2]
        if own not in OWN or own in {"pciBusID", "pciAddress", "pcieRoot"}:
            return value
        found = dict(value)
        if "string" in value:
            found["string"] = self._own(value["string"])
        if "strings" in value:
            found["strings"] = [self._own(each) for each in value["strings"]]
        return found

    def _own(self, value: str) -> str:
        self._values[value] = self._rename("id", value)
        return self._values[value]

    def _claim(self, devices: Json) -> Json:
        found = dict(devices) | self._config(devices)
        found["requests"] = [self._request(each) for each in devices.get("requests") or ()]
        return found

    def _request(self, request: Json) -> Json:
        found = dict(request)
        if request.get("exactly"):
            found["exactly"] = self._specific(request["exactly"])
        if request.get("firstAvailable"):
            found["firstAvailable"] = [self._specific(each) for each in request["firstAvailable"]]
        return found

    def _specific(self, request: Json) -> Json:
        found = request | self._selectors(request)
        if request.get("tolerations"):
            found["tolerations"] = [self._toleration(each) for each in request["tolerations"]]
        return found

    def _selectors(self, spec: Json) -> Json:
        """Rename what expressions quote of the devices' own attributes."""
        if not spec.get("selectors"):
            return {}
        selectors = []
        for each in spec["selectors"]:
            expression = (each.get("cel") or {}).get("expression")
            selectors.append({"cel": {"expression": self._expression(expression)}} if expression is not None else each)
        return {"selectors": selectors}

    def _expression(self, expression: str) -> str:
        def renamed(match: re.Match[str]) -> str:
            text = match[1] if match[1] is not None else match[2]
            return f'"{self._values[text]}"' if text in self._values else match[0]

        return _LITERAL.sub(renamed, expression)

    def _config(self, spec: Json) -> Json:
        """Keep the wish for links; nobody else's parameters decide anything."""
        if not spec.get("config"):
            return {}
        config = []
        for each in spec["config"]:
            opaque = each.get("opaque")
            if opaque is None:
                config.append(each)
                continue
            parameters = opaque.get("parameters")
            ours = opaque.get("driver") == CONFIG_DRIVER and isinstance(parameters, Mapping)
            kept = {key: parameters[key] for key in ("apiVersion", "kind", "link") if key in parameters} if ours else {}
            config.append(each | {"opaque": {"driver": opaque.get("driver", ""), "parameters": kept}})
        return {"config": config}

    def _claim_status(self, status: Json) -> Json:
        found: Json = {}
        allocation = status.get("allocation")
        if allocation:
            devices = allocation.get("devices") or {}
            results = [self._result(each) for each in devices.get("results") or ()]
            found["allocation"] = {"devices": {"results": results} | self._config(devices)}
            if allocation.get("nodeSelector"):
                found["allocation"]["nodeSelector"] = self._selector(allocation["nodeSelector"])
            if allocation.get("allocationTimestamp"):
                found["allocation"]["allocationTimestamp"] = allocation["allocationTimestamp"]
        if status.get("reservedFor"):
            found["reservedFor"] = [self._user(each) for each in status["reservedFor"]]
        return found

    def _result(self, result: Json) -> Json:
        found = result | {"pool": self._pool(result.get("pool", ""))}
        if result.get("shareID"):
            found["shareID"] = self._rename("share", result["shareID"])
        if result.get("tolerations"):
            found["tolerations"] = [self._toleration(each) for each in result["tolerations"]]
        return found

    def _user(self, user: Json) -> Json:
        kind = "Pod" if user.get("resource") == "pods" else ""
        name = str(user.get("name") or "")
        renamed = self._name("Pod", name) if kind else self._rename("owner", name)
        return user | {"name": renamed, "uid": self._rename("uid", str(user.get("uid") or ""))}

    def _rule(self, spec: Json) -> Json:
        found = dict(spec)
        if spec.get("taint"):
            found["taint"] = self._taint(spec["taint"])
        selector = spec.get("deviceSelector")
        if selector:
            pool = {"pool": self._pool(selector["pool"])} if selector.get("pool") else {}
            found["deviceSelector"] = selector | pool
            found["deviceSelector"] |= self._selectors(selector)
        return found


REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _without(value: Mapping[str, Any], names: set[str]) -> Json:
    return {key: each for key, each in value.items() if key not in names}
