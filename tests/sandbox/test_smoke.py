"""The sandbox is a cluster of Kubernetes 1.36 that allocates devices and runs pods that hold them."""

from __future__ import annotations

from sandbox import objects
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed

DRIVER = "gpu.sandbox.test"


def gpu_node(testbed: Testbed, name: str, count: int = 1) -> None:
    """A simulated node with `count` devices, and a class for them."""
    testbed.add_nodes(objects.node(name))
    devices = [objects.device(f"gpu-{index}", memory="80Gi") for index in range(count)]
    testbed.create(objects.resource_slice(name, DRIVER, devices))
    testbed.create(objects.device_class("gpu", DRIVER))


def test_dynamic_resource_allocation_is_served_as_stable(control_plane: ControlPlane) -> None:
    assert '"resource.k8s.io/v1"' in control_plane.api.raw("/apis/resource.k8s.io")


def test_the_in_tree_scheduler_allocates_a_claim_on_a_simulated_node(testbed: Testbed) -> None:
    gpu_node(testbed, "fake-0")
    testbed.create(objects.claim(testbed.namespace, "one", "gpu"))
    pod = testbed.run(objects.pod(testbed.namespace, "user", claim="one"))
    claim = testbed.api.get(objects.claim(testbed.namespace, "one", "gpu"))
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert (pod["spec"]["nodeName"], result["pool"], result["device"]) == ("fake-0", "fake-0", "gpu-0")
    assert claim["status"]["reservedFor"][0]["uid"] == pod["metadata"]["uid"]


def test_the_inventory_of_one_test_is_gone_in_the_next(testbed: Testbed) -> None:
    for api_version, kind in ((objects.RESOURCE_API, "ResourceSlice"), (objects.RESOURCE_API, "DeviceClass")):
        assert testbed.api.list(api_version, kind) == []
