"""Two replicas from the manifests: whatever becomes of the leader under load, no device ends in two claims."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.controlplane import ControlPlane
from sandbox.deployed import DeployedPod
from sandbox.load.run import burst
from sandbox.load.workload import Workload
from sandbox.objects import Manifest
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.manifests.fixtures import DRIVER, run
from tests.scheduler.test_fences import GPUS, OURS, add_gpus

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed")]

NODES = 16
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"namespace": "dovetail", "name": "dovetail-scheduler"},
}
LEASE_S = 15
"""leaseDuration of the manifests."""


@pytest.fixture
def replicas(control_plane: ControlPlane, allocate: list[Manifest]) -> Iterator[dict[str, DeployedPod]]:
    """By host name."""
    started: dict[str, DeployedPod] = {}
    try:
        for name in ("replica-a", "replica-b"):
            started[name] = run(control_plane, allocate, name=name, hostname=name)
        yield started
    finally:
        for pod in started.values():
            pod.kill()
        control_plane.api.delete(LEASE)


def holder(testbed: Testbed) -> str:
    """Host name of the leader."""
    lease = testbed.api.find(LEASE) or {}
    identity: str = lease.get("spec", {}).get("holderIdentity") or ""
    return identity.partition("_")[0]


def kill(testbed: Testbed, leader: DeployedPod) -> None:
    leader.kill()


def freeze(testbed: Testbed, leader: DeployedPod) -> None:
    """Past its lease: it goes on believing that it leads."""
    programs = testbed.control_plane.programs
    for each in leader.containers:
        programs.signal(leader.program(each), signal.SIGSTOP)
    try:
        wait_for(
            "another leader",
            lambda: holder(testbed) not in {"", leader.name} or NotYet(holder(testbed)),
            timeout_s=8 * LEASE_S,
            every_s=0.2,
        )
    finally:
        for each in leader.containers:
            programs.signal(leader.program(each), signal.SIGCONT)


def roll(testbed: Testbed, leader: DeployedPod) -> None:
    leader.stop()


@pytest.mark.parametrize("end", [kill, freeze, roll])
def test_a_leader_that_ends_under_load_leaves_no_device_in_two_claims(
    testbed: Testbed,
    allocate: list[Manifest],
    replicas: dict[str, DeployedPod],
    end: Callable[[Testbed, DeployedPod], None],
) -> None:
    add_gpus(testbed, NODES, allocate)
    load = Workload(namespace=testbed.namespace, name="load", pods=NODES * GPUS, scheduler=OURS, device_class=DRIVER)
    leader = wait_for("a leader", lambda: replicas.get(holder(testbed)) or NotYet("none"))
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(burst, testbed.control_plane.kubeconfig, load, timeout_s=240)
        wait_for(
            "some pods to be bound", lambda: running.done() or bound(testbed) >= 5 or NotYet("none"), timeout_s=120
        )
        assert not running.done(), "the load ended before its leader"
        end(testbed, leader)
        result = running.result()
    assert holder(testbed) not in {"", leader.name}
    assert result.pods == NODES * GPUS
    assert result.doubled == ()


def bound(testbed: Testbed) -> int:
    """Pods that have a node."""
    return len(testbed.api.list("v1", "Pod", testbed.namespace, field_selector="spec.nodeName!="))
