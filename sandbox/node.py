"""A real node: kubelet and containerd in namespaces of their own, next to the control plane.

Its programs, containers and mounts live in one PID and one mount namespace and end with its supervisor; its cgroups
carry the name of its directory. Several nodes live side by side, each with a containerd of its own (a kubelet kills
the pods that it does not know).
"""

from __future__ import annotations

import contextlib
import json
import platform
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from sandbox import cgroups, image, isolation, nodeconfig, objects, preflight, rundir, tools
from sandbox.api import Conflict, Manifest
from sandbox.controlplane import ControlPlane
from sandbox.errors import SandboxError
from sandbox.ports import LOOPBACK, free_ports
from sandbox.programs import Programs
from sandbox.readiness import succeeds

READY_S = 60.0
CORDONED = "node.kubernetes.io/unschedulable"
"""Taint that the cluster sets on a cordoned node."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names of machine architectures."""


class Node:
    """A kubelet and a containerd that belong to one control plane."""

    def __init__(self, control_plane: ControlPlane, programs: Programs, reference: Manifest) -> None:
        self.control_plane = control_plane
        self.programs = programs
        self.name: str = reference["metadata"]["name"]
        self.paths = nodeconfig.NodePaths(programs.directory)
        self.reference = reference

    @classmethod
    def start(cls, control_plane: ControlPlane, name: str, *, progress: tools.Progress = tools.silent) -> Self:
        """Start a node and wait until it is Ready. Missing programs are built first.

        Raises UnavailableError where the machine cannot run one, ForeignRuntimeError beside a kubelet or containerd
        that is not a sandbox's, SandboxError when the cluster has a node of that name, StartError when it does not
        come up; then nothing of it stays.
        """
        machine = preflight.check()
        preflight.refuse_foreign_runtime()
        found = tools.provide(tools.NODE, progress=progress)
        with contextlib.ExitStack() as undo:
            reference = _registered(control_plane, name)
            undo.callback(control_plane.api.delete, reference)
            programs = Programs.launch("node", isolated=True)
            undo.callback(programs.close)
            node = cls(control_plane, programs, reference)
            node._start_containerd(found, machine)
            node._start_kubelet(found["kubelet"])
            undo.pop_all()
        return node

    def wait_ready(self) -> Manifest:
        """Wait until the node is Ready. Returns it."""
        return self.control_plane.api.wait(self.reference, _is_ready, timeout_s=READY_S, what="to be Ready")

    def cordon(self) -> None:
        """Let no new pod come to the node, and wait until the cluster knows."""
        api = self.control_plane.api
        api.patch(self.reference, {"spec": {"unschedulable": True}})
        api.wait(self.reference, lambda node: CORDONED in _taints(node), what="to be cordoned")

    def uncordon(self) -> None:
        """Let pods come again, and wait until they can."""
        self.control_plane.api.patch(self.reference, {"spec": {"unschedulable": None}})
        self.wait_ready()

    def wait_healthy(self, name: str) -> None:
        """Wait until the health check of its kubelet or containerd is good."""
        self.programs.wait_healthy(name, self.control_plane.authority.certificate, timeout_s=READY_S)

    def close(self) -> None:
        """End the node with all its containers, and remove it from the cluster."""
        self.programs.close()
        self.control_plane.api.delete(self.reference)

    def _start_containerd(self, found: dict[str, Path], machine: preflight.MachinePrograms) -> None:
        paths = self.paths
        paths.cni.mkdir()
        (paths.cni / "10-sandbox.conflist").write_text(json.dumps(nodeconfig.network()))
        (paths.cni / "invented").write_text(nodeconfig.network_plugin())
        (paths.cni / "invented").chmod(0o755)
        configuration = paths.directory / "containerd.toml"
        configuration.write_text(nodeconfig.containerd(paths, found["containerd-shim-runc-v2"], machine.runc))
        ctr: list[str | Path] = [found["ctr"], "--address", paths.socket, "--namespace", "k8s.io"]
        argv: list[str | Path] = [found["containerd"], "--config", configuration]
        self.programs.start("containerd", argv, health=[*ctr, "version"])
        archive = paths.directory / "images.tar"
        image.write_archive(archive, machine.shell, nodeconfig.IMAGES, ARCHITECTURES[platform.machine()])
        self.wait_healthy("containerd")
        imported = succeeds([*ctr, "images", "import", archive])
        assert imported is True, imported

    def _start_kubelet(self, program: Path) -> None:
        paths, plane = self.paths, self.control_plane
        cgroup = rundir.cgroup_name(paths.directory)
        cgroups.create(cgroup)
        port, health_port = free_ports(2)
        serving = plane.authority.server(f"{self.name}-kubelet", self.name)
        content = nodeconfig.kubelet(paths, port, health_port, serving, plane.authority.certificate, cgroup)
        configuration = paths.directory / "kubelet.yaml"
        configuration.write_text(yaml.safe_dump(content))
        argv: list[str | Path] = [
            program,
            f"--config={configuration}",
            f"--kubeconfig={plane.credentials(f'system:node:{self.name}', 'system:nodes')}",
            f"--root-dir={isolation.USUAL['kubelet']}",
            f"--hostname-override={self.name}",
            "--cloud-provider=external",  # the address is given by us
        ]
        health = f"http://{LOOPBACK}:{health_port}/healthz"
        self.programs.start("kubelet", argv, hostname=self.name, health=health)
        self.wait_healthy("kubelet")
        self.wait_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is not None:
            self.programs.keep_logs()
        self.close()


def _registered(control_plane: ControlPlane, name: str) -> Manifest:
    """Make the Node object with a loopback address, which no kubelet would take for itself. Returns a reference."""
    addresses = [{"type": "InternalIP", "address": LOOPBACK}, {"type": "Hostname", "address": name}]
    try:
        control_plane.api.create({**objects.node(name), "status": {"addresses": addresses}})
    except Conflict as fault:
        raise SandboxError(f"the cluster has a node {name!r} already; give this one another name") from fault
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def _taints(node: Manifest) -> list[str]:
    return [taint["key"] for taint in node["spec"].get("taints", [])]


def _is_ready(node: Manifest) -> bool | str:
    conditions = [each for each in node["status"].get("conditions", []) if each["type"] == "Ready"]
    if not conditions:
        return "no condition Ready"
    taints = _taints(node)
    if conditions[0]["status"] == "True" and not taints:
        return True
    return f"Ready={conditions[0]['status']} {conditions[0].get('message', '')}; taints {taints}"
