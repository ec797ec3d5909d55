"""When two specs of a slice mean the same, which differences matter together, and what a server left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]
TaintKey = tuple[str, str, str, str]
"""Device, key, value, effect."""

_WHERE = {"nodeName", "nodeSelector", "allNodes"}
SPEC_FIELDS = frozenset(
    _WHERE
    | {
        "driver",
        "pool",
        "devices",
        "perDeviceNodeSelection",
        "sharedCounters",
        "partitionTypeAttribute",
        "skipNodeOperations",
    }
)
DEVICE_FIELDS = frozenset(
    _WHERE
    | {"name", "attributes", "capacity", "consumesCounters", "taints", "allowMultipleAllocations"}
    | {"bindsToNode", "bindingConditions", "bindingFailureConditions"}
    | {"nodeAllocatableResourceMappings", "nodeAllocatableResources"}
)
"""As of Kubernetes 1.37. A field that came later is a default of the server's; to write against it would never end."""

VALUES = frozenset({"bool", "int", "string", "version"})
"""The value of an attribute is under one of these."""
_EMPTY: tuple[object, ...] = ("", [], {})

FEATURE_OF = {
    "sharedCounters": "counters",
    "consumesCounters": "counters",
    "allowMultipleAllocations": "shares",
    "requestPolicy": "shares",
    "taints": "taints",
}
"""Field -> what the API server lacks that drops it (dra_driver/publish/features.py)."""


def plain(spec: Json) -> Json:
    """Return a spec without generation, times, empty and later fields: two that mean the same are equal."""
    pool = {key: value for key, value in (spec.get("pool") or {}).items() if key != "generation"}
    known = {key: value for key, value in spec.items() if key in SPEC_FIELDS}
    known["devices"] = [_plain_device(device) for device in spec.get("devices") or ()]
    found = _filled(known | {"pool": pool})
    assert isinstance(found, dict)
    return found


def structure(spec: Json) -> Json:
    """Return what of a spec must change in all slices of a pool at once: all but attributes and taints.

    A pool whose slices differ in age by these alone is as good as the old one or the new: each device is judged by
    itself.
    """
    devices = [
        {key: value for key, value in device.items() if key not in ("attributes", "taints")}
        for device in spec.get("devices") or ()
    ]
    return plain(spec | {"devices": devices})


def times(specs: Iterable[Json]) -> dict[TaintKey, str]:
    """Return since when each taint of each device is there."""
    return {key: taint["timeAdded"] for key, taint in _taints(specs) if taint.get("timeAdded")}


def still(since: Mapping[TaintKey, str], specs: Iterable[Json]) -> dict[TaintKey, str]:
    """Return the times in `since` of the taints in `specs`."""
    return {key: since[key] for key, _ in _taints(specs) if key in since}


def _taints(specs: Iterable[Json]) -> Iterator[tuple[TaintKey, Json]]:
    for spec in specs:
        for device in spec.get("devices") or ():
            for taint in device.get("taints") or ():
                yield _key(device, taint), taint


def with_times(spec: Json, since: Mapping[TaintKey, str]) -> Json:
    """Return `spec` with taints that keep the time since which they are there; the API server dates the others."""
    if not any(device.get("taints") for device in spec.get("devices") or ()):
        return spec

    def dated(device: Json) -> Json:
        taints = [
            taint | ({"timeAdded": since[key]} if (key := _key(device, taint)) in since else {})
            for taint in device.get("taints") or ()
        ]
        return device | ({"taints": taints} if taints else {})

    return spec | {"devices": [dated(device) for device in spec["devices"]]}


def dropped(sent: Json, stored: Json) -> frozenset[str]:
    """Return the fields that were sent and are not stored; names, or paths where the value is another."""
    return frozenset(_dropped(plain(sent), plain(stored), "spec"))


def _dropped(sent: object, stored: object, path: str) -> Iterator[str]:
    if isinstance(sent, dict):
        held = stored if isinstance(stored, dict) else {}
        for key, value in sent.items():
            if key not in held:
                yield key if key in FEATURE_OF else f"{path}.{key}"
            else:
                yield from _dropped(value, held[key], f"{path}.{key}")
    elif isinstance(sent, list) and isinstance(stored, list) and len(sent) == len(stored):
        for one, other in zip(sent, stored, strict=True):
            yield from _dropped(one, other, f"{path}[]")
    elif sent != stored:
        yield path


def _plain_device(device: Json) -> Json:
    known = {key: value for key, value in device.items() if key in DEVICE_FIELDS}
    if known.get("taints"):
        known["taints"] = [_without(taint, "timeAdded") for taint in known["taints"]]
    return known


def _without(values: Json, name: str) -> Json:
    return {key: value for key, value in values.items() if key != name}


def _key(device: Json, taint: Json) -> TaintKey:
    return device["name"], taint["key"], taint.get("value") or "", taint["effect"]


def _filled(value: object) -> object:
    """Drop what means the same when it is absent: nothing, empty texts, maps and lists, and switches that are off."""
    if isinstance(value, list):
        return [_filled(one) for one in value]
    if not isinstance(value, dict) or value.keys() <= VALUES:
        return value  # of an attribute `false` and "" are values
    cleaned = {key: _filled(one) for key, one in value.items()}
    return {key: one for key, one in cleaned.items() if one is not None and one is not False and one not in _EMPTY}
