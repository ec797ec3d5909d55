"""The shortest way through everything real: slices, a template claim, kube-scheduler, our extender, a bound pod."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dra_driver.publish import DRIVER_NAME
from sandbox import objects
from sandbox.testbed import Testbed
from tests.scheduler.harness import NAME, OurScheduler, add_gpu_nodes, devices_of

MACHINE = "a100-8-pcie-nvlink-pairs"


@pytest.fixture
def ours(testbed: Testbed) -> Iterator[OurScheduler]:
    add_gpu_nodes(testbed, {MACHINE: 2})
    ours = OurScheduler.start(testbed.control_plane)
    yield ours
    ours.stop()


def test_a_pod_with_a_template_claim_gets_a_node_and_devices_there(testbed: Testbed, ours: OurScheduler) -> None:
    testbed.create(objects.claim_template(testbed.namespace, "pair", DRIVER_NAME, count=2))
    pod = testbed.run(objects.pod(testbed.namespace, "p", template="pair", scheduler=NAME))
    node = pod["spec"]["nodeName"]
    (claim,) = testbed.api.list(objects.RESOURCE_API, "ResourceClaim", testbed.namespace)
    devices = devices_of(claim)
    assert {pool for pool, _ in devices} == {f"{node}/{DRIVER_NAME}"}
    first, second = sorted(int(device.removeprefix("gpu-")) for _, device in devices)
    assert (first % 2, second) == (0, first + 1), "a pair joined by NVLink"
    assert claim["status"]["reservedFor"] == [{"resource": "pods", "name": "p", "uid": pod["metadata"]["uid"]}]
    assert ours.stop() == 0


def test_a_pod_without_devices_is_bound_where_kube_scheduler_wants_it(testbed: Testbed, ours: OurScheduler) -> None:
    assert testbed.run(objects.pod(testbed.namespace, "p", scheduler=NAME))["spec"]["nodeName"]
