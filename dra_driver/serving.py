"""The driver at work: the kubelet served, the slices kept, the node checked again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dra_driver.answers import Answers
from dra_driver.assemble import NodeSide
from dra_driver.errors import DeviceError
from dra_driver.events import ClaimReports, DriverEvents, FindingReports, HealthReports, SliceReports
from dra_driver.health.board import HealthBoard
from dra_driver.health.monitor import HealthMonitor
from dra_driver.nvml.api import NvmlError
from dra_driver.plugin.calls import ClaimCalls
from dra_driver.plugin.claims import ApiClaims, OurNode
from dra_driver.plugin.plugin import Plugin, PluginSettings
from dra_driver.plugin.podresources import PodResources
from dra_driver.plugin.sockets import SocketPaths
from dra_driver.publish.names import DRIVER_NAME, pool_name
from dra_driver.settings import Settings
from dra_driver.slices.controller import SliceController
from dra_driver.slices.publisher import Publisher
from dra_driver.tending import Tending
from kube.client import ApiClient
from kube.running import Tasks
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)


INSPECT_S = 60.0
"""Between two looks for GPUs that come or go. Their health is another matter: that is told at once."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One run, from the moment when the GPUs are known."""

    settings: Settings
    client: ApiClient
    answers: Answers
    side: NodeSide
    began_s: float
    """Of the process, by the monotonic clock."""

    async def run(self, tasks: Tasks, ended: asyncio.Task[None]) -> None:
        """Serve and publish until `ended`. Raises SocketError where another instance serves."""
        settings, side, metrics = self.settings, self.side, self.answers.metrics
        events = DriverEvents(self.client, settings.node)
        claims = ApiClaims(self.client)
        pods = PodResources.of(settings.roots.kubelet, DRIVER_NAME)
        tending = Tending(side.state, claims, pods, FindingReports(events, metrics))
        await tending.begin()
        ours = OurNode(driver=DRIVER_NAME, pool=pool_name(DRIVER_NAME, settings.node), node=settings.node)
        calls = ClaimCalls(ours=ours, preparer=side.state, claims=claims, reporter=ClaimReports(events, metrics))
        paths = SocketPaths.of(settings.roots, DRIVER_NAME, settings.pod_uid)
        board = HealthBoard(evict=settings.evict)
        async with Plugin(PluginSettings(driver=DRIVER_NAME, paths=paths), calls, board) as plugin:
            told = SliceReports(events, metrics)
            controller = SliceController(self.client, settings.node, registered=plugin.registered, told=told)
            publisher = Publisher(controller, board)
            publisher.show(side.inspection.node())
            work = {
                "registration": plugin.failed(),
                "slices": controller.run(),
                "health": publisher.run(),
                "health events": HealthReports(events, board).run(),
                "events": events.run(),
                "inspection": self._inspect(publisher),
                "sentinel": tending.run(),
                "readiness": self._tell_ready(controller),
            }
            with HealthMonitor(side.nvml, board, counts=metrics), self._answered(plugin, controller, board):
                for name, each in work.items():
                    tasks.start(name, each)
                await ended
                tasks.stop()

    @contextmanager
    def _answered(self, plugin: Plugin, controller: SliceController, board: HealthBoard) -> Iterator[None]:
        """Let probes and metrics know the parts as long as they are there."""
        answers = self.answers
        answers.plugin, answers.controller = plugin, controller
        answers.prepared, answers.tainted = self.side.records, board.taints
        yield
        answers.plugin = answers.controller = None

    async def _inspect(self, publisher: Publisher) -> None:
        """Look for the GPUs again and again: some go, come back, are partitioned by others."""
        while True:
            await asyncio.sleep(INSPECT_S)
            try:
                publisher.show(await asyncio.to_thread(self.side.inspection.look))
            except (DeviceError, NvmlError, InvalidInputError) as error:
                log.warning("GPUs stay as they were published: %s", error)

    async def _tell_ready(self, controller: SliceController) -> None:
        await controller.published.wait()
        log.info("ready after_s=%.2f", time.monotonic() - self.began_s)
        await asyncio.Event().wait()
