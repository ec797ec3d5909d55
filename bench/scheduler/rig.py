"""A control plane with both schedulers alive: etcd with fsync, simulated nodes, ours from the manifests.

Ours runs as a cluster would run it: its kube-scheduler and its extender, with the token of its own account and its
Lease. Only the admission policy is left out, since it would refuse the default scheduler every device. Both
kube-schedulers and the controllers may send the same number of requests per second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

from dovetail import sandbox_cmd_gpus as gpus
from dovetail import sandbox_cmd_scheduler as scheduler
from sandbox import kustomize, podspec
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.deployed import DeployedPod
from sandbox.fakenodes import FakeNodes
from sandbox.objects import Manifest

DEFAULT, OURS = "default-scheduler", scheduler.NAME
SCHEDULERS = (DEFAULT, OURS)
POLICY = frozenset({"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"})
WHOLE_GPUS = (1, 34)
"""The slices for an API server of that version tell of whole GPUs alone."""
REQUESTS_PER_S = 500
"""As in the manifests."""
WRITERS = 16
EXTENDER, OUR_EXTENDER = "extender", "our extender"


@dataclass(frozen=True, slots=True)
class Rig:
    """What a figure needs."""

    plane: ControlPlane
    pod: DeployedPod

    def pids(self) -> dict[str, int]:
        """Return the processes of control plane and schedulers by a short name."""
        names = {f"{self.pod.name}-kube-scheduler": "our kube-scheduler", f"{self.pod.name}-{EXTENDER}": OUR_EXTENDER}
        names["kube-scheduler"] = DEFAULT
        found = self.plane.programs.status().items()
        return {names.get(name, name): each.pid for name, each in found if each.pid is not None}

    def extender(self) -> str:
        """Return the URL of its metrics."""
        (container,) = [each for each in self.pod.containers if each.container == "extender"]
        return container.probe.removesuffix("/healthz").removesuffix("/readyz")


def whole_gpus(nodes: Mapping[str, int], uids: Mapping[str, str]) -> Iterator[Manifest]:
    """Publish whole GPUs alone."""
    return gpus.slice_manifests(nodes, uids, WHOLE_GPUS)


Slices = Callable[[Mapping[str, int], Mapping[str, str]], Iterator[Manifest]]
"""Machine -> number of nodes, and node -> uid, to ResourceSlices."""


@contextmanager
def running(
    machine: str,
    nodes: int,
    *,
    slices: Slices = whole_gpus,
    flags: Sequence[str] = (),
) -> Iterator[Rig]:
    """Yield a control plane with so many nodes of a machine of the catalog, their slices, and both schedulers.

    `flags` are added to those of our extender.
    """
    with ControlPlane.start(ControlPlaneOptions(fsync=True, requests_per_s=REQUESTS_PER_S)) as plane:
        wanted = {machine: nodes}
        FakeNodes.start(plane).add(gpus.node_manifests(wanted), timeout_s=600)
        uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in plane.api.list("v1", "Node")}
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(plane.api.create, slices(wanted, uids)))
        with deployed(plane, *flags) as pod:
            yield Rig(plane, pod)


@contextmanager
def deployed(plane: ControlPlane, *flags: str) -> Iterator[DeployedPod]:
    """Run one replica of our scheduler from the manifests; `flags` are added to those of its extender."""
    rendered = with_flags(scheduler.manifests(), *flags)
    kustomize.apply(
        plane.kubeconfig, [each for each in kustomize.without_workloads(rendered) if each["kind"] not in POLICY]
    )
    programs, kept = {"dovetail": scheduler.PROGRAM}, {scheduler.CACHE: scheduler.cache_folder()}
    pod = DeployedPod.start(plane, rendered, programs, kept=kept)
    try:
        yield pod
    finally:
        pod.kill()


def with_flags(rendered: Sequence[Manifest], *flags: str) -> list[Manifest]:
    """Return manifests whose extender is given `flags` beside its own."""
    changed = deepcopy(list(rendered))
    containers = podspec.workload(changed)["spec"]["template"]["spec"]["containers"]
    (extender,) = [each for each in containers if each["name"] == EXTENDER]
    extender["args"] += flags
    return changed
