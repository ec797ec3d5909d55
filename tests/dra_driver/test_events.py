"""Events of the driver on a real API server, found where kubectl looks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dra_driver.errors import HeldError
from dra_driver.events import ClaimReports, DriverEvents, FindingReports, HealthReports, SliceReports
from dra_driver.health.board import SILENT, STALE_S, HealthBoard
from dra_driver.health.judge import after_look
from dra_driver.health.model import GpuHealth, Look
from dra_driver.metrics import Metrics
from dra_driver.prepare.model import ClaimRef
from dra_driver.prepare.sentinel import Finding, Found
from dra_driver.publish.features import EVERYTHING, Features
from kube.access import Access
from kube.client import ApiClient
from sandbox import objects
from sandbox.testbed import Testbed
from tests.dra_driver.nodes import gpu, node

pytestmark = pytest.mark.cluster
NODE = "node-of-events"
CREATED_S = 10.0


def told(
    testbed: Testbed,
    about: str,
    tell: Callable[[DriverEvents], None],
    count: int,
    namespace: str,
    node_name: str = NODE,
) -> list[str]:
    """Let someone tell, and return `Type Reason: message` of the events about an object, by its UID."""

    def listed() -> list[str]:
        found = testbed.api.list("v1", "Event", namespace, field_selector=f"involvedObject.uid={about}")
        return sorted(f"{each['type']} {each['reason']}: {each['message']}" for each in found)

    async def go() -> list[str]:
        async with ApiClient(Access(testbed.control_plane.kubeconfig)) as client:
            events = DriverEvents(client, node_name)
            writing = asyncio.create_task(events.run())
            tell(events)
            async with asyncio.timeout(CREATED_S):
                while len(found := await asyncio.to_thread(listed)) < count:
                    await asyncio.sleep(0.02)
            writing.cancel()
            return found

    return asyncio.run(go())


def test_the_node_tells_what_is_not_published_and_which_gpus_are_ill(
    testbed: Testbed, caplog: pytest.LogCaptureFixture
) -> None:
    """Health is in the log too, once: events are gone after an hour."""
    caplog.set_level("INFO", "dra_driver.events")
    metrics = Metrics()
    board = HealthBoard(wall=lambda: 0.0)
    board.show(node(gpu(None)))
    ill = after_look(GpuHealth(), Look(lost=True), 0.0)

    def tell(events: DriverEvents) -> None:
        slices, health = SliceReports(events, metrics), HealthReports(events, board)
        slices.degraded(Features(counters=False), "the API server does not store counters")
        slices.degraded(EVERYTHING, "")
        slices.refused("the API server refuses the devices")
        FindingReports(events, metrics)([Found(Finding.USED_TWICE, "uid", "gpu-0 is used by two claims")])
        health.look()
        for state in (ill, ill, GpuHealth()):
            board.report({"GPU-1": state})
            health.look()

    assert told(testbed, NODE, tell, 5, "default") == [
        "Normal GPUHealthy: GPU-1 is well again",
        "Warning DevicesInconsistent: gpu-0 is used by two claims",
        "Warning DevicesNotPublished: the API server refuses the devices",
        "Warning DevicesReduced: the API server does not store counters",
        "Warning GPUUnhealthy: GPU-1: the GPU does not answer; look at the node's kernel log",
    ]
    assert b'dovetail_driver_feature_missing{feature="counters"} 0.0' in metrics.exposition()
    assert caplog.messages == [
        "gpu unhealthy uuid=GPU-1: the GPU does not answer; look at the node's kernel log",
        "gpu well again uuid=GPU-1",
    ]


def test_a_gpu_that_has_fallen_silent_is_told_without_a_change(testbed: Testbed) -> None:
    """A call of NVML that hangs changes nothing on the board; the devices are tainted all the same."""
    now_s = 0.0
    board = HealthBoard(wall=lambda: now_s)
    board.show(node(gpu(None)))
    following: list[asyncio.Task[None]] = []

    def tell(events: DriverEvents) -> None:
        nonlocal now_s
        board.report({"GPU-1": GpuHealth()})
        reports = HealthReports(events, board, refresh_s=0.01)
        reports.look()
        following.append(asyncio.create_task(reports.run()))
        now_s = STALE_S + 1

    name = "silent-node"
    assert told(testbed, name, tell, 1, "default", name) == [f"Warning GPUUnhealthy: GPU-1: {SILENT}"]


def test_a_refused_claim_tells_why_once_however_often_it_is_tried(testbed: Testbed) -> None:
    stored = testbed.api.create(objects.claim(testbed.namespace, "c", "any"))["metadata"]
    claim = ClaimRef(namespace=testbed.namespace, name="c", uid=stored["uid"])
    fault = HeldError("device gpu-0 is held by claim other/x")

    def tell(events: DriverEvents) -> None:
        reports = ClaimReports(events, Metrics())
        for _ in range(50):
            reports.refused(claim, fault)
        reports.refused(claim, HeldError("another cause"))

    assert told(testbed, stored["uid"], tell, 2, testbed.namespace) == [
        "Warning DevicesRefused: another cause",
        "Warning DevicesRefused: device gpu-0 is held by claim other/x",
    ]


def test_who_tells_more_than_can_be_written_is_not_kept_waiting(testbed: Testbed) -> None:
    def tell(events: DriverEvents) -> None:
        for number in range(10_000):
            events.of_claim(ClaimRef(namespace=testbed.namespace, name="c", uid="uid-c"), "Reason", f"text {number}")

    found = told(testbed, "uid-c", tell, 20, testbed.namespace)
    assert len(found) == 20
