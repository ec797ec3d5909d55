"""When what is published, and with which taints: without an API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from dra_driver.health.board import HealthBoard
from dra_driver.health.judge import after_look
from dra_driver.health.model import GpuHealth, Look
from dra_driver.publish.features import EVERYTHING
from dra_driver.slices.controller import Build, SliceController
from dra_driver.slices.publisher import Publisher
from tests.dra_driver.nodes import gpu, node

LOST = after_look(GpuHealth(checked_s=1.0), Look(lost=True), 0.0)
NODE = node(gpu(None))
(UUID,) = [each.uuid for each in NODE.gpus]


class Wanted:
    """In the controller's place: what was wanted, as tainted devices."""

    def __init__(self) -> None:
        self.wants: list[list[str]] = []

    def want(self, build: Build) -> None:
        devices = [device for each in build(EVERYTHING) for device in each["spec"].get("devices", ())]
        self.wants.append([device["name"] for device in devices if device.get("taints")])

    async def until(self, count: int) -> Sequence[Any]:
        async with asyncio.timeout(5):
            while len(self.wants) < count:
                await asyncio.sleep(0.001)
        return self.wants


def running(story: Callable[[Publisher, HealthBoard, Wanted], Awaitable[None]], *, refresh_s: float = 60.0) -> None:
    async def go() -> None:
        board, wanted = HealthBoard(wall=lambda: 1.0), Wanted()
        publisher = Publisher(cast("SliceController", wanted), board, refresh_s=refresh_s)
        task = asyncio.create_task(publisher.run())
        await story(publisher, board, wanted)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())


def test_a_gpu_that_is_broken_at_the_start_is_never_published_without_its_taint() -> None:
    async def story(publisher: Publisher, board: HealthBoard, wanted: Wanted) -> None:
        publisher.show(NODE)
        await asyncio.sleep(0)
        assert wanted.wants == []
        board.report({UUID: LOST})
        assert (await wanted.until(1))[0] == ["gpu-0-time-slicing", "gpu-0-mps", "gpu-0"]

    running(story)


def test_nvml_that_hangs_at_the_start_delays_publishing_and_does_not_prevent_it() -> None:
    async def story(publisher: Publisher, board: HealthBoard, wanted: Wanted) -> None:
        publisher.show(NODE)
        assert (await wanted.until(1))[0] == []

    running(story, refresh_s=0.01)


def test_what_is_no_change_is_not_wanted_again() -> None:
    async def story(publisher: Publisher, board: HealthBoard, wanted: Wanted) -> None:
        publisher.show(NODE)
        board.report({UUID: GpuHealth(checked_s=1.0)})
        await wanted.until(1)
        for second in range(50):
            publisher.show(NODE)
            board.report({UUID: GpuHealth(checked_s=1.0 + second)})
            await asyncio.sleep(0)
        board.report({UUID: LOST})
        await wanted.until(2)
        assert len(wanted.wants) == 2

    running(story)
