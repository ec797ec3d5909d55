"""A slice controller that runs through a story, on a real API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.publish.features import Features
from dra_driver.publish.taints import DeviceTaint, Effect
from dra_driver.simulated import simulated_gpus
from dra_driver.slices.controller import SliceController
from dra_driver.slices.pace import Pacing
from kube.access import Access
from kube.client import ApiClient
from kube.reflector import ReflectorSettings
from sandbox import objects
from sandbox.testbed import Testbed
from tests.dra_driver.slices.pools import judged
from topology.catalog import machine

Json = dict[str, Any]
PATIENCE_S = 30.0
QUICK = Pacing(burst=10_000, foreign_s=0.2, first_fault_s=0.02, most_s=0.5)
WATCHING = ReflectorSettings(first_delay_s=0.02, most_delay_s=0.2)
GPUS = simulated_gpus(machine("hgx-h100-8"), "node-1")
XID = DeviceTaint("gpu.dovetail.dev/xid", "79", Effect.NO_SCHEDULE)


@dataclass
class Told:
    """Keeps what it is told."""

    writes: list[tuple[str, int]] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    generation: int = 0

    def wrote(self, verb: str, code: int) -> None:
        self.writes.append((verb, code))

    def published(self, slices: int, devices: int, generation: int) -> None:
        self.generation = generation

    def degraded(self, features: Features, text: str) -> None:
        self.features.append(features)
        self.texts.append(text)

    def refused(self, text: str) -> None:
        self.refusals.append(text)


@dataclass
class Rig:
    """A running controller of node-1, and the API server as the administrator sees it."""

    controller: SliceController
    told: Told
    testbed: Testbed
    registered: asyncio.Event

    def want(self, **how: Any) -> None:
        self.controller.want(lambda features: resource_slices(GPUS, features=features, **how))

    async def is_published(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.controller.published.wait()

    async def until(self, true: Callable[[Sequence[Json]], bool]) -> Sequence[Json]:
        """Wait until something is true of the stored slices."""
        async with asyncio.timeout(PATIENCE_S):
            while not true(stored := await asyncio.to_thread(self.stored)):
                await asyncio.sleep(0.02)
        return stored

    def stored(self) -> list[Json]:
        listed = self.testbed.api.list(objects.RESOURCE_API, "ResourceSlice")
        return [each for each in listed if each["spec"]["driver"] == DRIVER_NAME]


Story = Callable[[Rig], Awaitable[None]]


def told_of(
    testbed: Testbed, kubeconfig: Path, story: Story, *, pacing: Pacing = QUICK, registered: bool = True
) -> Told:
    """Run a controller through a story."""
    if testbed.api.find(objects.node("node-1")) is None:
        testbed.create(objects.node("node-1"))
    told = Told()

    async def go() -> None:
        async with ApiClient(Access(kubeconfig)) as client:
            event = asyncio.Event()
            if registered:
                event.set()
            controller = SliceController(
                client,
                "node-1",
                registered=event,
                told=told,
                pacing=pacing,
                watching=WATCHING,
                draw=random.Random(1),
            )
            rig = Rig(controller, told, testbed, event)
            running = asyncio.create_task(controller.run())
            try:
                await story(rig)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(go())
    return told


def usable(stored: Sequence[Json]) -> bool:
    return judged(stored).fault == ""


def complete(rig: Rig) -> Callable[[Sequence[Json]], bool]:
    """Whether exactly the wanted slices are there."""
    wanted = [each["metadata"]["name"] for each in resource_slices(GPUS)]
    return lambda stored: usable(stored) and sorted(each["metadata"]["name"] for each in stored) == wanted


def names_of(stored: Json) -> list[str]:
    return [device["name"] for device in stored["spec"].get("devices") or ()]
