"""The cluster as a whole: thousands of simulated nodes, several schedulers, and nothing left after three runs."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sandbox import cgroups, isolation, objects, rundir, tools
from sandbox.api import Manifest
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.errors import StartError, WaitTimeoutError
from sandbox.fakenodes import RUN_TIME
from sandbox.preflight import check
from sandbox.pytest_plugin import had_or_skipped
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import INVENTORY, WORKLOAD, Testbed
from sandbox.waiting import NotYet, wait_for
from tests.sandbox.children import child, ended, first_line

MANY = 1000
RUN = """
import sys, time
from sandbox.controlplane import ControlPlane
from sandbox.node import Node
with ControlPlane.start() as plane, Node.start(plane, "real-1") as node:
    print(node.paths.directory.name, flush=True)
    if sys.argv[1] == "waits":
        time.sleep(600)
"""


def test_a_thousand_simulated_nodes_become_ready(testbed: Testbed) -> None:
    names = testbed.add_nodes(*(objects.node(f"many-{number}") for number in range(MANY)))
    assert len(names) == MANY


def test_pods_on_simulated_nodes_run_complete_and_go(testbed: Testbed) -> None:
    testbed.add_nodes(objects.node("stages"))
    pod = objects.pod(testbed.namespace, "short")
    pod["metadata"]["annotations"] = {RUN_TIME: "1s"}
    testbed.run(pod)
    testbed.api.wait(pod, lambda stored: stored["status"]["phase"] == "Succeeded" or "it runs")
    endless = objects.pod(testbed.namespace, "endless")
    testbed.run(endless)
    testbed.api.delete(endless)
    testbed.api.wait_gone(endless)


def test_an_unmet_wait_tells_what_was_seen_and_the_events(testbed: Testbed) -> None:
    testbed.add_nodes(objects.node("small", capacity={"cpu": "1"}))
    pod = objects.pod(testbed.namespace, "big")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "8"}}
    testbed.api.create(pod)
    condition = r"PodScheduled: 0/\d nodes are available: .*1 Insufficient cpu"  # a real node may stand beside it
    event = r"FailedScheduling: 0/\d nodes are available"
    testbed.api.wait(pod, lambda stored: bool(re.search(condition, str(objects.is_running(stored)))))
    wait_for("the event", lambda: bool(re.search(event, testbed.api.events(pod))) or NotYet("none"))
    with pytest.raises(WaitTimeoutError) as fault:
        testbed.api.wait(pod, objects.is_running, timeout_s=0.1, what="to run")
    assert f"waited 0.1 s in vain for Pod {testbed.namespace}/big to run; seen:" in str(fault.value)
    assert re.search(condition, str(fault.value))
    assert re.search(event, str(fault.value))


def test_a_pod_that_does_not_go_is_forced_to_and_the_inventory_goes_with_it(control_plane: ControlPlane) -> None:
    testbed = Testbed(control_plane)
    testbed.open()
    (name,) = testbed.add_nodes(objects.node("held"))
    driver = "gpu.held.test"
    testbed.create(objects.resource_slice(name, driver, [objects.device("gpu-0")]), objects.device_class("gpu", driver))
    testbed.create(objects.claim(testbed.namespace, "held", "gpu"))
    pod = objects.pod(testbed.namespace, "held", claim="held")
    pod["metadata"]["finalizers"] = ["example.com/held"]
    testbed.run(pod)
    with pytest.raises(WaitTimeoutError, match="to have no Pod"):
        testbed.close(timeout_s=0.1)
    for kind in WORKLOAD:
        ours = partial(testbed.api.list, *kind, testbed.namespace)
        wait_for(f"no {kind}", lambda ours=ours: NotYet(str(left)) if (left := ours()) else True)
    for kind in INVENTORY:
        wait_for(f"no {kind}", lambda kind=kind: NotYet(str(left)) if (left := testbed.api.list(*kind)) else True)
    assert testbed.api.find({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}) is None


def test_a_second_scheduler_schedules_its_pods_alone(testbed: Testbed) -> None:
    testbed.add_nodes(objects.node("second"))
    options = SchedulerOptions(configuration={"profiles": [{"schedulerName": "second"}]})
    scheduler = SecondScheduler.start(testbed.control_plane, "second-scheduler", options)
    testbed.run(objects.pod(testbed.namespace, "ours", scheduler="second"))
    scheduler.stop()
    orphan = objects.pod(testbed.namespace, "orphan", scheduler="second")
    with pytest.raises(WaitTimeoutError):
        testbed.run(orphan, timeout_s=1.0)


def test_replicas_of_a_scheduler_elect_a_leader_by_their_host_names(testbed: Testbed) -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    lease["metadata"] = {"namespace": "kube-system", "name": "kube-scheduler"}
    configuration = {
        "profiles": [{"schedulerName": "elected"}],
        "leaderElection": {"leaderElect": True, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "1s"},
    }
    replicas = [
        SecondScheduler.start(
            testbed.control_plane, name, SchedulerOptions(configuration=configuration, hostname=f"{name}-host")
        )
        for name in ("elected-1", "elected-2")
    ]

    def holder(stored: Manifest) -> str:
        return str(stored["spec"].get("holderIdentity", "")).partition("_")[0]

    first = holder(testbed.api.wait(lease, lambda stored: holder(stored).startswith("elected-") or "no holder"))
    replicas[first == "elected-2-host"].stop()
    other = "elected-1-host" if first == "elected-2-host" else "elected-2-host"
    testbed.api.wait(lease, lambda stored: holder(stored) == other or f"held by {holder(stored)}")
    for replica in replicas:
        replica.stop()


def test_a_component_that_refuses_its_flags_is_reported_with_its_log() -> None:
    options = ControlPlaneOptions(feature_gates={"NoSuchGate": True})
    with pytest.raises(StartError, match=r"kube-apiserver ended with 1(.|\n)*unrecognized feature gate: NoSuchGate"):
        had_or_skipped(lambda: ControlPlane.start(options))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


RUNTIME_FOLDERS = ("/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")


def residue(node: str) -> dict[str, object]:
    """What these runs could leave on the machine; sandboxes of others may come and go meanwhile."""
    base = str(rundir.base())
    groups = [hierarchy / f"dovetail-{node}" for hierarchy in cgroups.hierarchies()]
    return {
        "processes": [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if _is_ours(path)],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if base in line],
        "cgroups": [str(group) for group in groups if group.exists()],
        "folders": [path.name for path in rundir.base().iterdir() if path.is_dir() and path.name != "logs"],
        "sockets": [line for line in Path("/proc/net/unix").read_text().splitlines() if base in line],
        "sysctls": {name: Path(f"/proc/sys/{name}").read_text() for name in isolation.SYSCTLS},
        "machine": [folder for folder in RUNTIME_FOLDERS if Path(folder).exists()],
    }


def _is_ours(environ: Path) -> bool:
    try:
        return f"{rundir.OWNER}={rundir.base()}".encode() in environ.read_bytes()
    except OSError:
        return False


def _same_residue(node: str, before: dict[str, object]) -> bool | NotYet:
    now = residue(node)
    return now == before or NotYet(str({name: value for name, value in now.items() if value != before[name]}))


def test_three_runs_leave_nothing_however_they_end(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    had_or_skipped(check)
    had_or_skipped(lambda: tools.provide([*tools.CONTROL_PLANE, *tools.NODE]))
    monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", str(short_folder))
    before = residue("none")
    for ending in ("returns", signal.SIGINT, signal.SIGKILL):
        with child("-c", RUN, "returns" if ending == "returns" else "waits") as process:
            node = first_line(process)
            assert node, "it did not start; its standard error says why"
            code = ended(process, ending) if isinstance(ending, signal.Signals) else process.wait()
        assert (code == 0) == (ending == "returns")
        wait_for(f"nothing to be left after {ending}", partial(_same_residue, node, before))
