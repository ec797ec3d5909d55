"""Two replicas from the manifests: whatever becomes of the leader under load, no device ends in two claims."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import objects
from sandbox.chaos.faults import Fault, Gate, Match
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.deployed import DeployedPod, account_kubeconfig
from sandbox.load.run import burst
from sandbox.load.workload import Workload
from sandbox.objects import Manifest
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.manifests.fixtures import DRIVER, run
from tests.scheduler.invariants import check_settled
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
    while_frozen(testbed, leader, lambda: None)


def while_frozen(testbed: Testbed, leader: DeployedPod, then: Callable[[], None]) -> None:
    """Stop the leader until another one leads and `then` is done."""
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
        then()
    finally:
        for each in leader.containers:
            programs.signal(leader.program(each), signal.SIGCONT)


def roll(testbed: Testbed, leader: DeployedPod) -> None:
    leader.stop()


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.parametrize("end", [kill, freeze, roll])
def test_a_leader_that_ends_under_load_leaves_no_device_in_two_claims(
    testbed: Testbed,
    allocate: list[Manifest],
    replicas: dict[str, DeployedPod],
    end: Callable[[Testbed, DeployedPod], None],
    rounds: int,
) -> None:
    add_gpus(testbed, NODES, allocate)
    for number in range(rounds):
        lose_leader(testbed, replicas, end, f"load-{number}")
        check_settled(testbed.api)
        for name, pod in replicas.items():
            if not pod.is_whole and number + 1 < rounds:
                pod.kill()  # a kube-scheduler that was frozen past its lease ends by itself
                replicas[name] = run(testbed.control_plane, allocate, name=name, hostname=name)


def lose_leader(
    testbed: Testbed, replicas: dict[str, DeployedPod], end: Callable[[Testbed, DeployedPod], None], name: str
) -> None:
    """Let the leader end in the middle of a load, and see the load through."""
    load = Workload(namespace=testbed.namespace, name=name, pods=NODES * GPUS, scheduler=OURS, device_class=DRIVER)
    leader = wait_for(
        "a leader", lambda: replicas.get(holder(testbed)) or NotYet("none"), timeout_s=4 * LEASE_S, every_s=0.2
    )
    with cordoned(testbed) as admit, ThreadPoolExecutor(1) as beside:
        running = beside.submit(burst, testbed.control_plane.kubeconfig, load, timeout_s=240)
        wait_for(
            "some pods to be bound", lambda: running.done() or bound(testbed) >= 5 or NotYet("none"), timeout_s=120
        )
        end(testbed, leader)
        assert not running.done(), "the load ended before its leader"
        admit()
        result = running.result()
    assert holder(testbed) not in {"", leader.name}
    assert result.pods == NODES * GPUS
    assert result.doubled == ()


@contextmanager
def cordoned(testbed: Testbed) -> Iterator[Callable[[], None]]:
    """Close half of the nodes until the block calls what it gets: before that a load for all of them cannot end."""
    nodes = testbed.api.list("v1", "Node")[::2]

    def close(closed: bool | None) -> None:
        for node in nodes:
            testbed.api.patch(node, {"spec": {"unschedulable": closed}})

    close(True)
    try:
        yield lambda: close(None)
    finally:
        close(None)


@pytest.fixture
def proxy(control_plane: ControlPlane, allocate: list[Manifest], tmp_path: Path) -> Iterator[ApiProxy]:
    """The way of our account to the API server, with faults."""
    with ApiProxy(account_kubeconfig(control_plane, allocate, tmp_path / "kubeconfig")) as proxy:
        yield proxy


def test_a_write_still_on_its_way_when_leadership_moves_can_only_get_a_conflict(
    testbed: Testbed, allocate: list[Manifest], proxy: ApiProxy
) -> None:
    """The leader is frozen with its allocation on the way; the next one serves the pod; then the write arrives."""
    plane, gate = testbed.control_plane, Gate()
    add_gpus(testbed, 1, allocate)
    allocations = Match(verbs=["patch"], resources=["resourceclaims/status"])
    old = run(plane, allocate, name="replica-a", hostname="replica-a", kubeconfig=proxy.kubeconfig)
    new = None
    try:
        wait_for("the first to lead", lambda: holder(testbed) == "replica-a" or NotYet(holder(testbed)))
        new = run(plane, allocate, name="replica-b", hostname="replica-b")
        with proxy.fault(Fault(match=allocations, action=gate, times=1)) as armed:
            testbed.api.create(objects.claim(testbed.namespace, "wanted", DRIVER))
            pod = testbed.api.create(objects.pod(testbed.namespace, "wants", claim="wanted", scheduler=OURS))
            wait_for("the allocation to be on its way", lambda: armed.acted == 1 or NotYet("no"), timeout_s=60)
            (record,) = [each for each in proxy.records(allocations) if armed.fault in each.faults]
            assert not record.forwarded

            def served() -> None:
                testbed.api.wait(pod, objects.is_running, timeout_s=8 * LEASE_S)
                gate.open()
                wait_for("the write to arrive", lambda: record.served is not None or NotYet("no"))

            while_frozen(testbed, old, served)
        assert record.served == 409
        check_settled(testbed.api)
        testbed.run(objects.pod(testbed.namespace, "another", claim="wanted", scheduler=OURS))
        writes = proxy.records(Match(verbs=["patch"], resources=["resourceclaims*"]))
        late = [str(each.request) for each in writes if each.at_s > record.at_s and each.served == 200]
        assert late == [], "the one that was frozen wrote a claim when it went on"
    finally:
        for each in filter(None, (old, new)):
            each.kill()
        testbed.api.delete(LEASE)


def bound(testbed: Testbed) -> int:
    """Pods that have a node."""
    return len(testbed.api.list("v1", "Pod", testbed.namespace, field_selector="spec.nodeName!="))
