"""Beside a default scheduler that wants the same devices, none ends in two claims, and who is refused reads why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dovetail import sandbox_cmd_gpus as gpus
from sandbox import kustomize, objects
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.deployed import DeployedPod
from sandbox.load.run import allocated_twice
from sandbox.objects import Manifest
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.manifests.fixtures import DRIVER, SCHEDULER, classes, on_server, run

pytestmark = pytest.mark.cluster

OURS, DEFAULT = "dovetail", "default-scheduler"
TEXT = f'devices of {DRIVER} are allocated by the scheduler "dovetail" alone'
MACHINE, GPUS = "hgx-h100-8", 8
WHOLE_GPUS_ONLY = (1, 34)
"""An API server that old is told of whole GPUs alone; the default scheduler takes seconds per pod for more."""
WRITERS = 8


def add_gpus(testbed: Testbed, nodes: int, manifests: list[Manifest]) -> None:
    """Nodes of eight whole GPUs each, and the DeviceClasses."""
    wanted = {MACHINE: nodes}
    testbed.add_nodes(*gpus.node_manifests(wanted))
    uids = {node["metadata"]["name"]: node["metadata"]["uid"] for node in testbed.api.list("v1", "Node")}
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(testbed.api.create, gpus.slice_manifests(wanted, uids, WHOLE_GPUS_ONLY)))
    for each in classes(manifests):
        testbed.api.apply(each)


def compete(testbed: Testbed, pods: int, timeout_s: float) -> None:
    """As many pods of either scheduler at the same time, each for one GPU of those that ours need all."""
    one = objects.claim_template(testbed.namespace, "one", DRIVER)
    testbed.create(one)
    wanted = [
        objects.pod(testbed.namespace, f"{scheduler}-{number}", template="one", scheduler=scheduler)
        for number in range(pods // 2)
        for scheduler in (DEFAULT, OURS)
    ]
    with ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(testbed.api.create, wanted))

    def all_of_ours() -> bool | NotYet:
        bound = {pod["spec"]["schedulerName"]: 0 for pod in wanted}
        for pod in testbed.api.list("v1", "Pod", testbed.namespace):
            bound[pod["spec"]["schedulerName"]] += bool(pod["spec"].get("nodeName"))
        assert bound[DEFAULT] == 0
        return bound[OURS] == pods // 2 or NotYet(f"{bound[OURS]} bound")

    wait_for("our pods to be bound", all_of_ours, timeout_s=timeout_s, every_s=0.5)
    claims = testbed.api.list(objects.RESOURCE_API, "ResourceClaim", testbed.namespace)
    held = [claim for claim in claims if "allocation" in claim.get("status", {})]
    assert len(held) == pods // 2
    assert allocated_twice(held) == []


def refusals(testbed: Testbed) -> dict[str, str]:
    """Pod of the default scheduler -> its last event of a failure."""
    events = testbed.api.list("v1", "Event", testbed.namespace)
    failed = [event for event in events if event["reason"] == "FailedScheduling"]
    return {
        event["involvedObject"]["name"]: event["message"]
        for event in failed
        if event["involvedObject"]["name"].startswith(DEFAULT)
    }


@pytest.mark.parametrize("pods", [500, pytest.param(10_000, marks=pytest.mark.soak)])
def test_devices_that_two_schedulers_want_end_in_one_claim_each(
    testbed: Testbed, allocate: list[Manifest], ours: DeployedPod, pods: int
) -> None:
    add_gpus(testbed, -(-pods // (2 * GPUS)), allocate)
    compete(testbed, pods, timeout_s=60 + 0.2 * pods)

    def all_told() -> bool | NotYet:
        told = refusals(testbed)
        return len(told) == pods // 2 or NotYet(f"{len(told)} have an event")

    wait_for("every refused pod to have an event", all_told, timeout_s=60 + 0.2 * pods, every_s=1)
    unread = {name: text for name, text in refusals(testbed).items() if not is_readable(text)}
    assert unread == {}
    testbed.remove_workload(timeout_s=60 + 0.1 * pods)


def is_readable(text: str) -> bool:
    """Refused by the policy, or nothing was free: in both cases the event says so."""
    return TEXT in text or "cannot allocate all claims" in text


def test_a_pod_of_another_scheduler_joins_a_claim_that_we_allocated(
    testbed: Testbed, allocate: list[Manifest], ours: DeployedPod
) -> None:
    add_gpus(testbed, 2, allocate)
    testbed.api.create(objects.claim(testbed.namespace, "shared", DRIVER))
    first = testbed.run(objects.pod(testbed.namespace, "first", claim="shared", scheduler=OURS))
    second = testbed.run(objects.pod(testbed.namespace, "second", claim="shared"))
    assert second["spec"]["nodeName"] == first["spec"]["nodeName"]


@pytest.fixture
def tainting(tmp_path: Path) -> Iterator[tuple[Testbed, list[Manifest]]]:
    """A control plane that serves taint rules, with our scheduler and its taint."""
    here = os.path.relpath(SCHEDULER, tmp_path)
    content = f"resources: [{here}]\ncomponents: [{here}/taint]\n"
    (tmp_path / "kustomization.yaml").write_text(content)
    manifests = had_or_skipped(lambda: kustomize.render(tmp_path))
    options = ControlPlaneOptions(
        feature_gates={"DRADeviceTaintRules": True}, runtime_config={"resource.k8s.io/v1beta2": True}
    )
    with had_or_skipped(lambda: ControlPlane.start(options)) as plane, on_server(plane, manifests):
        testbed = Testbed(plane)
        testbed.open()
        run(plane, manifests)
        yield testbed, manifests
        testbed.close()


def test_the_taint_keeps_other_schedulers_from_trying(tainting: tuple[Testbed, list[Manifest]]) -> None:
    testbed, manifests = tainting
    add_gpus(testbed, 1, manifests)
    for scheduler in (DEFAULT, OURS):
        testbed.api.create(objects.claim(testbed.namespace, scheduler, DRIVER))
    stray = testbed.api.create(objects.pod(testbed.namespace, "stray", claim=DEFAULT))
    testbed.api.wait(stray, lambda _: "cannot allocate all claims" in testbed.api.events(stray) or "no such event")
    testbed.run(objects.pod(testbed.namespace, "ours", claim=OURS, scheduler=OURS))
    untouched = testbed.api.get(objects.claim(testbed.namespace, DEFAULT, DRIVER))
    assert not untouched["metadata"].get("finalizers")
    assert "allocation" not in untouched.get("status", {})
