"""Simulated nodes: kwok keeps them ready and lets their pods run, complete and go, by the thousand.

kwok plays the kubelet of every node that has the label LABEL; real nodes beside them are left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sandbox import tools
from sandbox.api import Api, Manifest
from sandbox.controlplane import ControlPlane
from sandbox.errors import SupervisorError
from sandbox.ports import LOOPBACK, free_ports
from sandbox.waiting import NotYet, wait_for

PROGRAM = "kwok"
LABEL = ("sandbox.dovetail.dev/simulated", "true")
RUN_TIME = "pod-complete.stage.kwok.x-k8s.io/delay"
"""Annotation of a pod: it succeeds after that time ("2s") instead of running on. Pods of a Job succeed at once."""
STAGES = Path(__file__).parent / "stages.yaml"
WRITERS = 8
NODE_INFO = {"kubeletVersion": "kwok", "containerRuntimeVersion": "kwok", "operatingSystem": "linux"}
"""Told by `kubectl get nodes`."""
LOOK_S_PER_NODE = 0.002
"""Seconds between two looks, per node waited for: looking at a thousand every 50 ms would be most of the load."""


class FakeNodes:
    """The simulated nodes of one control plane; asking for them twice is fine."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.api: Api = control_plane.api
        self.programs = control_plane.programs

    @classmethod
    def start(cls, control_plane: ControlPlane, *, progress: tools.Progress = tools.silent) -> FakeNodes:
        """Start kwok unless it runs, and wait until it is ready."""
        program = tools.provide([PROGRAM], progress=progress)[PROGRAM]
        port = free_ports(1)[0]
        # It renews leases after a quarter of their time; the controller-manager wants to hear within its own.
        lease_s = 3 * control_plane.options.node_grace_s
        argv = [
            str(program),
            f"--kubeconfig={control_plane.credentials('sandbox-kwok', 'system:masters')}",
            f"--config={STAGES}",
            f"--manage-nodes-with-label-selector={'='.join(LABEL)}",
            "--manage-all-nodes=false",
            f"--node-lease-duration-seconds={lease_s}",
            f"--node-ip={LOOPBACK}",
            f"--server-address={LOOPBACK}:{port}",
        ]
        nodes = cls(control_plane)
        with contextlib.suppress(SupervisorError):  # another process that shares the control plane was faster
            control_plane.programs.start(PROGRAM, argv, health=f"http://{LOOPBACK}:{port}/healthz")
            control_plane.wait_healthy(PROGRAM)
        return nodes

    def add(self, nodes: Iterable[Manifest], *, timeout_s: float = 300.0) -> list[str]:
        """Create simulated nodes from manifests (`objects.node`) and wait until all are ready. Returns their names."""
        manifests = [_simulated(node) for node in nodes]
        with ThreadPoolExecutor(WRITERS) as writers:
            names = [stored["metadata"]["name"] for stored in writers.map(self.api.create, manifests)]
        self.wait_ready(names, timeout_s=timeout_s)
        return names

    def wait_ready(self, names: Iterable[str], *, timeout_s: float = 300.0) -> None:
        """Wait until the named nodes are ready and free of taints that the node controllers set."""
        wanted = set(names)

        def look() -> bool | NotYet:
            stored = self.api.list("v1", "Node", label_selector="=".join(LABEL))
            ready = {node["metadata"]["name"] for node in stored if _is_usable(node)}
            missing = sorted(wanted - ready)
            return NotYet(f"{len(missing)} of {len(wanted)} not ready, such as {missing[:3]}") if missing else True

        wait_for(
            f"{len(wanted)} simulated nodes",
            look,
            timeout_s=timeout_s,
            every_s=0.05 + len(wanted) * LOOK_S_PER_NODE,
            account=lambda: self.programs.log_tail(PROGRAM),
        )

    def free_leases(self) -> None:
        """Delete the leases of all simulated nodes.

        A kwok that comes back has a new identity, and would leave the nodes alone until its old leases expire.
        """
        nodes = self.api.list("v1", "Node", label_selector="=".join(LABEL))
        leases = [
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": "kube-node-lease", "name": node["metadata"]["name"]},
            }
            for node in nodes
        ]
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self.api.delete, leases))

    def remove(self, names: Iterable[str]) -> None:
        """Delete nodes."""
        doomed: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in names
        ]
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self.api.delete, doomed))


def _simulated(node: Manifest) -> Manifest:
    """Label a node, and create it ready: that saves a third of the writes, and kwok keeps it so."""
    metadata, name = node["metadata"], node["metadata"]["name"]
    addresses = [{"type": "InternalIP", "address": LOOPBACK}, {"type": "Hostname", "address": name}]
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated"}
    return {
        **node,
        "metadata": {**metadata, "labels": {**metadata.get("labels", {}), LABEL[0]: LABEL[1]}},
        "status": {"addresses": addresses, "conditions": [ready], "nodeInfo": NODE_INFO, **node.get("status", {})},
    }


def _is_usable(node: Manifest) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
    taints = [taint["key"] for taint in node["spec"].get("taints", [])]
    return conditions.get("Ready") == "True" and not any(key.startswith("node.kubernetes.io/") for key in taints)
