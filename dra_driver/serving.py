"""The driver at work: the kubelet served, the slices kept, the node checked again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from dra_driver.answers import Answers
from dra_driver.assemble import NodeSide
from dra_driver.errors import DeviceError
from dra_driver.health.board import HealthBoard
from dra_driver.health.monitor import HealthMonitor
from dra_driver.nvml.api import NvmlError
from dra_driver.plugin.calls import ClaimCalls
from dra_driver.plugin.claims import ApiClaims, OurNode
from dra_driver.plugin.plugin import Plugin, PluginSettings
from dra_driver.plugin.podresources import PodResources
from dra_driver.plugin.sockets import SocketPaths
from dra_driver.prepare.model import ClaimRef
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


class Unheard:
    def refused(self, claim: ClaimRef, fault: DeviceError) -> None: ...

    def answered(self, method: str, seconds: float, *, claims: int, refused: int) -> None: ...


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
        settings, answers = self.settings, self.answers
        ours = OurNode(driver=DRIVER_NAME, pool=pool_name(DRIVER_NAME, settings.node), node=settings.node)
        claims = ApiClaims(self.client)
        calls = ClaimCalls(ours=ours, preparer=self.side.state, claims=claims, reporter=Unheard())
        tending = Tending(self.side.state, claims, PodResources.of(settings.roots.kubelet, DRIVER_NAME), lambda _: None)
        await tending.begin()
        paths = SocketPaths.of(settings.roots, DRIVER_NAME, settings.pod_uid)
        board = HealthBoard()
        async with Plugin(PluginSettings(driver=DRIVER_NAME, paths=paths), calls, board) as plugin:
            controller = SliceController(self.client, settings.node, registered=plugin.registered)
            publisher = Publisher(controller, board)
            publisher.show(self.side.inspection.node())
            answers.plugin, answers.controller = plugin, controller
            with HealthMonitor(self.side.nvml, board):
                tasks.start("registration", plugin.failed())
                tasks.start("slices", controller.run())
                tasks.start("health", publisher.run())
                tasks.start("inspection", self._inspect(publisher))
                tasks.start("sentinel", tending.run())
                tasks.start("readiness", self._tell_ready(controller))
                await ended
                tasks.stop()
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
