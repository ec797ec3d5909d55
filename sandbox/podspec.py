"""What the kubelet makes of a pod's containers, for processes on this machine. Pure: manifests in, values out.

A container's paths, ports and address are those of a pod. Here a mounted path becomes a folder of the sandbox, a
declared port a free one, the pod's address loopback; each is exchanged wherever it stands, in arguments, variables and
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.objects import Manifest
from sandbox.ports import LOOPBACK

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs here."""

    folder: Path
    name: str
    ports: Mapping[int, int]
    """Declared port -> port here."""
    kept: Mapping[str, Path] = field(default_factory=dict)
    """Folders of empty volumes that outlive the pod, such as a cache, by the volume's name."""

    def volume(self, name: str) -> Path:
        """Return the folder of a volume."""
        return self.kept.get(name, self.folder / name)


@dataclass(frozen=True, slots=True)
class Process:
    """One container."""

    container: str
    program: str
    """The first word of its command."""
    argv: tuple[str, ...]
    """The words after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    probe: str = ""
    """URL that answers 200 when it is ready; empty without such a probe."""
    sleeps_s: int = 0
    """How long it goes on before it is told to end (lifecycle.preStop.sleep)."""


def workload(manifests: Iterable[Manifest]) -> Manifest:
    """Return the one Deployment or DaemonSet of the manifests."""
    (found,) = [each for each in manifests if each["kind"] in {"Deployment", "DaemonSet"}]
    return found


def declared_ports(pod: Manifest) -> list[int]:
    """Return the ports that the containers of a pod template name."""
    return [port["containerPort"] for each in pod["spec"]["containers"] for port in each.get("ports", ())]


def files(pod: Manifest, manifests: Iterable[Manifest], place: Place) -> dict[Path, str | None]:
    """Return the files of the pod's ConfigMap volumes with their content, and its empty folders with None."""
    maps = _config_maps(manifests)
    found: dict[Path, str | None] = {}
    for volume in pod["spec"].get("volumes", ()):
        folder = place.volume(volume["name"])
        if "emptyDir" in volume:
            found[folder] = None
            continue
        data = maps[volume["configMap"]["name"]]
        items = volume["configMap"].get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            found[folder / item["path"]] = _local(data[item["key"]], place, {})
    return found


def processes(pod: Manifest, manifests: Iterable[Manifest], place: Place) -> list[Process]:
    """Return the containers in their order."""
    maps = _config_maps(manifests)
    return [_process(each, maps, place) for each in pod["spec"]["containers"]]


def _config_maps(manifests: Iterable[Manifest]) -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}


def _process(container: Manifest, maps: Mapping[str, Mapping[str, str]], place: Place) -> Process:
    mounts = {mount["mountPath"]: place.volume(mount["name"]) for mount in container.get("volumeMounts", ())}
    given = {each["name"]: _value(each, maps, place) for each in container.get("env", ())}
    words = [_VARIABLE.sub(lambda found: given.get(found[1], found[0]), word) for word in container.get("args", ())]
    program, *before = container["command"]
    return Process(
        container=container["name"],
        program=program,
        argv=tuple(_local(word, place, mounts) for word in [*before, *words]),
        environment={name: _local(value, place, mounts) for name, value in given.items()},
        probe=_probe(container, place),
        sleeps_s=container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0),
    )


def _value(variable: Manifest, maps: Mapping[str, Mapping[str, str]], place: Place) -> str:
    if "value" in variable:
        return str(variable["value"])
    source: dict[str, Any] = variable["valueFrom"]
    if key := source.get("configMapKeyRef"):
        return maps[key["name"]][key["key"]]
    return {"status.podIP": LOOPBACK, "metadata.name": place.name}[source["fieldRef"]["fieldPath"]]


def _local(text: str, place: Place, mounts: Mapping[str, Path]) -> str:
    if place.ports:
        numbers = "|".join(str(port) for port in place.ports)
        text = re.sub(rf"\b({numbers})\b", lambda found: str(place.ports[int(found[1])]), text)
    for path in sorted(mounts, key=len, reverse=True):
        text = text.replace(path, str(mounts[path]))
    return text


def _probe(container: Manifest, place: Place) -> str:
    get = container.get("readinessProbe", {}).get("httpGet")
    if get is None:
        return ""
    named = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    port = named.get(get["port"], get["port"])
    return f"{get.get('scheme', 'HTTP').lower()}://{LOOPBACK}:{place.ports.get(port, port)}{get.get('path', '/')}"
