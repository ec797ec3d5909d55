"""From the GPU to the API server: a fault on a twin is in the stored slices and in the kubelet's stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dra_driver.health.board import HealthBoard
from dra_driver.health.monitor import HealthMonitor, Watching
from dra_driver.inventory import NodeGpus
from dra_driver.plugin.health import HealthFeed
from dra_driver.plugin.ports import Health
from dra_driver.publish import DRIVER_NAME
from dra_driver.simulated import simulated_gpus
from dra_driver.slices.controller import SliceController
from dra_driver.slices.publisher import Publisher
from kube.access import Access
from kube.client import ApiClient
from sandbox import objects
from sandbox.testbed import Testbed
from tests.dra_driver.twins import NODE, machine_below
from topology.catalog import machine
from twin import Twin

pytestmark = pytest.mark.cluster

Json = dict[str, Any]
MACHINE = "hgx-h100-8"
PATIENCE_S = 30.0
SETTLING = Watching(settle_s=0.5)


@dataclass
class Rig:
    twin: Twin
    testbed: Testbed
    controller: SliceController
    publisher: Publisher
    board: HealthBoard
    node: NodeGpus

    def tainted(self) -> dict[str, list[Json]]:
        """Device -> its taints, as stored."""
        listed = self.testbed.api.list(objects.RESOURCE_API, "ResourceSlice")
        return {
            device["name"]: device["taints"]
            for each in listed
            if each["spec"]["driver"] == DRIVER_NAME
            for device in each["spec"].get("devices") or ()
            if device.get("taints")
        }

    async def until(self, true: Callable[[dict[str, list[Json]]], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until something is true of what is stored."""
        async with asyncio.timeout(timeout_s):
            while not true(await asyncio.to_thread(self.tainted)):
                await asyncio.sleep(0.02)


def running(testbed: Testbed, folder: Path, story: Callable[[Rig], Awaitable[None]]) -> None:
    testbed.create(objects.node(NODE))

    async def go() -> None:
        with machine_below(folder, MACHINE) as (twin, nvml, _):
            nvml.gpus()
            node, board, registered = simulated_gpus(machine(MACHINE), NODE), HealthBoard(), asyncio.Event()
            registered.set()
            async with ApiClient(Access(testbed.control_plane.kubeconfig)) as client:
                controller = SliceController(client, NODE, registered=registered)
                publisher = Publisher(controller, board)
                publisher.show(node)
                tasks = [asyncio.create_task(work) for work in (controller.run(), publisher.run())]
                with HealthMonitor(nvml, board, watching=SETTLING):
                    await asyncio.wait_for(controller.published.wait(), 30)
                    await story(Rig(twin, testbed, controller, publisher, board, node))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(go())


def test_an_xid_is_stored_and_streamed_and_goes_by_itself(testbed: Testbed, tmp_path: Path) -> None:
    async def story(rig: Rig) -> None:
        closing = asyncio.Event()
        feed = HealthFeed(source=rig.board, closing=closing)
        rig.twin.xid(2, 95, recovery_action=1)
        await rig.until(lambda found: {taint["key"] for taint in found.get("gpu-2", ())} == KEYS)
        assert {name.split("-")[1] for name in rig.tainted()} == {"2"}
        async for devices in feed.lists():
            ill = {each.device for each in devices if each.health is Health.UNHEALTHY}
            assert ill == {each for each in ill if each.split("-")[1] == "2"}
            assert {"gpu-2", "gpu-2-mps"} <= ill
            break
        since = rig.tainted()["gpu-2"][0]["timeAdded"]
        rig.twin.xid(2, 48, recovery_action=1)
        rig.twin.lose(3)
        await rig.until(lambda found: "gpu-3" in found)
        assert rig.tainted()["gpu-2"][0]["timeAdded"] == since
        rig.twin.recovery_action(2, 0)
        rig.twin.recover(3)
        await rig.until(lambda found: not found)

    running(testbed, tmp_path, story)


KEYS = {"gpu.dovetail.dev/recovery", "gpu.dovetail.dev/xid"}


def test_a_storm_of_xids_is_one_change(testbed: Testbed, tmp_path: Path) -> None:
    def versions() -> list[str]:
        listed = testbed.api.list(objects.RESOURCE_API, "ResourceSlice")
        return sorted(each["metadata"]["resourceVersion"] for each in listed)

    async def story(rig: Rig) -> None:
        rig.twin.xid(1, 95, recovery_action=1)
        await rig.until(lambda found: "gpu-1" in found)
        await rig.controller.published.wait()
        before = await asyncio.to_thread(versions)
        for number in range(200):
            rig.twin.xid(1, 13 + number % 100)
        rig.twin.lose(5)
        await rig.until(lambda found: "gpu-5" in found)
        await rig.controller.published.wait()
        changed = len(set(await asyncio.to_thread(versions)) - set(before))
        assert changed == 2, "GPU 5: its parts, and the slice of whole GPUs"

    running(testbed, tmp_path, story)
