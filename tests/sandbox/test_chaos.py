"""Programs of a cluster die, freeze and come back, and the cluster with them.

On a cluster of its own: what these tests break is no other test's.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from sandbox import objects
from sandbox.chaos.components import Component
from sandbox.controlplane import ControlPlane
from sandbox.errors import SupervisorError
from sandbox.node import Node
from sandbox.pytest_plugin import had_or_skipped
from sandbox.readiness import answers
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for

pytestmark = pytest.mark.cluster
SECOND = "second-scheduler"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with had_or_skipped(ControlPlane.start) as plane:
        SecondScheduler.start(plane, SECOND, SchedulerOptions(configuration={"profiles": [{"schedulerName": SECOND}]}))
        yield plane


@pytest.fixture
def bed(plane: ControlPlane) -> Iterator[Testbed]:
    """A namespace and a simulated node on a cluster that is well."""
    bed = Testbed(plane)
    bed.open()
    bed.add_nodes(objects.node("fake"))
    yield bed
    bed.close()


@pytest.fixture(scope="module")
def machine(plane: ControlPlane) -> Iterator[Node]:
    with had_or_skipped(lambda: Node.start(plane, "real")) as machine:
        yield machine


def works(bed: Testbed, name: str, **spec: object) -> None:
    """A pod of each scheduler runs: every program of the cluster has done its part."""
    for scheduler in ("default-scheduler", SECOND):
        bed.run(objects.pod(bed.namespace, f"{name}-{scheduler}", scheduler=scheduler, **spec), timeout_s=60.0)


@pytest.mark.parametrize(
    "name", ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", SECOND, "kwok"]
)
def test_a_killed_program_comes_back_with_its_data_and_the_cluster_works(bed: Testbed, name: str) -> None:
    component = Component(bed.control_plane, name)
    before, uid = component.pid, bed.api.get(objects.namespace(bed.namespace))["metadata"]["uid"]
    component.kill()
    assert component.pid is None
    assert component.programs.status()[name].returncode == -signal.SIGKILL
    component.restart()
    assert component.pid not in {None, before}
    Component(bed.control_plane, "kube-apiserver").wait_healthy()  # it may have lost its etcd
    assert bed.api.get(objects.namespace(bed.namespace))["metadata"]["uid"] == uid
    works(bed, "after")


def test_a_program_asked_to_end_ends_by_itself(bed: Testbed) -> None:
    scheduler = Component(bed.control_plane, "kube-scheduler")
    assert scheduler.terminate() >= 0, "it did not end, a signal ended it"
    scheduler.restart()
    works(bed, "after")


def test_a_frozen_api_server_answers_nobody_until_it_goes_on(bed: Testbed) -> None:
    server = Component(bed.control_plane, "kube-apiserver")
    with server.frozen():
        said = answers(f"{bed.control_plane.server}/readyz", bed.control_plane.authority.certificate)
        assert "Timeout" in str(said)
    works(bed, "after")


def test_a_frozen_scheduler_keeps_its_pods_waiting_and_no_others(bed: Testbed) -> None:
    pod = objects.pod(bed.namespace, "waits", scheduler=SECOND)
    with Component(bed.control_plane, SECOND).frozen():
        bed.api.create(pod)
        bed.run(objects.pod(bed.namespace, "runs"))
        assert "nodeName" not in bed.api.get(pod)["spec"]
    bed.api.wait(pod, objects.is_running)


def test_an_unknown_program_is_refused_with_the_names_that_there_are(plane: ControlPlane) -> None:
    with pytest.raises(SupervisorError, match=r"kubelet was never started; there are: etcd, kube-apiserver"):
        Component(plane, "kubelet")


@pytest.mark.node
@pytest.mark.parametrize("name", ["kubelet", "containerd"])
def test_containers_outlive_the_programs_of_their_node(machine: Node, bed: Testbed, name: str) -> None:
    pod = objects.pod(bed.namespace, "lives", nodeSelector={"kubernetes.io/hostname": machine.name})
    started = bed.run(pod)["status"]["containerStatuses"][0]["containerID"]
    component = Component(machine, name)
    component.kill()
    component.restart()
    after = objects.pod(bed.namespace, "after", nodeSelector={"kubernetes.io/hostname": machine.name})
    bed.run(after)
    (status,) = bed.api.get(pod)["status"]["containerStatuses"]
    assert (status["containerID"], status["restartCount"]) == (started, 0)


@pytest.mark.node
def test_a_frozen_kubelet_starts_no_pod_until_it_goes_on(machine: Node, bed: Testbed) -> None:
    pod = objects.pod(bed.namespace, "waits", nodeSelector={"kubernetes.io/hostname": machine.name})

    def bound() -> bool | NotYet:
        return bool(bed.api.get(pod)["spec"].get("nodeName")) or NotYet("not bound")

    with Component(machine, "kubelet").frozen():
        bed.api.create(pod)
        wait_for("the pod to be bound", bound)
        assert "containerStatuses" not in bed.api.get(pod)["status"]
    bed.api.wait(pod, objects.is_running)
