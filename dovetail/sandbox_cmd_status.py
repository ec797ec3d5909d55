"""What a running sandbox is made of, as `dovetail sandbox status` tells it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dovetail.sandbox_cmd_gpus import MACHINE_LABEL
from dovetail.sandbox_cmd_home import BELONGS, REAL_NODE, Home
from sandbox import rundir
from sandbox.api import Api, ApiFault, Manifest, Unreachable, refusal
from sandbox.programs import Programs

ANSWER_S = 10.0
"""For each request to the API server."""
API_SERVER = {"kube-apiserver", "etcd"}
"""What must run before it is asked."""
RUNNING, DEGRADED, STOPPED = "running", "degraded", "stopped"


@dataclass(frozen=True, slots=True)
class Component:
    """One program of a sandbox."""

    name: str
    """As in `kube-apiserver` or, on a real node, `real-1/kubelet`."""
    pid: int | None
    """On this machine; None: it does not run."""
    memory_mib: int
    """Resident."""
    log: str
    returncode: int | None
    """Of a program that ended; negative: the signal that ended it."""


def components(home: Home) -> list[Component]:
    """Return all programs, the control plane's first. Raises SandboxError when the sandbox does not run."""
    home.facts()
    found = []
    for directory in reversed(home.living()):
        prefix = f"{REAL_NODE}/" if (directory / BELONGS).exists() else ""
        programs = Programs.attach(directory)
        try:
            pids = dict(_machine_pids(directory))
            for status in programs.status().values():
                pid = pids.get(status.pid) if status.pid is not None else None
                log = str(programs.log(status.name))
                found.append(Component(prefix + status.name, pid, status.resident_mib, log, status.returncode))
        finally:
            programs.close()
    return found


def report(home: Home) -> dict[str, Any]:
    """Return everything about a sandbox, as JSON has it; `state` is RUNNING, DEGRADED or STOPPED."""
    if home.directory() is None:
        return {"name": home.name, "state": STOPPED, "components": []}
    facts, kubeconfig = home.facts(), home.kubeconfig()
    programs = components(home)
    down = {program.name for program in programs if program.pid is None}
    faults: list[str] = []
    inventory: dict[str, Any] = {}
    if not down & API_SERVER:
        try:
            inventory = _inventory(kubeconfig)
        except Unreachable:
            faults.append("kube-apiserver does not answer")
        except ApiFault as fault:
            faults.append(f"kube-apiserver refuses: {refusal(fault)}")
    return {
        "name": home.name,
        "state": DEGRADED if down or faults else RUNNING,
        "kubernetes": facts["kubernetes"],
        "kubeconfig": str(kubeconfig),
        "directory": str(kubeconfig.parent),
        "memory_mib": sum(program.memory_mib for program in programs),
        "start_s": facts["start_s"],
        "components": [asdict(program) for program in programs],
        "faults": faults,
        **inventory,
    }


def _inventory(kubeconfig: Path) -> dict[str, Any]:
    """Ask the API server what it has."""
    api = Api(kubeconfig, timeout_s=ANSWER_S)
    try:
        return counted(api.list("v1", "Node"), api.list("resource.k8s.io/v1", "ResourceSlice"))
    finally:
        api.close()


def counted(nodes: list[Manifest], slices: list[Manifest]) -> dict[str, Any]:
    """Count nodes by machine, resource slices and their devices."""
    count = Counter(_machine(node) for node in nodes)
    ready = Counter(_machine(node) for node in nodes if _is_ready(node))
    return {
        "nodes": [{"machine": name, "nodes": count[name], "ready": ready[name]} for name in sorted(count)],
        "resource_slices": len(slices),
        "devices": sum(len(one["spec"].get("devices") or ()) for one in slices),
    }


def _machine(node: Manifest) -> str:
    labels = node["metadata"].get("labels", {})
    return str(labels.get(MACHINE_LABEL, "real" if node["metadata"]["name"] == REAL_NODE else "other"))


def _is_ready(node: Manifest) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _machine_pids(directory: Path) -> Iterator[tuple[int, int]]:
    """Yield (process id in its own PID namespace, process id here) of all processes of a sandbox's directory."""
    mark = f"{rundir.OWNER}={directory}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid != os.geteuid() or mark not in (process / "environ").read_bytes().split(b"\0"):
                continue
            lines = (process / "status").read_text().splitlines()
        except OSError:
            continue
        inner = next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), int(process.name))
        yield inner, int(process.name)
