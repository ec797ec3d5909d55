"""The client against a real API server: what is written is stored, what goes wrong is a typed error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kube.access import Access
from kube.client import ApiClient, Selection
from kube.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidObjectError,
    NotFoundError,
    UnavailableError,
)
from kube.kinds import CLAIMS, CLASSES, LEASES, PODS, SLICES, TAINT_RULES, TEMPLATES
from kube.objects import DeviceAttribute, Namespace
from sandbox import objects
from sandbox.chaos.faults import Answer, Delay, Fault, Match, Reset
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from tests.kube.picture import custom_kind

Had = TypeVar("Had")
CLAIM_CALLS = Match(resources=["resourceclaims*"])


def with_client(kubeconfig: Path, work: Callable[[ApiClient], Awaitable[Had]], *, timeout_s: float = 10.0) -> Had:
    async def run() -> Had:
        async with ApiClient(Access(kubeconfig), timeout_s=timeout_s) as client:
            return await work(client)

    return asyncio.run(run())


def claim(testbed: Testbed, name: str = "one") -> dict[str, Any]:
    return objects.claim(testbed.namespace, name, "gpu.example.com", 'device.attributes["x"].y == 1', count=2)


def test_a_claim_is_created_read_changed_and_deleted(testbed: Testbed) -> None:
    async def work(client: ApiClient) -> None:
        stored = await client.create(CLAIMS, claim(testbed))
        read = await client.get(CLAIMS, testbed.namespace, "one")
        (request,) = read.spec.devices.requests
        assert request.exactly is not None
        assert (request.name, request.exactly.count, request.exactly.allocation_mode) == ("gpu", 2, "ExactCount")
        assert [each.cel and each.cel.expression for each in request.exactly.selectors] == [
            'device.attributes["x"].y == 1'
        ]
        assert read.metadata.uid == stored["metadata"]["uid"]

        stored["metadata"]["labels"] = {"a": "b"}
        updated = await client.update(CLAIMS, stored)
        with pytest.raises(ConflictError, match="modified"):
            await client.update(CLAIMS, stored)
        version = updated["metadata"]["resourceVersion"]
        change = {"metadata": {"finalizers": ["example.com/x"], "resourceVersion": version}}
        patched = await client.patch(CLAIMS, testbed.namespace, "one", change)
        with pytest.raises(ConflictError):
            await client.patch(CLAIMS, testbed.namespace, "one", change)
        await client.patch(CLAIMS, testbed.namespace, "one", {"metadata": {"finalizers": None}})
        with pytest.raises(ConflictError):
            await client.delete(CLAIMS, testbed.namespace, "one", uid="another")
        await client.delete(CLAIMS, testbed.namespace, "one", uid=patched["metadata"]["uid"])
        with pytest.raises(NotFoundError, match=r'resourceclaims\.resource.k8s\.io "one" not found'):
            await client.get(CLAIMS, testbed.namespace, "one")

    with_client(testbed.control_plane.kubeconfig, work)


def test_a_pod_is_bound_once_and_only_under_its_uid(testbed: Testbed) -> None:
    (node,) = testbed.add_nodes(objects.node("client-1"))
    pod = testbed.api.create(objects.pod(testbed.namespace, "one", scheduler="nobody"))

    async def work(client: ApiClient) -> None:
        with pytest.raises(ConflictError):
            await client.bind(testbed.namespace, "one", "another-uid", node)
        await client.bind(testbed.namespace, "one", pod["metadata"]["uid"], node)
        with pytest.raises(ConflictError, match=f'already assigned to node "{node}"'):
            await client.bind(testbed.namespace, "one", pod["metadata"]["uid"], node)
        bound = await client.get(PODS, testbed.namespace, "one")
        assert bound.spec.node_name == node
        assert bound.status.scheduled is not None
        assert bound.status.scheduled.status == "True"

    with_client(testbed.control_plane.kubeconfig, work)


def test_a_list_of_several_pages_has_every_object_once(testbed: Testbed) -> None:
    names = {f"claim-{number:02}" for number in range(23)}
    testbed.api.create_all(claim(testbed, name) for name in names)

    async def work(client: ApiClient) -> None:
        here = Selection(namespace=testbed.namespace)
        pages = [page async for page in client.list_pages(CLAIMS, here, page=10)]
        assert [len(page.objects) for page in pages] == [10, 10, 3]
        assert {found.metadata.name for page in pages for found in page.objects} == names
        assert len({page.metadata.resource_version for page in pages}) == 1
        selected = Selection(namespace=testbed.namespace, fields="metadata.name=claim-07")
        assert [found.metadata.name for found in await client.list_all(CLAIMS, selected)] == ["claim-07"]
        raw = await client.list_raw(CLAIMS, here)
        assert {item["metadata"]["name"] for item in raw} == names
        assert {(item["apiVersion"], item["kind"]) for item in raw} == {("resource.k8s.io/v1", "ResourceClaim")}

    with_client(testbed.control_plane.kubeconfig, work)


def test_a_watch_tells_changes_in_order_and_ends_by_itself(testbed: Testbed) -> None:
    async def work(client: ApiClient) -> list[tuple[str, str]]:
        here = Selection(namespace=testbed.namespace)
        (page,) = [page async for page in client.list_pages(CLAIMS, here)]
        await client.create(CLAIMS, claim(testbed))
        await client.patch(CLAIMS, testbed.namespace, "one", {"metadata": {"labels": {"a": "b"}}})
        await client.delete(CLAIMS, testbed.namespace, "one")
        events = [event async for event in client.watch(CLAIMS, page.metadata.resource_version, here, duration_s=1)]
        versions = [int(event.resource_version) for event in events]
        assert versions == sorted(versions)
        assert all(event.object is None for event in events if event.type == "BOOKMARK")
        return [(event.type, event.object.metadata.name) for event in events if event.object is not None]

    told = with_client(testbed.control_plane.kubeconfig, work)
    assert told == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_a_resource_version_that_is_too_old_is_gone(testbed: Testbed) -> None:
    """As an event of a watch that began well: a kind that is new has no history from before it was there."""
    things = custom_kind(testbed, "things", Namespace)

    async def work(client: ApiClient) -> ClusterError | None:
        try:
            async for _ in client.watch(things, "1", duration_s=1):
                pass
        except ClusterError as fault:
            return fault
        return None

    def look() -> ClusterError | NotYet | None:
        fault = with_client(testbed.control_plane.kubeconfig, work)
        return NotYet(str(fault)) if isinstance(fault, UnavailableError) else fault  # "storage is (re)initializing"

    fault = wait_for("the API server to serve the new kind", look)
    assert isinstance(fault, GoneError)
    assert "too old" in str(fault)


def test_what_the_api_server_refuses_says_why(testbed: Testbed) -> None:
    async def work(client: ApiClient) -> None:
        faulty = claim(testbed)
        faulty["spec"]["devices"]["requests"][0]["exactly"]["count"] = -1
        with pytest.raises(InvalidObjectError, match=r"spec\.devices\.requests\[0\]\.exactly\.count"):
            await client.create(CLAIMS, faulty)
        with pytest.raises(NotFoundError):
            await client.raw("/apis/nothing.example.com/v1")

    with_client(testbed.control_plane.kubeconfig, work)


def test_who_may_not_is_told_what(testbed: Testbed, control_plane: ControlPlane) -> None:
    async def work(client: ApiClient) -> None:
        with pytest.raises(ForbiddenError, match='User "nobody-much" cannot list resource "pods"') as told:
            await client.list_all(PODS)
        assert told.value.status == 403

    with_client(control_plane.credentials("nobody-much"), work)


@pytest.mark.parametrize(("code", "status"), [(429, 429), (500, 500), (503, 503)])
def test_a_busy_api_server_is_unavailable_and_its_wish_is_kept(
    testbed: Testbed, proxy: ApiProxy, code: int, status: int
) -> None:
    async def work(client: ApiClient) -> None:
        with (
            proxy.fault(Fault(match=CLAIM_CALLS, action=Answer(code, retry_after_s=7))),
            pytest.raises(UnavailableError) as told,
        ):
            await client.create(CLAIMS, claim(testbed))
        assert (told.value.status, told.value.retry_after_s) == (status, 7.0)

    with_client(proxy.kubeconfig, work)


@pytest.mark.parametrize("action", [Reset(), Delay(60)], ids=["reset", "hangs"])
def test_no_answer_to_a_write_is_unavailable_without_a_status(testbed: Testbed, proxy: ApiProxy, action: Any) -> None:
    async def work(client: ApiClient) -> None:
        with (
            proxy.fault(Fault(match=CLAIM_CALLS, action=action, forwarded=True)),
            pytest.raises(UnavailableError, match="no answer") as told,
        ):
            await client.create(CLAIMS, claim(testbed))
        assert told.value.status == 0
        assert (await client.get(CLAIMS, testbed.namespace, "one")).metadata.name == "one"

    with_client(proxy.kubeconfig, work, timeout_s=0.2)


def test_a_watch_that_is_cut_is_unavailable(testbed: Testbed, proxy: ApiProxy) -> None:
    async def work(client: ApiClient) -> None:
        here = Selection(namespace=testbed.namespace)
        (page,) = [page async for page in client.list_pages(CLAIMS, here)]
        async with aclosing(client.watch(CLAIMS, page.metadata.resource_version, here)) as watch:
            testbed.api.create(claim(testbed))
            assert (await anext(watch)).type == "ADDED"
            proxy.cut()
            with pytest.raises(UnavailableError, match="no answer"):
                await anext(watch)

    with_client(proxy.kubeconfig, work)


def test_a_watch_that_falls_silent_is_unavailable(testbed: Testbed, proxy: ApiProxy) -> None:
    async def work(client: ApiClient) -> None:
        here = Selection(namespace=testbed.namespace)
        (page,) = [page async for page in client.list_pages(CLAIMS, here)]
        with pytest.raises(UnavailableError, match="no answer"):
            await anext(client.watch(CLAIMS, page.metadata.resource_version, here, silence_s=0.2))

    with_client(proxy.kubeconfig, work)


def test_discovery_finds_the_version_that_is_served(testbed: Testbed) -> None:
    async def work(client: ApiClient) -> None:
        listed = json.loads(await client.raw("/apis/resource.k8s.io"))
        having = [
            version["version"]
            for version in listed["versions"]
            for each in json.loads(await client.raw(f"/apis/{version['groupVersion']}"))["resources"]
            if each["name"] == "devicetaintrules"
        ]
        found = await client.served(TAINT_RULES)
        assert (found.version if found else None) == next(
            (each for each in TAINT_RULES.versions if each in having), None
        )
        assert await client.served(CLAIMS) == CLAIMS

    with_client(testbed.control_plane.kubeconfig, work)


def test_slices_classes_templates_and_leases_are_read_as_stored(testbed: Testbed) -> None:
    device = objects.device("gpu-0", attributes={"model": {"string": "A"}, "index": {"int": 3}}, memory="80Gi")
    testbed.create(
        objects.resource_slice("client-2", "gpu.example.com", [device]),
        objects.device_class("client-gpu", "gpu.example.com"),
        objects.claim_template(testbed.namespace, "template", "client-gpu"),
    )

    async def work(client: ApiClient) -> None:
        found = await client.get(SLICES, "", "client-2-gpu.example.com")
        assert (found.spec.driver, found.spec.node_name, found.spec.pool.name) == ("gpu.example.com",) + 2 * (
            "client-2",
        )
        (read,) = found.spec.devices
        assert read.attributes == {"model": DeviceAttribute(string="A"), "index": DeviceAttribute(int_value=3)}
        assert read.capacity["memory"].value == "80Gi"
        (selector,) = (await client.get(CLASSES, "", "client-gpu")).spec.selectors
        assert selector.cel is not None
        assert selector.cel.expression == 'device.driver == "gpu.example.com"'
        template = await client.get(TEMPLATES, testbed.namespace, "template")
        assert template.spec.spec.devices.requests[0].name == "gpu"
        manifest = {
            "metadata": {"namespace": testbed.namespace, "name": "leader"},
            "spec": {
                "holderIdentity": "a",
                "leaseDurationSeconds": 15,
                "renewTime": "2026-01-02T03:04:05.000006Z",
            },
        }
        await client.create(LEASES, manifest)
        lease = await client.get(LEASES, testbed.namespace, "leader")
        assert (lease.spec.holder_identity, lease.spec.lease_duration_seconds) == ("a", 15)
        assert lease.spec.renew_time is not None
        assert lease.spec.renew_time.microsecond == 6

    with_client(testbed.control_plane.kubeconfig, work)
