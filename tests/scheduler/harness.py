"""Our scheduler on a real control plane: the extender as a process, a kube-scheduler that asks it, simulated GPU nodes.

kube-scheduler is configured as in manifests/scheduler; what differs for a test is in its arguments.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dovetail import sandbox_cmd_gpus as gpus
from dovetail.sandbox_cmd_scheduler import NAME
from dovetail.shipped import shipped
from sandbox.api import Manifest
from sandbox.controlplane import ControlPlane
from sandbox.ports import LOOPBACK, free_ports
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import Testbed

CONFIGURATION = shipped("manifests", "scheduler", "allocate", "kube-scheduler.yaml")
READY_S = 60.0


def allocate_configuration(port: int) -> dict[str, Any]:
    """Return what the manifests tell kube-scheduler, but for its connection and lease, with the extender at `port`."""
    content: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    (extender,) = content["extenders"]
    elsewhere = {"apiVersion", "kind", "clientConnection", "leaderElection"}
    kept = {field: value for field, value in content.items() if field not in elsewhere}
    return {**kept, "extenders": [{**extender, "urlPrefix": f"http://{LOOPBACK}:{port}"}]}


class ExtenderProcess:
    """`dovetail scheduler` under the supervisor of a control plane; it ends with the control plane at the latest."""

    def __init__(self, control_plane: ControlPlane, name: str, port: int) -> None:
        self.control_plane = control_plane
        self.programs = control_plane.programs
        self.name = name
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"

    @classmethod
    def start(
        cls,
        control_plane: ControlPlane,
        *flags: str,
        name: str = "extender",
        kubeconfig: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("dovetail",),
    ) -> ExtenderProcess:
        """Start it and wait until it is ready. Without `kubeconfig` it is the cluster's administrator.

        `program`: the module that runs, and words before its own.

        Raises StartError with the end of its log when it ends instead.
        """
        extender = cls(control_plane, name, free_ports(1)[0])
        argv = [sys.executable, "-m", *program, "scheduler", "--listen", f"{LOOPBACK}:{extender.port}"]
        argv += ["--kubeconfig", str(kubeconfig or control_plane.kubeconfig), *flags]
        root = Path(__file__).parents[2]
        health = f"{extender.url}/readyz"
        extender.programs.start(name, argv, environment=environment, directory=root, health=health)
        extender.wait_ready()
        return extender

    def wait_ready(self, *, timeout_s: float = READY_S) -> None:
        """Wait until it answers requests."""
        self.programs.wait_healthy(self.name, self.control_plane.authority.certificate, timeout_s=timeout_s)

    def get(self, path: str) -> str:
        """Return what it answers to a GET."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def ask(self, verb: str, body: object) -> Any:
        """Return its decoded answer to a verb."""
        request = urllib.request.Request(f"{self.url}/{verb}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def log(self) -> str:
        """Return all that it logged."""
        return self.programs.log(self.name).read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM; returns its exit code."""
        self.programs.stop(self.name)
        return self.programs.status()[self.name].returncode or 0


class OurScheduler:
    """The extender and the kube-scheduler that asks it."""

    def __init__(self, extender: ExtenderProcess, scheduler: SecondScheduler) -> None:
        self.extender = extender
        self.scheduler = scheduler

    @classmethod
    def start(
        cls,
        control_plane: ControlPlane,
        *flags: str,
        asked_by: Mapping[str, Any] | None = None,
        name: str = NAME,
        **extender_options: Any,
    ) -> OurScheduler:
        """Start both; `asked_by` changes fields of the KubeSchedulerConfiguration."""
        extender = ExtenderProcess.start(control_plane, *flags, name=f"{name}-extender", **extender_options)
        configuration = {**allocate_configuration(extender.port), **(asked_by or {})}
        options = SchedulerOptions(configuration=configuration)
        try:
            scheduler = SecondScheduler.start(control_plane, f"{name}-kube-scheduler", options)
        except BaseException:
            extender.stop()
            raise
        return cls(extender, scheduler)

    def stop(self) -> int:
        """End both, the one who asks first; returns the extender's exit code."""
        self.scheduler.stop()
        return self.extender.stop()


def add_gpu_nodes(testbed: Testbed, nodes: Mapping[str, int]) -> list[str]:
    """Create simulated nodes of machines (name -> number), their resource slices and our device classes."""
    names = testbed.add_nodes(*gpus.node_manifests(nodes))
    uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in testbed.api.list("v1", "Node")}
    version = testbed.control_plane.version.removeprefix("v").split(".")
    slices = gpus.slice_manifests(nodes, uids, (int(version[0]), int(version[1])))
    testbed.create(*slices, *gpus.class_manifests())
    return names


def devices_of(claim: Manifest) -> Sequence[tuple[str, str]]:
    """Return pool and device of each result of an allocated claim."""
    results = claim["status"]["allocation"]["devices"]["results"]
    return [(result["pool"], result["device"]) for result in results]
