"""The plugin as a whole: serves on its sockets from entry to exit, in the order that the kubelet expects.

The DRA socket answers before the kubelet can learn of it, and is the last to go. ResourceSlices are for others to
publish, once `registered` is set: a pod that is bound earlier fails with "not registered" and waits 12 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from grpc import aio

from dra_driver.pb import pluginregistration_v1_pb2 as registration
from dra_driver.plugin import services
from dra_driver.plugin.calls import ClaimCalls
from dra_driver.plugin.claims import printable
from dra_driver.plugin.errors import RegistrationError, SocketError
from dra_driver.plugin.health import HealthFeed
from dra_driver.plugin.ports import HealthSource
from dra_driver.plugin.sockets import SocketPaths, claimed, private_sockets

log = logging.getLogger(__name__)

MAX_REQUEST = 256 << 10
"""Bytes of a request. The kubelet sends the claims of one pod, at most 32 of some 400 bytes."""
QUIET_S, QUIET_WITHIN_S = 0.25, 5.0
"""So long must the kubelet have asked nothing before we go; and so long is that waited for."""
END_S = 20.0
"""How long running calls may take to end, then those of them that still work: within `app.END_S` in all."""
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_REQUEST),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.so_reuseport", 0),
    # The kubelet keeps one connection for as long as we live, mostly idle, and takes its loss for our death.
    ("grpc.max_connection_idle_ms", (1 << 31) - 1),
    ("grpc.max_connection_age_ms", (1 << 31) - 1),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings:
    """How to serve."""

    driver: str
    paths: SocketPaths
    options: tuple[tuple[str, int], ...] = OPTIONS
    """Of gRPC."""
    quiet_s: float = QUIET_S
    end_s: float = END_S


class Plugin:
    """An asynchronous context manager: inside it both sockets are served.

    `registered` is set once the kubelet has taken us; `failed` waits for what ends the plugin, and raises it.
    """

    def __init__(self, settings: PluginSettings, calls: ClaimCalls, health: HealthSource) -> None:
        self.settings = settings
        self.registered = asyncio.Event()
        self._calls = calls
        self._closing = asyncio.Event()
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feed = HealthFeed(source=health, closing=self._closing)
        self._ends = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        paths = self.settings.paths
        async with contextlib.AsyncExitStack() as ends:
            ends.enter_context(claimed(paths, self.settings.driver))
            ends.push_async_callback(self._end_work)
            handlers = [*services.dra_handlers(self._calls), *services.health_handlers(self._feed)]
            ends.push_async_callback(self._stop, await self._serve(str(paths.plugin), handlers))
            registrar = await self._serve(
                str(paths.registration), services.registration_handlers(self._info(), self._notified)
            )
            ends.push_async_callback(registrar.stop, None)
            self._ends = ends.pop_all()
        log.info("serving driver=%s socket=%s", self.settings.driver, paths.plugin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: running calls are answered, the kubelet hears that we go, what it still sent ends, the sockets go.

        The kubelet hangs up, and cancels its calls, as soon as it sees the registration go. In a rolling update its new
        calls go to the other instance, so that a moment without any comes soon, and no pod has to try again.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._calls.quiet(self.settings.quiet_s), QUIET_WITHIN_S)
        await self._ends.aclose()
        if not self._refused.cancel() and not self._refused.cancelled():
            self._refused.exception()  # Logged when it came; who has not waited for it will not any more.
        log.info("ended driver=%s", self.settings.driver)

    async def failed(self) -> None:
        """Wait for ever. Raises RegistrationError when the kubelet refuses the plugin."""
        await asyncio.shield(self._refused)

    def _info(self) -> registration.PluginInfo:
        return registration.PluginInfo(
            type="DRAPlugin",
            name=self.settings.driver,
            endpoint=str(self.settings.paths.plugin),
            supported_versions=services.VERSIONS,
        )

    def _notified(self, status: registration.RegistrationStatus) -> None:
        """Note what the kubelet made of us. It asks again after each of its restarts."""
        if status.plugin_registered:
            log.info("registered driver=%s", self.settings.driver)
            self.registered.set()
        elif not self._refused.done():
            fault = RegistrationError(
                f"the kubelet refused driver {self.settings.driver} at {self.settings.paths.plugin}: "
                f"{printable(status.error[:500]) or 'it gave no reason'}; see the kubelet's log"
            )
            log.error("%s", fault)
            self._refused.set_exception(fault)

    async def _serve(self, path: str, handlers: services.Handlers) -> aio.Server:
        server = aio.server(options=self.settings.options)
        server.add_generic_rpc_handlers(tuple(handlers))
        with private_sockets():
            try:
                server.add_insecure_port(f"unix:{path}")
            except RuntimeError as fault:
                raise SocketError(f"{path}: cannot listen: {fault}") from fault
        await server.start()
        return server

    async def _stop(self, server: aio.Server) -> None:
        self._closing.set()
        await server.stop(self.settings.end_s)

    async def _end_work(self) -> None:
        if not await self._calls.workers.close(self.settings.end_s):
            log.error("a claim is still worked on after %.0f s; its journal tells the next start", self.settings.end_s)
