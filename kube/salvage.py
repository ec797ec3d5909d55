"""What still counts of a claim that does not decode: the devices it holds must not look free.

A stand-in takes its place, allocated whether or not the claim is, so that nobody allocates it; nobody can join it
either, since no node meets its selector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kube.objects_base import Metadata
from kube.objects_claims import AllocationResult

_NAMES = ("driver", "pool", "device")
_IDENTITY = ("name", "namespace", "uid", "resourceVersion")
_USER = ("apiGroup", "resource", "name", "uid")


def stand_in(stored: object) -> dict[str, Any] | None:
    """Return a claim with metadata, devices and users of one that does not decode; None where it has no metadata.

    A share is returned as the whole device: how much it takes may be what cannot be read.
    """
    metadata = _at(stored, "metadata")
    if not isinstance(metadata, Mapping):
        return None
    results = _at(stored, "status", "allocation", "devices", "results")
    held = [
        {"request": "", **{name: each[name] for name in _NAMES}}
        for each in _mappings(results)
        if all(isinstance(each.get(name), str) for name in _NAMES) and each.get("adminAccess") is not True
    ]
    users = [
        {name: each[name] for name in _USER if isinstance(each.get(name), str)}
        for each in _mappings(_at(stored, "status", "reservedFor"))
        if isinstance(each.get("uid"), str) and isinstance(each.get("name"), str)
    ]
    nowhere: dict[str, Any] = {"nodeSelectorTerms": []}
    return {
        "metadata": _readable(metadata),
        "status": {"allocation": {"devices": {"results": held}, "nodeSelector": nowhere}, "reservedFor": users},
    }


def is_stand_in(allocation: AllocationResult) -> bool:
    """Whether an allocation is that of a stand-in: the API server stores no selector without terms."""
    return allocation.node_selector is not None and not allocation.node_selector.node_selector_terms


def _readable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata without its nulls; where it does not decode, what tells which object it is."""
    found = {name: value for name, value in metadata.items() if value is not None}
    try:
        msgspec.convert(found, Metadata)
    except msgspec.ValidationError:
        return {name: found[name] for name in _IDENTITY if name in found}
    return found


def _mappings(values: object) -> list[Mapping[str, Any]]:
    return [each for each in values if isinstance(each, Mapping)] if isinstance(values, list) else []


def _at(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
