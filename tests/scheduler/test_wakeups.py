"""A pod that waits for devices is tried again when there are some, and not only when kube-scheduler looks by itself.

It does so after 5 minutes (k8s.io/kubernetes, pkg/scheduler/backend/queue, DefaultPodMaxInUnschedulablePodsDuration):
whoever is bound within the time that these tests wait was woken. T34: pods that an extender rejected waited that long
(k/k #122019).
"""

from __future__ import annotations

import pytest

from sandbox import objects
from sandbox.api import Manifest
from sandbox.testbed import Testbed
from tests.manifests.fixtures import DRIVER, classes

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ours")]

OURS = "dovetail"
WOKEN_S = 60.0
"""Far less than 5 minutes, far more than a woken pod needs on a busy machine."""


@pytest.fixture
def waiting(testbed: Testbed, allocate: list[Manifest]) -> Manifest:
    """A pod that no node has a device for."""
    for each in classes(allocate):
        testbed.api.apply(each)
    testbed.add_nodes(objects.node("bare"))
    testbed.api.create(objects.claim(testbed.namespace, "waits", DRIVER))
    pod = testbed.api.create(objects.pod(testbed.namespace, "waits", claim="waits", scheduler=OURS))
    testbed.api.wait(pod, is_refused)
    return pod


def is_refused(stored: Manifest) -> bool | str:
    conditions = {each["type"]: each.get("reason", "") for each in stored.get("status", {}).get("conditions", [])}
    return conditions.get("PodScheduled") == "Unschedulable" or str(conditions)


def one_gpu() -> Manifest:
    return objects.resource_slice("bare", DRIVER, [objects.device("gpu-0", attributes={"type": {"string": "gpu"}})])


def test_a_new_slice_wakes_who_waits_for_its_devices(testbed: Testbed, waiting: Manifest) -> None:
    """kube-scheduler does not wake pods that an extender refused when slices change."""
    testbed.create(one_gpu())
    testbed.api.wait(waiting, objects.is_running, timeout_s=WOKEN_S)


def test_t34_a_freed_claim_wakes_who_waits_for_its_devices(testbed: Testbed, waiting: Manifest) -> None:
    testbed.create(one_gpu())
    testbed.api.wait(waiting, objects.is_running, timeout_s=WOKEN_S)
    testbed.api.create(objects.claim(testbed.namespace, "next", DRIVER))
    following = testbed.api.create(objects.pod(testbed.namespace, "next", claim="next", scheduler=OURS))
    testbed.api.wait(following, is_refused)
    testbed.api.delete(waiting, grace_s=0)
    testbed.api.wait(following, objects.is_running, timeout_s=WOKEN_S)


def test_a_slice_of_more_devices_wakes_too(testbed: Testbed, waiting: Manifest) -> None:
    """The same slice, changed: a driver announces what became healthy again."""
    empty = one_gpu()
    (device,) = empty["spec"]["devices"]
    device["attributes"]["type"] = {"string": "broken"}
    (stored,) = testbed.create(empty)
    testbed.api.replace({**stored, "spec": {**stored["spec"], "devices": one_gpu()["spec"]["devices"]}})
    testbed.api.wait(waiting, objects.is_running, timeout_s=WOKEN_S)
