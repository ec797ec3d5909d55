"""What goes wrong with a pod is in its events, on a real API server: claim, cause and remedy, and no flood of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from dra_driver.publish import DRIVER_NAME
from kube.access import Access
from kube.client import ApiClient
from kube.events import MAX_TEXT, About, EventLimits, Events
from kube.kinds import PODS
from sandbox import objects
from sandbox.controlplane import ControlPlane
from sandbox.objects import Manifest
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for
from scheduler.janitor import BARE
from scheduler.writes import REPORTER
from tests.manifests.fixtures import on_server
from tests.scheduler.harness import NAME, OurScheduler, add_gpu_nodes

pytestmark = pytest.mark.cluster

MACHINE = "hgx-h100-8"
NOBODYS = "nobodys"
"""A node without kubelet and without GPUs: what is bound there stays pending."""
LIMITS = EventLimits(repeat_s=10, same_s=100, per_object=3)


class Time:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def events_of(testbed: Testbed, pod: Manifest) -> list[Manifest]:
    """As `kubectl get events` would list them."""
    about = f"involvedObject.uid={pod['metadata']['uid']}"
    return testbed.api.list("v1", "Event", testbed.namespace, field_selector=about)


def told(testbed: Testbed, tell: Callable[[Events, About, Time], Awaitable[None]]) -> list[Manifest]:
    """Let someone tell of a pod, and return its events."""
    stored = testbed.api.create(objects.pod(testbed.namespace, "p", scheduler="nobody"))

    async def go() -> None:
        async with ApiClient(Access(testbed.control_plane.kubeconfig)) as client:
            clock = Time()
            pod = await client.get(PODS, testbed.namespace, "p")
            events = Events(client, reporter=REPORTER, clock=clock, instance="test", limits=LIMITS)
            await tell(events, About.of(PODS, pod.metadata), clock)

    asyncio.run(go())
    return events_of(testbed, stored)


def test_what_is_told_again_is_counted_and_what_is_new_is_an_event(testbed: Testbed) -> None:
    async def tell(events: Events, pod: About, clock: Time) -> None:
        for clock.now in (0, 1, 2, 11, 12, 25, 500):
            await events.warn(pod, "Reason", "text", timeout_s=5)
        await events.warn(pod, "Reason", "other", timeout_s=5)

    found = sorted((event["message"], event["count"]) for event in told(testbed, tell))
    assert found == [("other", 1), ("text", 1), ("text", 3)]


def test_no_pod_gets_more_than_some_events_and_no_text_is_too_long(testbed: Testbed) -> None:
    async def tell(events: Events, pod: About, _: Time) -> None:
        for at in range(20):
            await events.warn(pod, "Reason", f"{at}" + "\N{EURO SIGN}" * MAX_TEXT, timeout_s=5)

    found = told(testbed, tell)
    assert len(found) == LIMITS.per_object
    assert {event["source"]["component"] for event in found} == {REPORTER}
    assert all(event["message"].endswith("\N{EURO SIGN}...") for event in found)


def test_an_event_that_the_api_server_forgot_is_made_again(testbed: Testbed) -> None:
    async def tell(events: Events, pod: About, clock: Time) -> None:
        await events.warn(pod, "Reason", "text", timeout_s=5)
        testbed.api.delete_all("v1", "Event", testbed.namespace)
        clock.now = 50
        await events.warn(pod, "Reason", "text", timeout_s=5)

    assert [event["count"] for event in told(testbed, tell)] == [2]


def test_an_event_that_cannot_be_written_stops_nothing(testbed: Testbed, caplog: pytest.LogCaptureFixture) -> None:
    async def tell(events: Events, pod: About, _: Time) -> None:
        await events.warn(pod, "Reason", "too late", timeout_s=1e-6)
        await events.warn(replace(pod, namespace="nowhere"), "Reason", "no such namespace", timeout_s=5)

    told(testbed, tell)
    assert "reason=Reason: no answer in time" in caplog.text
    assert 'namespaces "nowhere" not found' in caplog.text


@pytest.fixture
def fenced_off(testbed: Testbed, control_plane: ControlPlane, allocate: list[Manifest]) -> Iterator[OurScheduler]:
    """Our scheduler as the administrator, whom the admission policy does not let allocate devices."""
    add_gpu_nodes(testbed, {MACHINE: 1})
    with on_server(control_plane, allocate):
        ours = OurScheduler.start(control_plane)
        yield ours
        ours.stop()


def test_who_cannot_be_bound_and_who_was_bound_without_devices_reads_why(
    testbed: Testbed, fenced_off: OurScheduler
) -> None:
    testbed.create(objects.claim(testbed.namespace, "named", DRIVER_NAME))
    testbed.create(objects.claim(testbed.namespace, "late", DRIVER_NAME))
    waits = testbed.api.create(objects.pod(testbed.namespace, "waits", claim="named", scheduler=NAME))
    testbed.create(objects.node(NOBODYS))
    bare = testbed.api.create(objects.pod(testbed.namespace, "bare", claim="late", scheduler=NAME, nodeName=NOBODYS))

    def message(pod: Manifest, reason: str, part: str) -> str | NotYet:
        texts = [event["message"] for event in events_of(testbed, pod) if event["reason"] == reason]
        return next((text for text in texts if part in text), NotYet(f"its events of that reason say {texts}"))

    refused = wait_for("the event of bind", lambda: message(waits, "FailedScheduling", "refused by the API server"))
    assert f"claim {testbed.namespace}/named was refused" in refused
    assert 'allocated by the scheduler "dovetail" alone' in refused
    deleted = wait_for("the janitor's event", lambda: message(bare, BARE, "deleted"), timeout_s=60)
    assert f"the pod is on node {NOBODYS} without devices for claim late" in deleted
    assert "without spec.nodeName" in deleted
    assert "no devices free on that node" in deleted
    testbed.api.wait(bare, lambda pod: "deletionTimestamp" in pod["metadata"], what="to be deleted")
    testbed.api.delete(bare, grace_s=0)  # as its kubelet would
