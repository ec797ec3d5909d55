"""Nobody but our account gives claims devices of our drivers; everything else about claims stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sandbox import objects
from sandbox.api import Api, ApiFault
from sandbox.controlplane import ControlPlane, ControlPlaneOptions
from sandbox.objects import Manifest
from sandbox.pki import kubeconfig_text, write_private
from sandbox.pytest_plugin import had_or_skipped
from sandbox.testbed import Testbed
from tests.manifests.fixtures import DRIVER, FINALIZER, allocated, classes, on_server

OTHER = "nic.example.com"
TEXT = (
    f'devices of {DRIVER} are allocated by the scheduler "dovetail" alone: '
    'set spec.schedulerName of the pod to "dovetail"'
)
ADMIN_LABEL = "resource.kubernetes.io/admin-access"

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("installed")]


@pytest.fixture
def ours(testbed: Testbed) -> Iterator[Api]:
    """The scheduler's account, by a token of its own."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    account["metadata"] = {"namespace": "dovetail", "name": "dovetail-scheduler"}  # type: ignore[assignment]
    plane = testbed.control_plane
    path = plane.directory / "ours.kubeconfig"
    access = {"token": testbed.api.token(account, seconds=600)}
    write_private(path, kubeconfig_text(plane.server, plane.authority.certificate, access).encode())
    api = Api(path)
    yield api
    api.close()


@pytest.fixture
def default(testbed: Testbed) -> Iterator[Api]:
    """The cluster's own scheduler."""
    api = Api(testbed.control_plane.credentials("system:kube-scheduler"))
    yield api
    api.close()


def claim_of(testbed: Testbed, name: str, **fields: object) -> Manifest:
    claim = objects.claim(testbed.namespace, name, DRIVER)
    claim["metadata"]["finalizers"] = [FINALIZER]
    claim["spec"]["devices"]["requests"][0]["exactly"].update(fields)
    return testbed.api.create(claim)


def results_of(stored: Manifest) -> list[Manifest]:
    results: list[Manifest] = stored["status"]["allocation"]["devices"]["results"]
    return results


def devices_of(stored: Manifest) -> list[str]:
    return [result["device"] for result in results_of(stored)]


def is_free(stored: Manifest) -> bool | str:
    held = [*stored["metadata"].get("finalizers", ()), *stored.get("status", {})]
    return not held or str(held)


def test_another_scheduler_is_refused_and_told_what_to_do(testbed: Testbed, default: Api) -> None:
    """Also where only one of several devices is ours."""
    claim = claim_of(testbed, "refused")
    ours_too = allocated(OTHER, "node/nics", "nic-0")
    ours_too["status"]["allocation"]["devices"]["results"] += results_of(allocated(DRIVER, "node/pool", "gpu-1"))
    for change in (allocated(DRIVER, "node/pool", "gpu-0"), ours_too):
        with pytest.raises(ApiFault) as refusal:
            default.patch(claim, change, subresource="status")
        assert refusal.value.status == 403
        said = json.loads(refusal.value.body or "")["message"]
        assert TEXT in said
        assert said.endswith("(refused: system:kube-scheduler)")
    assert "allocation" not in testbed.api.get(claim).get("status", {})


def test_no_older_version_of_the_api_leads_around_the_policy(allocate: list[Manifest]) -> None:
    older = [f"resource.k8s.io/{version}" for version in ("v1beta1", "v1beta2")]
    options = ControlPlaneOptions(runtime_config=dict.fromkeys(older, True), default_scheduler=False)
    with had_or_skipped(lambda: ControlPlane.start(options)) as plane, on_server(plane, allocate):
        claim = plane.api.create(objects.claim("default", "older", DRIVER))
        for version in older:
            other = {**claim, "apiVersion": version}
            assert plane.api.get(other)["apiVersion"] == version
            with pytest.raises(ApiFault, match="403"):
                plane.api.patch(other, allocated(DRIVER, "node/pool", "gpu-0"), subresource="status")


def test_our_account_allocates_and_others_reserve_release_and_clear(testbed: Testbed, ours: Api, default: Api) -> None:
    """A pod of another scheduler may join a claim that we allocated, and leave it."""
    claim = claim_of(testbed, "ours")
    stored = ours.replace({**claim, **allocated(DRIVER, "node/pool", "gpu-0", "gpu-1")}, subresource="status")
    assert devices_of(stored) == ["gpu-0", "gpu-1"]
    consumer = {"resource": "pods", "name": "other", "uid": "00000000-0000-4000-8000-000000000000"}
    joined = default.patch(claim, {"status": {"reservedFor": [consumer]}}, subresource="status")
    assert joined["status"]["reservedFor"] == [consumer]
    assert devices_of(joined) == ["gpu-0", "gpu-1"]
    default.patch(claim, {"status": {"reservedFor": None}}, subresource="status")
    cleared = default.patch(claim, {"status": {"allocation": None}}, subresource="status")
    assert "allocation" not in cleared["status"]


def test_the_claim_controller_clears_what_we_allocated_when_the_pod_is_gone(testbed: Testbed, ours: Api) -> None:
    claim = claim_of(testbed, "cleared")
    pod = testbed.api.create(objects.pod(testbed.namespace, "user", claim="cleared", scheduler="nobody"))
    change = allocated(DRIVER, "node/pool", "gpu-0")
    metadata = pod["metadata"]
    change["status"]["reservedFor"] = [{"resource": "pods", "name": metadata["name"], "uid": metadata["uid"]}]
    ours.replace({**claim, **change}, subresource="status")
    testbed.api.delete(pod, grace_s=0)
    testbed.api.wait(claim, is_free)


def test_access_for_administration_takes_no_device_and_passes(testbed: Testbed, default: Api) -> None:
    testbed.api.patch(objects.namespace(testbed.namespace), {"metadata": {"labels": {ADMIN_LABEL: "true"}}})
    claim = claim_of(testbed, "admin", adminAccess=True)
    stored = default.replace(
        {**claim, **allocated(DRIVER, "node/pool", "gpu-0", adminAccess=True)}, subresource="status"
    )
    assert devices_of(stored) == ["gpu-0"]


def test_devices_of_other_drivers_are_everybodys(testbed: Testbed, default: Api) -> None:
    claim = claim_of(testbed, "other")
    stored = default.replace({**claim, **allocated(OTHER, "node/nics", "nic-0")}, subresource="status")
    assert devices_of(stored) == ["nic-0"]


def test_a_pod_of_the_default_scheduler_waits_and_its_event_says_why(
    testbed: Testbed, allocate: list[Manifest]
) -> None:
    for each in classes(allocate):
        testbed.api.apply(each)
    (node,) = testbed.add_nodes(objects.node("fenced"))
    gpu = objects.device("gpu-0", attributes={"type": {"string": "gpu"}}, memory="80Gi")
    testbed.create(objects.resource_slice(node, DRIVER, [gpu]))
    testbed.api.create(objects.claim_template(testbed.namespace, "one", DRIVER))
    pod = testbed.api.create(objects.pod(testbed.namespace, "strays", template="one"))
    stored = testbed.api.wait(pod, lambda stored: TEXT in testbed.api.events(stored) or testbed.api.events(stored))
    assert "nodeName" not in stored["spec"]
    testbed.api.delete(pod, grace_s=0)
    testbed.api.wait_gone(pod)
