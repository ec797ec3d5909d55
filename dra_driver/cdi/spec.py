"""A CDI spec as a value: https://github.com/cncf-tags/container-device-interface, SPEC.md, versions 0.3.0 to 0.8.0.

Pure. What all devices need stands once at the top, where a runtime applies it as soon as one device is used; what is a
device's own stands with it, so that a container of one request sees no device of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dra_driver.cdi.model import CdiContentError, CdiDevice, DeviceNode, Edits, Mount
from dra_driver.cdi.names import KIND

READ_ONLY = ("ro", "nosuid", "nodev", "rbind", "rprivate")
WRITABLE = ("rw", "nosuid", "nodev", "noexec", "rbind", "rprivate")
MAX_ANNOTATIONS = 256 << 10

Json = dict[str, Any]


def spec_for(devices: Sequence[CdiDevice], common: Edits, annotations: Mapping[str, str]) -> Json:
    """Return the spec of a claim. Raises CdiContentError where no runtime would take it."""
    names = [device.name for device in devices]
    if not names or len(set(names)) != len(names):
        raise CdiContentError(f"CDI devices: must be some, each once; are {', '.join(names)[:200] or 'none'}")
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        raise CdiContentError(f"CDI annotations: are more than {MAX_ANNOTATIONS} bytes")
    spec: Json = {"cdiVersion": "", "kind": KIND}
    if annotations:
        spec["annotations"] = dict(sorted(annotations.items()))
    spec["devices"] = [{"name": device.name, "containerEdits": _edits(device.edits)} for device in devices]
    if edits := _edits(common):
        spec["containerEdits"] = edits
    spec["cdiVersion"] = lowest_version(spec)
    return spec


def lowest_version(spec: Json) -> str:
    """Return the lowest CDI version that has all that the spec uses: a runtime refuses what is newer than itself."""
    if spec.get("annotations"):
        return "0.6.0"
    every = [spec.get("containerEdits", {}), *(device["containerEdits"] for device in spec["devices"])]
    if any("hostPath" in node for edits in every for node in edits.get("deviceNodes", ())):
        return "0.5.0"
    if any(not device["name"][0].isalpha() for device in spec["devices"]):
        return "0.5.0"
    return "0.3.0"


def encode(spec: Json) -> bytes:
    """Return the file's content; the same spec gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n"


def _edits(edits: Edits) -> Json:
    parts: Json = {
        "env": [f"{variable.name}={variable.value}" for variable in edits.env],
        "deviceNodes": [_node(node) for node in edits.nodes],
        "mounts": [_mount(mount) for mount in edits.mounts],
    }
    return {key: value for key, value in parts.items() if value}


def _node(node: DeviceNode) -> Json:
    """Return a node with its numbers: the runtime makes it from them, even where the host has none."""
    host = {"hostPath": node.host_path} if node.host_path and node.host_path != node.path else {}
    return {"path": node.path, **host, "type": "c", "major": node.major, "minor": node.minor, "permissions": "rw"}


def _mount(mount: Mount) -> Json:
    options = list(WRITABLE if mount.writable else READ_ONLY)
    return {"hostPath": mount.host_path, "containerPath": mount.container_path, "options": options}
