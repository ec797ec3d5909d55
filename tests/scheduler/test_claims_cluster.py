"""What pods may ask, end to end on a real kube-scheduler: no pod has a node without all devices that it asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from dovetail.sandbox_cmd_scheduler import NAME
from sandbox import objects
from sandbox.api import Manifest
from sandbox.controlplane import ControlPlane
from tests.scheduler.harness import devices_of
from tests.scheduler.lab import GPU_CLASS, GPUS, RESOURCE, Lab, asking

pytestmark = pytest.mark.cluster

NODES = 2
NIC, OTHER = "nic.example.com", "fpga.example.com"
"""A driver that we allocate for too, and one that we were not told of."""
PCIE_ROOT = "resource.kubernetes.io/pcieRoot"
IMPLICIT = "deviceclass.resource.kubernetes.io/nvidia"


@pytest.fixture(scope="module")
def shared_lab(control_plane: ControlPlane) -> Iterator[Lab]:
    drivers = [word for driver in (GPU_CLASS, NIC) for word in ("--driver", driver)]
    with Lab.on(control_plane, *drivers, nodes=NODES) as lab:
        lab.testbed.create(objects.device_class(NIC, NIC), objects.device_class(OTHER, OTHER))
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    yield shared_lab
    shared_lab.clear()


# Extended resources


def test_extended_resources_are_served_by_a_claim_for_the_pod(lab: Lab) -> None:
    pods = {
        "by-name": lab.extended_pod("by-name", devices=2),
        "implicit": lab.extended_pod("implicit", resource=IMPLICIT),
    }
    nodes = lab.wait_bound(pods)
    for name, count in (("by-name", 2), ("implicit", 1)):
        status = lab.api.get(pods[name])["status"]["extendedResourceClaimStatus"]
        claim = lab.api.get(objects.claim(lab.namespace, status["resourceClaimName"], ""))
        assert len(devices_of(claim)) == count
        assert {pool.split("/")[0] for pool, _ in devices_of(claim)} == {nodes[name]}
        assert claim["metadata"]["ownerReferences"][0]["uid"] == pods[name]["metadata"]["uid"]
        (mapping,) = status["requestMappings"]
        assert mapping["containerName"] == "main"
        assert mapping["resourceName"] == (IMPLICIT if name == "implicit" else RESOURCE)


def test_a_node_whose_device_plugin_offers_the_resource_needs_no_claim(lab: Lab) -> None:
    lab.testbed.add_nodes(objects.node("plugin", capacity={RESOURCE: "4"}))
    pod = asking(objects.pod(lab.namespace, "plugged", scheduler=NAME), RESOURCE, 2)
    lab.api.create({**pod, "spec": {**pod["spec"], "nodeSelector": {"kubernetes.io/hostname": "plugin"}}})
    assert lab.wait_bound(["plugged"]) == {"plugged": "plugin"}
    assert "extendedResourceClaimStatus" not in lab.api.get(pod)["status"]
    assert lab.api.list(objects.RESOURCE_API, "ResourceClaim", lab.namespace) == []


def test_extended_resources_that_cannot_be_served_are_refused(lab: Lab) -> None:
    too_many = lab.extended_pod("too-many", devices=GPUS + 1)
    lab.api.wait(too_many, lab.says("no devices free for the claims of the pod"))
    unknown = lab.extended_pod("unknown", resource="example.com/thing")
    lab.api.wait(unknown, lab.says("Insufficient example.com/thing"))
    assert lab.api.list(objects.RESOURCE_API, "ResourceClaim", lab.namespace) == []


# Claims


def test_pods_that_share_a_claim_all_go_where_its_devices_are(lab: Lab) -> None:
    lab.api.create(lab.claim("shared", devices=2))
    pods = [lab.api.create(objects.pod(lab.namespace, f"s-{at}", claim="shared", scheduler=NAME)) for at in range(8)]
    nodes = lab.wait_bound([pod["metadata"]["name"] for pod in pods])
    assert len(set(nodes.values())) == 1
    claim = lab.api.get(lab.claim("shared"))
    assert {user["uid"] for user in claim["status"]["reservedFor"]} == {pod["metadata"]["uid"] for pod in pods}
    assert len(devices_of(claim)) == 2


def test_a_pod_of_many_claims_in_init_sidecar_and_main_containers(lab: Lab) -> None:
    """A named claim and two from templates, each used by another kind of container."""
    lab.api.create(lab.claim("named", devices=2))
    lab.api.create(objects.claim_template(lab.namespace, "one", GPU_CLASS))
    pod = objects.pod(lab.namespace, "many", scheduler=NAME)
    (main,) = pod["spec"]["containers"]

    def container(name: str, claim: str, **more: object) -> Manifest:
        return {**main, "name": name, "resources": {"claims": [{"name": claim}]}, **more}

    pod["spec"] |= {
        "resourceClaims": [
            {"name": "named", "resourceClaimName": "named"},
            {"name": "first", "resourceClaimTemplateName": "one"},
            {"name": "second", "resourceClaimTemplateName": "one"},
        ],
        "initContainers": [
            container("init", "first", command=["true"]),
            container("sidecar", "second", restartPolicy="Always"),
        ],
        "containers": [container("main", "named")],
    }
    lab.api.create(pod)
    node = lab.wait_bound(["many"])["many"]
    claims = lab.api.list(objects.RESOURCE_API, "ResourceClaim", lab.namespace)
    devices = [device for claim in claims for device in devices_of(claim)]
    assert len(claims) == 3
    assert len(set(devices)) == 4
    assert {pool.split("/")[0] for pool, _ in devices} == {node}


def request(name: str, class_name: str, **more: object) -> Manifest:
    return {"name": name, "exactly": {"deviceClassName": class_name, **more}}


def claim_of(lab: Lab, name: str, *requests: Manifest, **devices: object) -> Manifest:
    """Create a claim of these requests, and a pod of the same name that uses it."""
    claim = lab.claim(name)
    claim["spec"]["devices"] = {"requests": list(requests), **devices}
    lab.api.create(claim)
    return lab.api.create(objects.pod(lab.namespace, name, claim=name, scheduler=NAME))


def results(lab: Lab, name: str) -> Mapping[str, Manifest]:
    """Results of a claim's allocation by request."""
    claim = lab.api.get(lab.claim(name))
    return {each["request"]: each for each in claim["status"]["allocation"]["devices"]["results"]}


def root_of(lab: Lab, driver: str, pool: str, device: str) -> Any:
    """Return the PCIe root complex that a device says it is at."""
    (found,) = (
        each
        for stored in lab.api.list(objects.RESOURCE_API, "ResourceSlice")
        if (stored["spec"]["driver"], stored["spec"]["pool"]["name"]) == (driver, pool)
        for each in stored["spec"].get("devices") or ()
        if each["name"] == device
    )
    return found["attributes"][PCIE_ROOT]["string"]


def test_a_gpu_and_a_nic_of_two_drivers_at_one_pcie_root(lab: Lab) -> None:
    """Of the second node's NICs one is at no GPU's root, the other at that of its sixth GPU."""
    node = "hgx-h100-8-1"
    root = root_of(lab, GPU_CLASS, f"{node}/{GPU_CLASS}", "gpu-5")
    nics = [
        objects.device(f"nic-{at}", attributes={PCIE_ROOT: {"string": each}}) for at, each in enumerate(["none", root])
    ]
    lab.testbed.create(objects.resource_slice(node, NIC, nics))
    together = {"constraints": [{"requests": ["gpu", "nic"], "matchAttribute": PCIE_ROOT}]}
    claim_of(lab, "near", request("gpu", GPU_CLASS), request("nic", NIC), **together)
    assert lab.wait_bound(["near"]) == {"near": node}
    found = results(lab, "near")
    assert (found["gpu"]["device"], found["nic"]["device"]) == ("gpu-5", "nic-1")
    assert root_of(lab, NIC, node, "nic-1") == root
    second = claim_of(lab, "next", request("gpu", GPU_CLASS), request("nic", NIC), **together)
    lab.api.wait(second, lab.says("no devices free"))


def test_a_claim_of_a_driver_that_is_not_ours_is_refused_with_the_reason(lab: Lab) -> None:
    lab.testbed.create(objects.resource_slice("hgx-h100-8-0", OTHER, [objects.device("fpga-0")]))
    pod = claim_of(lab, "foreign", request("fpga", OTHER))
    lab.api.wait(pod, lab.says(f"driver {OTHER}, for which Dovetail does not allocate"))


def test_the_first_alternative_that_fits_is_taken(lab: Lab) -> None:
    """More GPUs than a node has, then two, then one."""
    alternatives = [
        {"name": name, "deviceClassName": GPU_CLASS, "count": count}
        for name, count in (("many", GPUS + 1), ("two", 2), ("one", 1))
    ]
    claim_of(lab, "either", {"name": "gpu", "firstAvailable": alternatives})
    lab.wait_bound(["either"])
    claim = lab.api.get(lab.claim("either"))
    assert [each["request"] for each in claim["status"]["allocation"]["devices"]["results"]] == ["gpu/two", "gpu/two"]


def test_access_for_administration_takes_no_device(lab: Lab) -> None:
    lab.api.patch(
        objects.namespace(lab.namespace),
        {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}},
    )
    for at in range(NODES):
        lab.pod(f"full-{at}", devices=GPUS)
    lab.wait_bound([f"full-{at}" for at in range(NODES)])
    claim_of(lab, "watcher", request("all", GPU_CLASS, allocationMode="All", adminAccess=True))
    lab.wait_bound(["watcher"])
    claim = lab.api.get(lab.claim("watcher"))
    found = claim["status"]["allocation"]["devices"]["results"]
    assert len(found) == GPUS
    assert all(each["adminAccess"] for each in found)


def test_a_selector_that_fails_is_named_in_the_event(lab: Lab) -> None:
    """Not taken for a lack of devices: kube-scheduler's own allocator ends such a pod with the fault, too."""
    expression = f'device.attributes["{GPU_CLASS}"].nothing == "x"'
    pod = claim_of(lab, "faulty", request("gpu", GPU_CLASS, selectors=[{"cel": {"expression": expression}}]))
    lab.api.wait(pod, lab.says("no such key: nothing"))
    assert "faulty" in lab.api.events(pod)
