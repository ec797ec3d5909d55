"""A real kubelet and containerd give a container the devices of its claim, and no other container."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import objects
from sandbox.errors import ForeignRuntimeError
from sandbox.node import Node
from sandbox.preflight import refuse_foreign_runtime
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.sandbox import draplugin

DRIVER = "gpu.node.test"
SHOW = "echo GPU=$GPU; stat -c '%n %F' /dev/gpu-0"
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


def test_a_foreign_runtime_is_refused(node: Node, tmp_path: Path) -> None:
    """Neither our own containerd nor anything else counts, and the refusal names the process."""
    refuse_foreign_runtime()
    foreign = shutil.copy(shutil.which("sleep") or "", tmp_path / "kubelet")
    with subprocess.Popen([foreign, "7654"]) as process:
        refusal = rf"a kubelet that is not ours runs here \(process {process.pid}\); stop it"
        try:
            comm = Path(f"/proc/{process.pid}/comm")
            wait_for("its name", lambda: comm.read_text() == "kubelet\n" or NotYet(comm.read_text()))
            with pytest.raises(ForeignRuntimeError, match=refusal):
                refuse_foreign_runtime()
        finally:
            process.kill()
