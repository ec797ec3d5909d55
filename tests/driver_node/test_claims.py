"""Claims and pods as users write them, from their making to their end (kubernetes/test/e2e/dra/dra.go)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import objects
from sandbox.objects import Manifest
from sandbox.waiting import NotYet, wait_for
from tests.driver_node.box import DRIVER, RUN_S, Bed, Box, allocated, claim, request, uses
from tests.driver_node.conftest import bed_of, prepared

pytestmark = pytest.mark.node
XID, RESET = 64, 1
"""A row remapping that failed; what NVML then says is needed."""


@pytest.fixture
def bed(h100: Box) -> Iterator[Bed]:
    yield from bed_of(h100)


def whole(here: Box, bed: Bed, name: str) -> Manifest:
    """Create a claim for a GPU; return a pod that uses it, both called `name`."""
    bed.create(claim(bed.namespace, name, request("gpu", "gpu")))
    return here.probing(bed.namespace, name, {"gpu": name}, uses("main"))


def ends(pod: Manifest, container: int = 0) -> Manifest:
    """Let a container of `Box.probing` end when it has said what it sees."""
    main = pod["spec"]["containers"][container]
    main["command"][-1] = main["command"][-1].removesuffix("exec sleep 3600")
    return pod


def test_slices_belong_to_the_node_and_are_one_complete_pool(h100: Box) -> None:
    slices = h100.slices()
    node = h100.plane.api.get(h100.node.reference)
    owners = [owner["uid"] for each in slices for owner in each["metadata"]["ownerReferences"]]
    assert owners == [node["metadata"]["uid"]] * len(slices)
    (pool,) = {tuple(sorted(each["spec"]["pool"].items())) for each in slices}
    assert dict(pool)["resourceSliceCount"] == len(slices)


def test_a_pod_whose_claim_is_not_allocated_does_not_run(h100: Box, bed: Bed) -> None:
    """Bound by hand, past all schedulers: the kubelet waits for the claim, and we are never asked."""
    pod = whole(h100, bed, "early")
    pod["spec"]["nodeName"] = h100.node.name
    before = h100.calls("NodePrepareResources")
    bed.api.create(pod)
    h100.waits_with(bed, pod, "early")
    assert prepared(h100) == set()
    assert h100.calls("NodePrepareResources") == before


def test_reservation_and_devices_go_when_the_pod_is_done(h100: Box, bed: Bed) -> None:
    """The pod stays, done; the claim stays, but neither is allocated nor prepared."""
    pod = ends(whole(h100, bed, "done"))
    bed.api.create(pod)
    bed.api.wait(pod, lambda stored: stored["status"].get("phase") == "Succeeded" or str(stored), timeout_s=RUN_S)

    def let_go() -> bool | NotYet:
        status = bed.get_claim("done").get("status", {})
        return NotYet(str(status)) if status.get("reservedFor") or status.get("allocation") else True

    wait_for("the claim to be free", let_go, timeout_s=RUN_S)
    wait_for("the device to be free", lambda: not prepared(h100) or NotYet(str(prepared(h100))), timeout_s=RUN_S)


def test_a_claim_from_a_template_goes_when_its_pod_is_done(h100: Box, bed: Bed) -> None:
    bed.create(objects.claim_template(bed.namespace, "each", DRIVER))
    pod = ends(h100.probing(bed.namespace, "user", {}, uses("main")))
    pod["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "each"}]
    bed.api.create(pod)
    assert len(h100.view(pod, "main").gpus) == 1

    def gone() -> bool | NotYet:
        left = [each["metadata"]["name"] for each in bed.api.list(objects.RESOURCE_API, "ResourceClaim", bed.namespace)]
        return NotYet(str(left)) if left else True

    wait_for("no claim", gone, timeout_s=RUN_S)
    assert bed.api.get(pod)["status"]["phase"] == "Succeeded"
    wait_for("the device to be free", lambda: not prepared(h100) or NotYet(str(prepared(h100))), timeout_s=RUN_S)


def test_five_pods_share_a_claim_and_end_in_any_order(h100: Box, bed: Bed) -> None:
    bed.create(claim(bed.namespace, "common", request("gpu", "mig")))
    names = [f"user-{number}" for number in range(5)]
    pods = {name: h100.probing(bed.namespace, name, {"gpu": "common"}, uses("main")) for name in names}
    for pod in pods.values():
        bed.api.create(pod)
    views = [h100.view(pod, "main") for pod in pods.values()]
    assert all((view.devices, view.nodes) == (views[0].devices, views[0].nodes) for view in views)
    assert sum(len(gpu.instances) for gpu in h100.twin.state.gpus) == 1
    for name in ("user-3", "user-0", "user-4", "user-1"):
        bed.api.delete(pods[name])
        bed.api.wait_gone(pods[name])
        assert prepared(h100) == {"common"}
    bed.remove_workload()
    assert prepared(h100) == set()


def test_a_class_that_comes_later_lets_the_pod_run(h100: Box, bed: Bed) -> None:
    asked = request("gpu", "gpu")
    asked["exactly"]["deviceClassName"] = "later.example.com"
    bed.create(claim(bed.namespace, "later", asked))
    pod = h100.probing(bed.namespace, "later", {"gpu": "later"}, uses("main"))
    bed.api.create(pod)
    bed.api.wait(pod, lambda stored: "later.example.com" in str(objects.is_running(stored)) or "not seen yet")
    bed.create(objects.device_class("later.example.com", DRIVER, f'device.attributes["{DRIVER}"].type == "gpu"'))
    bed.api.wait(pod, objects.is_running, timeout_s=RUN_S)
    assert len(h100.view(pod, "main").gpus) == 1


def test_three_claims_of_two_requests_reach_the_containers_that_name_them(h100: Box, bed: Bed) -> None:
    """Each container has its one GPU, out of six, and the GPU the settings of that request alone."""
    intervals, levels = {"a": "Short", "b": "Long"}, {"a": 1, "b": 3}
    config = [
        {
            "requests": [name],
            "opaque": {
                "driver": DRIVER,
                "parameters": {
                    "apiVersion": "gpu.dovetail.dev/v1alpha1",
                    "kind": "GpuConfig",
                    "sharing": {"strategy": "time-slicing", "timeSlicing": {"interval": interval}},
                },
            },
        }
        for name, interval in intervals.items()
    ]
    claims = [f"claim-{number}" for number in range(3)]
    for each in claims:
        bed.create(claim(bed.namespace, each, request("a", "gpu"), request("b", "gpu"), config=config))
    containers = [uses(f"{each}-{name}", name, claim=each) for each in claims for name in intervals]
    pod = h100.probing(bed.namespace, "user", {each: each for each in claims}, *containers)
    views = h100.run(bed, pod)
    seen = []
    for each in claims:
        results = bed.get_claim(each)["status"]["allocation"]["devices"]["results"]
        for result in results:
            view = views[f"{each}-{result['request']}"]
            minor = int(result["device"].removeprefix("gpu-"))
            assert view.gpus == {minor}
            assert view.passed == set(view.nodes.values())
            assert h100.twin.state.gpus[minor].time_slice == levels[result["request"]]
            seen.append(minor)
    assert len(set(seen)) == 6


def test_an_xid_is_told_in_the_pods_status_with_its_text_and_taken_back(h100: Box, bed: Bed) -> None:
    pod = whole(h100, bed, "ill")
    h100.run(bed, pod)
    (device,) = allocated(bed.get_claim("ill"))
    minor = int(device.removeprefix("gpu-"))

    def told() -> dict[str, str]:
        """Return health -> message of the pod's devices."""
        status = bed.api.get(pod)["status"]["containerStatuses"][0].get("allocatedResourcesStatus", ())
        return {each["health"]: each.get("message", "") for one in status for each in one.get("resources", ())}

    h100.twin.xid(minor, XID, recovery_action=RESET)
    wait_for("Unhealthy", lambda: "Unhealthy" in told() or NotYet(str(told())), timeout_s=RUN_S, every_s=0.1)
    assert f"XID {XID}" in told()["Unhealthy"]
    h100.twin.recover(minor)
    wait_for("Healthy", lambda: set(told()) == {"Healthy"} or NotYet(str(told())), timeout_s=RUN_S)
