"""What a runtime takes for a CDI file, read strictly, and what a file of ours may hold beyond that: nothing.

From SPEC.md of the Container Device Interface (0.3.0 to 0.8.0), and from what its Go library checks in a file it loads
(api/validator, specs-go/version.go). Written anew: the published schema lets unknown fields pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import jsonschema

Json = dict[str, Any]

_STRINGS: Json = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_NODE: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path", "type", "major", "minor", "permissions"],
    "properties": {
        "path": {"type": "string", "pattern": "^/dev/[a-zA-Z0-9/_-]+$"},
        "hostPath": {"type": "string", "pattern": "^/"},
        "type": {"const": "c"},
        "major": {"type": "integer", "minimum": 1, "maximum": 4095},
        "minor": {"type": "integer", "minimum": 0, "maximum": 1048575},
        "permissions": {"const": "rw"},
    },
}
_MOUNT: Json = {
    "type": "object",
    "additionalProperties": False,
    "required": ["hostPath", "containerPath", "options"],
    "properties": {
        "hostPath": {"type": "string", "pattern": "^/."},
        "containerPath": {"type": "string", "pattern": "^/."},
        "options": _STRINGS,
    },
}
_EDITS: Json = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "env": _STRINGS,
        "deviceNodes": {"type": "array", "items": _NODE, "minItems": 1},
        "mounts": {"type": "array", "items": _MOUNT, "minItems": 1},
    },
}
SCHEMA: Json = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "additionalProperties": False,
    "required": ["cdiVersion", "kind", "devices"],
    "properties": {
        "cdiVersion": {"enum": ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0"]},
        "kind": {"const": "k8s.gpu.dovetail.dev/claim"},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        "devices": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "containerEdits"],
                "properties": {"name": {"type": "string"}, "containerEdits": _EDITS},
            },
        },
        "containerEdits": _EDITS,
    },
}
_VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
_ENV_NAMES = re.compile(r"NVIDIA_VISIBLE_DEVICES|CUDA_MPS_[A-Z_]+|DOVETAIL_[A-Z0-9_]+")
_DEVICE = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.:-]*[a-zA-Z0-9])?")
_ANNOTATION = re.compile(r"[a-z0-9.-]{1,253}/[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?")


def faults(spec: Any) -> list[str]:
    """All that is wrong with a spec; empty for one that every runtime takes and that hands out nothing unexpected."""
    found = [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(spec)]
    return found or [*_of_names(spec), *_of_edits(spec), *_of_version(spec)]


def every_edit(spec: Json) -> list[Json]:
    return [spec.get("containerEdits", {}), *(device["containerEdits"] for device in spec["devices"])]


def applied(spec: Json, *names: str) -> Json:
    """What a container gets that is handed these devices: the common edits, then each device's own."""
    chosen = [device["containerEdits"] for device in spec["devices"] if device["name"] in names]
    assert len(chosen) == len(names)
    edits = [spec.get("containerEdits", {}), *chosen]
    return {key: [each for part in edits for each in part.get(key, [])] for key in ("env", "deviceNodes", "mounts")}


def device_paths(spec: Json, *names: str) -> set[str]:
    return {node["path"] for node in applied(spec, *names)["deviceNodes"]}


def _of_names(spec: Json) -> Iterator[str]:
    names = [device["name"] for device in spec["devices"]]
    if len(set(names)) != len(names):
        yield "devices: a name twice"
    yield from (f"devices: name {name!r}" for name in names if not _DEVICE.fullmatch(name))
    annotations = spec.get("annotations", {})
    yield from (f"annotations: key {key!r}" for key in annotations if not _ANNOTATION.fullmatch(key))
    if sum(len(key) + len(value) for key, value in annotations.items()) > 256 * 1024:
        yield "annotations: more than 256 KiB"


def _of_edits(spec: Json) -> Iterator[str]:
    for edits in every_edit(spec):
        for variable in edits.get("env", ()):
            name, equals, value = variable.partition("=")
            if not equals or not _ENV_NAMES.fullmatch(name) or not value.isprintable() or not value.isascii():
                yield f"env: {variable!r}"
        for mount in edits.get("mounts", ()):
            yield from (f"mounts: {path!r}" for path in (mount["hostPath"], mount["containerPath"]) if not _plain(path))
            # Writable only where nothing can be run from.
            if "ro" not in mount["options"] and "noexec" not in mount["options"]:
                yield f"mounts: {mount['containerPath']} is writable and may be run from"
            if not {"nosuid", "nodev"} <= set(mount["options"]):
                yield f"mounts: {mount['containerPath']} without nosuid, nodev"
        for node in edits.get("deviceNodes", ()):
            yield from (
                f"deviceNodes: {path!r}" for path in (node["path"], node.get("hostPath", "/x")) if not _plain(path)
            )


def _of_version(spec: Json) -> Iterator[str]:
    """The version must be the lowest that has all fields used (specs-go/version.go)."""
    needed = "0.3.0"
    nodes = [node for edits in every_edit(spec) for node in edits.get("deviceNodes", ())]
    if any("hostPath" in node for node in nodes) or any(not each["name"][0].isalpha() for each in spec["devices"]):
        needed = "0.5.0"
    if "annotations" in spec or "." in spec["kind"].partition("/")[2]:
        needed = "0.6.0"
    if spec["cdiVersion"] != needed:
        yield f"cdiVersion: is {spec['cdiVersion']}, needed is {needed}"


def _plain(path: str) -> bool:
    return path.isprintable() and ".." not in path.split("/") and str(PurePosixPath(path)) == path
