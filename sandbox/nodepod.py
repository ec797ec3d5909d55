"""A DaemonSet of the manifests as a real pod on a real node, without an image: this machine's programs are mounted.

    node = Node.start(plane, "real-1")
    there = hosted(manifests, HostPrograms({"dovetail": [python, "-m", "dovetail"]}, reads=[...], writes=[...]), plane)
    kustomize.apply(plane.kubeconfig, there)

All that a cluster decides stays as it is written: account and token, rights, capabilities, probes, updates, folders of
the host. Exchanged are the image, the first word of the command, and what needs a network, which a sandbox has none of:
the pod takes the node's, and its port is a free one. Pure: manifests in, manifests out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.kustomize import WORKLOADS
from sandbox.objects import IMAGE, Manifest
from sandbox.podspec import declared_ports

SYSTEM = ("/usr", "/lib", "/lib64")
"""Where programs of this machine find their libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPrograms:
    """What of this machine runs in the pod."""

    programs: Mapping[str, Sequence[str | Path]]
    """First word of a container's command -> words that run it here."""
    reads: Sequence[Path] = ()
    """Folders that the programs read, at their own paths."""
    writes: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    exchange: Mapping[str, str] = field(default_factory=dict)
    """Beginnings of arguments -> what stands there instead."""


def hosted(manifests: Iterable[Manifest], here: HostPrograms, server: str, port: int) -> list[Manifest]:
    """Return the manifests with workloads that run here; `server` is the API server's URL, `port` a free one."""
    return [_hosted(each, here, server, port) if each["kind"] in WORKLOADS else each for each in manifests]


def _hosted(workload: Manifest, here: HostPrograms, server: str, port: int) -> Manifest:
    workload = copy.deepcopy(workload)
    template = workload["spec"]["template"]
    spec = template["spec"]
    spec["hostNetwork"] = True
    spec.pop("runtimeClassName", None)
    declared = declared_ports(template)
    for container in spec["containers"]:
        _use_programs(container, here, server)
        _use_port(container, declared, port)
    folders = [*((path, True) for path in (*map(Path, SYSTEM), *here.reads)), *((path, False) for path in here.writes)]
    for number, (path, read_only) in enumerate(folders):
        name = f"sandbox-{number}"
        spec.setdefault("volumes", []).append({"name": name, "hostPath": {"path": str(path)}})
        for container in spec["containers"]:
            mount = {"name": name, "mountPath": str(path), "readOnly": read_only}
            container.setdefault("volumeMounts", []).append(mount)
    return workload


def _use_programs(container: Manifest, here: HostPrograms, server: str) -> None:
    program, *words = container["command"]
    container["command"] = [*map(str, here.programs[program]), *words]
    container["args"] = [_exchanged(word, here.exchange) for word in container.get("args", ())]
    container["image"], container["imagePullPolicy"] = IMAGE, "Never"
    address = urlsplit(server)
    given = {"KUBERNETES_SERVICE_HOST": address.hostname, "KUBERNETES_SERVICE_PORT": str(address.port)}
    given |= {"PATH": "/usr/bin:/bin", **here.environment}
    container.setdefault("env", []).extend({"name": name, "value": value} for name, value in given.items())


def _exchanged(word: str, exchange: Mapping[str, str]) -> str:
    for beginning, instead in exchange.items():
        if word.startswith(beginning):
            return instead + word.removeprefix(beginning)
    return word


def _use_port(container: Manifest, declared: Sequence[int], port: int) -> None:
    """Exchange the one declared port. It is declared no more: the scheduler would keep a second pod off the node."""
    named = {each["name"]: each["containerPort"] for each in container.pop("ports", ())}
    numbers = "|".join(map(str, declared))
    if not numbers:
        return
    container["args"] = [re.sub(rf":({numbers})\b", f":{port}", word) for word in container["args"]]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        get = container.get(probe, {}).get("httpGet")
        if get is not None and named.get(get["port"], get["port"]) in declared:
            get["port"] = port
