"""What the process says of itself to probes: whether it lives, what it still waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import grpc
from grpc import aio

from dra_driver.metrics import Gauges, Metrics
from dra_driver.pb import dra_v1_pb2 as dra
from dra_driver.pb import dra_v1_pb2_grpc as dra_services
from dra_driver.pb import pluginregistration_v1_pb2 as registration
from dra_driver.pb import pluginregistration_v1_pb2_grpc as registration_services
from dra_driver.plugin.plugin import Plugin
from dra_driver.prepare.model import Record
from dra_driver.publish.taints import Taints
from dra_driver.settings import Settings
from dra_driver.slices.controller import SliceController

CALL_S = 3.0
GPUS, KUBELET, SLICES = "GPUs", "kubelet", "slices"


class Answers:
    """Implements observe.Asked. Parts are set as they come to be."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.gpus = "not looked for yet"
        """Why they are not known; empty when they are."""
        self.plugin: Plugin | None = None
        self.controller: SliceController | None = None
        self.prepared: Callable[[], Iterable[Record]] = tuple
        self.tainted: Callable[[], Taints] = dict
        self.metrics = Metrics(Gauges(records=self._prepared, taints=self._tainted, ready=lambda: not self.lacks()))

    def _prepared(self) -> Iterable[Record]:
        return self.prepared()

    def _tainted(self) -> Taints:
        return self.tainted()

    async def alive(self) -> str:
        """Call ourselves as the kubelet does, once there is somebody to be called. Returns what is wrong."""
        if self.plugin is None:
            return ""
        paths = self.plugin.settings.paths
        try:
            async with aio.insecure_channel(f"unix:{paths.registration}") as channel:
                stub = registration_services.RegistrationStub(channel)
                info = await stub.GetInfo(registration.InfoRequest(), timeout=CALL_S)
            async with aio.insecure_channel(f"unix:{info.endpoint}") as channel:
                service = dra_services.DRAPluginStub(channel)
                await service.NodePrepareResources(dra.NodePrepareResourcesRequest(), timeout=CALL_S)
        except aio.AioRpcError as error:
            code: grpc.StatusCode = error.code()
            return f"our own sockets do not answer: {code.name}: {error.details()}"
        return ""

    def lacks(self) -> Mapping[str, str]:
        """Return what is missing, and why."""
        found = {}
        if self.gpus:
            found[GPUS] = self.gpus
        if self.plugin is None or not self.plugin.registered.is_set():
            found[KUBELET] = "it has not registered us (yet)"
        if self.controller is None or not self.controller.published.is_set():
            found[SLICES] = "the API server has not stored them (yet)"
        return found

    def exposition(self) -> bytes:
        """Return the metrics."""
        return self.metrics.exposition()

    def settings(self) -> Mapping[str, object]:
        """Return the settings."""
        return self._settings.public()
