"""What still counts of a claim that does not decode: the devices it holds must not look free.

Nobody can join it: no node meets its selector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("driver", "pool", "device")
_METADATA = ("name", "namespace", "uid", "resourceVersion")


def held_devices(stored: object) -> dict[str, Any] | None:
    """Return a claim with the metadata that tells which it is, and its devices; None of one that holds none.

    A share is returned as the whole device: how much it takes may be what cannot be read.
    """
    allocation = _at(stored, "status", "allocation")
    results = _at(allocation, "devices", "results")
    metadata = _at(stored, "metadata")
    if not isinstance(results, list) or not isinstance(metadata, Mapping):
        return None
    held = [
        {"request": "", **{name: each[name] for name in _NAMES}}
        for each in results
        if isinstance(each, Mapping)
        and all(isinstance(each.get(name), str) for name in _NAMES)
        and each.get("adminAccess") is not True
    ]
    if not held:
        return None
    identity = {name: metadata[name] for name in _METADATA if name in metadata}
    nowhere: dict[str, Any] = {"nodeSelectorTerms": []}
    return {
        "metadata": identity,
        "status": {"allocation": {"devices": {"results": held}, "nodeSelector": nowhere}},
    }


def _at(value: object, *path: str) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
