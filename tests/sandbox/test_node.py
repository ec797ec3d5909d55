"""A real kubelet and containerd give a container the devices of its claim, and no other container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import objects, rundir
from sandbox.errors import ForeignRuntimeError, SandboxError, StartError
from sandbox.node import Node
from sandbox.preflight import RUNTIMES, refuse_foreign_runtime
from sandbox.testbed import Testbed
from tests.sandbox import draplugin

DRIVER = "gpu.node.test"
SHOW = "exec 2>&1; echo GPU=$GPU; stat -c '%n %F' /dev/gpu-0"
"""One stream: a log holds the lines of two in any order."""
OPEN = "mknod /tmp/own c 10 237 && (: < /tmp/own) && echo opened"
"""A container that makes the device file itself, and opens it."""


@pytest.fixture
def gpus(node: Node, testbed: Testbed) -> Iterator[Testbed]:
    """A plugin on the real node, with its two devices published."""
    with draplugin.running(node, DRIVER, testbed.api):
        testbed.create(
            objects.resource_slice(node.name, DRIVER, [objects.device(name) for name in draplugin.DEVICES]),
            objects.device_class("gpu", DRIVER),
            objects.claim(testbed.namespace, "one", "gpu", 'device.driver == "gpu.node.test"'),
        )
        yield testbed
        testbed.remove_workload()  # while somebody is there to unprepare it


def said(testbed: Testbed, pod: str, container: str = "main") -> str:
    return testbed.api.raw(f"/api/v1/namespaces/{testbed.namespace}/pods/{pod}/log?container={container}")


def finished(pod: objects.Manifest) -> bool | str:
    phase = pod["status"].get("phase")
    return True if phase in {"Succeeded", "Failed"} else str(objects.is_running(pod))


def test_a_pod_runs_in_a_real_container(node: Node, testbed: Testbed) -> None:
    pod = objects.pod(testbed.namespace, "hello", command=["sh", "-c", "echo hello from $(hostname)"])
    testbed.api.create(pod)
    stored = testbed.api.wait(pod, finished)
    assert (stored["spec"]["nodeName"], stored["status"]["phase"]) == (node.name, "Succeeded")
    assert said(testbed, "hello") == "hello from hello\n"


def test_only_the_container_with_the_claim_gets_the_device(gpus: Testbed) -> None:
    pod = objects.pod(gpus.namespace, "user", claim="one", command=["sh", "-c", f"{SHOW}; {OPEN}"])
    (main,) = pod["spec"]["containers"]
    pod["spec"]["containers"].append({**main, "name": "other", "resources": {}})
    gpus.api.create(pod)
    gpus.api.wait(pod, finished)
    with_claim, without = said(gpus, "user"), said(gpus, "user", "other")
    assert with_claim.splitlines() == ["GPU=gpu-0", "/dev/gpu-0 character special file", "opened"]
    assert without.splitlines() == [
        "GPU=",
        "stat: can't stat '/dev/gpu-0': No such file or directory",
        "sh: can't open /tmp/own: Operation not permitted",
    ]


def test_two_nodes_run_side_by_side_and_leave_each_other_alone(node: Node, testbed: Testbed) -> None:
    """A kubelet kills containers that it does not know: each needs a containerd of its own."""
    with Node.start(testbed.control_plane, "real-2") as second:
        names = [node.name, second.name]
        pods = [objects.pod(testbed.namespace, f"on-{name}", nodeName=name) for name in names]
        uids = [testbed.run(pod)["status"]["containerStatuses"][0]["containerID"] for pod in pods]
        second.programs.kill("kubelet")
        second.programs.restart("kubelet")
        third = objects.pod(testbed.namespace, "third", nodeName=second.name)
        testbed.run(third)  # by now the restarted kubelet has looked at all containers that it sees
        again = [testbed.api.get(pod)["status"]["containerStatuses"][0] for pod in pods]
        assert [(status["containerID"], status["restartCount"]) for status in again] == [(uid, 0) for uid in uids]
        testbed.remove_workload()
    testbed.api.wait_gone(second.reference)


def test_pods_of_other_tests_do_not_come_to_the_node(node: Node, testbed: Testbed) -> None:
    """It lives as long as the pytest process, and tests of simulated nodes share its control plane."""
    elsewhere = objects.pod(testbed.namespace, "elsewhere")
    node.cordon()
    testbed.api.create(elsewhere)
    testbed.api.wait(elsewhere, lambda pod: "1 node(s) were unschedulable" in str(objects.is_running(pod)))
    node.uncordon()
    assert testbed.api.wait(elsewhere, objects.is_running)["spec"]["nodeName"] == node.name


def test_a_node_that_does_not_start_leaves_nothing_and_a_taken_name_is_said(
    node: Node, testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SandboxError, match=f"the cluster has a node '{node.name}' already"):
        Node.start(testbed.control_plane, node.name)
    assert testbed.api.get(node.reference)
    invented = {"unknownField": True}
    monkeypatch.setattr("sandbox.nodeconfig.kubelet", lambda *_: invented)
    with pytest.raises(StartError, match="kubelet ended with 1"):
        Node.start(testbed.control_plane, "broken")
    assert testbed.api.find({**node.reference, "metadata": {"name": "broken"}}) is None


def test_our_own_runtime_is_not_foreign(node: Node) -> None:
    assert node.programs.status()["containerd"].pid
    refuse_foreign_runtime()


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_foreign_runtime_is_refused(tmp_path: Path, name: str) -> None:
    """What every program of a sandbox inherits tells ours, and the refusal names the process."""
    ours, other, foreign = (tmp_path / number for number in ("11", "12", "13"))
    for process, comm, environ in (
        (ours, name, f"PATH=/bin\0{rundir.OWNER}=/tmp/node-1\0"),
        (other, "kubectl", "PATH=/bin\0"),
        (foreign, name, "PATH=/bin\0"),
    ):
        process.mkdir()
        (process / "comm").write_text(f"{comm}\n")
        (process / "environ").write_text(environ)
    with pytest.raises(ForeignRuntimeError, match=rf"a {name} that is not ours runs here \(process 13\); stop it"):
        refuse_foreign_runtime(tmp_path)
    foreign.rename(tmp_path / "thirteen")
    refuse_foreign_runtime(tmp_path)
