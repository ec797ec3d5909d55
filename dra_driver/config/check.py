"""Checks the configuration in manifests before a cluster sees them: what the node would refuse is told here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dra_driver.config.parse import ConfigError, parse, settings
from dra_driver.config.schema import GpuConfig
from kube.documents import read_documents, stored_objects
from kube.linkwish import CONFIG_DRIVER, KIND
from topology.errors import InvalidInputError

MAX_FILE_BYTES = 16 << 20
_PATHS = {
    "ResourceClaim": ("spec", "devices", "config"),
    "ResourceClaimTemplate": ("spec", "spec", "devices", "config"),
    "DeviceClass": ("spec", "config"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one configuration. `problem` and `remedy` are empty where it is good."""

    object: str
    """Kind and name."""
    config: str
    """Where it stands in the object, `spec.devices.config[0]`; empty for a GpuConfig by itself."""
    path: str = "$"
    problem: str = ""
    remedy: str = ""
    means: str = ""
    """What a good one comes to."""


def check(content: bytes, source: str) -> tuple[Finding, ...]:
    """Return one finding for each configuration for us in a file of objects or bare configurations, in its order.

    Objects of other kinds and configurations for other drivers are passed over. Raises InvalidInputError for what is no
    JSON, YAML or object at all.
    """
    _check_keys(content, source)
    found = stored_objects(read_documents(content, source), source)
    return tuple(finding for kind, stored in found for finding in _of_object(kind, stored))


def _of_object(kind: str, stored: Mapping[str, Any]) -> Iterator[Finding]:
    if kind == KIND or str(stored.get("apiVersion", "")).startswith(f"{CONFIG_DRIVER}/"):
        yield _finding(kind, "", stored)
        return
    steps = _PATHS.get(kind)
    if steps is None:
        return
    metadata = stored.get("metadata")
    named = metadata if isinstance(metadata, Mapping) else {}
    name = "/".join(str(named[each]) for each in ("namespace", "name") if named.get(each))
    where = ".".join(steps)
    for at, entry in enumerate(_listed(stored, steps)):
        opaque = entry.get("opaque") if isinstance(entry, Mapping) else None
        if isinstance(opaque, Mapping) and opaque.get("driver") == CONFIG_DRIVER:
            yield _finding(f"{kind} {name}".strip(), f"{where}[{at}]", opaque.get("parameters"))


def _listed(stored: Mapping[str, Any], steps: Iterable[str]) -> list[Any]:
    there: Any = stored
    for step in steps:
        there = there.get(step) if isinstance(there, Mapping) else None
    return there if isinstance(there, list) else []


def _finding(name: str, config: str, parameters: object) -> Finding:
    try:
        found = parse(parameters)
    except ConfigError as fault:
        return Finding(object=name, config=config, path=fault.path, problem=fault.problem, remedy=fault.remedy)
    return Finding(object=name, config=config, means=_meaning(found))


def _meaning(config: GpuConfig) -> str:
    """Return in words what a configuration asks for."""
    parts = []
    if config.link:
        least = f", at least {config.link.min_gbps:g} GB/s" if config.link.min_gbps else ""
        parts.append(f"links: {config.link.wish}{least}")
    if config.sharing:
        found = settings(config.sharing)
        limits = {
            "interval": str(found.interval) if config.sharing.time_slicing else None,
            "threads": found.active_thread_percentage and f"{found.active_thread_percentage} %",
            "memory": found.pinned_memory_bytes and f"{found.pinned_memory_bytes >> 20} MiB",
        }
        said = "".join(f", {name} {limit}" for name, limit in limits.items() if limit)
        parts.append(f"sharing: {found.strategy}{said}")
    return "; ".join(parts) or "nothing"


def _check_keys(content: bytes, source: str) -> None:
    """Refuse a key twice in JSON, of which decoders keep the last; in YAML the reader does."""
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in {b"{", b"["}:
        return

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInputError(source, "", f"repeats the key {twice[:80]!a}; keep one")
        return found

    try:
        json.loads(content, object_pairs_hook=once)
    except InvalidInputError:
        raise
    except (ValueError, RecursionError):
        # The reader says what is wrong, and where.
        return
