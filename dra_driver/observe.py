"""What probes and operators ask over HTTP, and what the process still waits for.

    GET /healthz    200 when a call over our own sockets is answered as the kubelet's would be, else 503 and why
    GET /readyz     200 when the kubelet knows us and the slices are published, else 503 and what lacks
    GET /metrics    Prometheus
    GET /configz    the settings

Nothing here changes anything. Connections are limited in number, size and time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from dra_driver.settings import WHAT
from kube.address import Address
from kube.connections import LimitedServer
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

EXPOSITION = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
PATH_SHOWN = 200


class Asked(Protocol):
    """Where the answers come from."""

    async def alive(self) -> str:
        """Return what is wrong with us, nothing when all is well."""
        ...

    def lacks(self) -> Mapping[str, str]:
        """Return what is missing, and why."""
        ...

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format. Called in a thread: it reads files."""
        ...

    def settings(self) -> Mapping[str, object]:
        """Return the settings as JSON values; no secrets."""
        ...


class Observed:
    """The HTTP server as a context. Raises InvalidInputError where the address cannot be had."""

    def __init__(self, address: Address, asked: Asked) -> None:
        self._address = address
        self._asked = asked
        self._runner = web.ServerRunner(LimitedServer(self.handle))
        self._gets: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/configz": self._configuration,
        }

    async def __aenter__(self) -> None:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address.host, self._address.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise InvalidInputError(WHAT, "--listen", f"{self._address}: {error.strerror}") from error
        log.info("listening address=%s", self._address)

    async def __aexit__(self, *_fault: object) -> None:
        await self._runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, whatever it is and whatever fails."""
        get = self._gets.get(request.path)
        if get is None:
            return web.Response(status=404, text=f"there are {', '.join(self._gets)} here\n")
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, text="use GET\n", headers={"Allow": "GET, HEAD"})
        try:
            return await get()
        except Exception:
            log.exception("failed path=%r", request.path[:PATH_SHOWN])
            return web.Response(status=500, text="internal error; the log of the driver tells more\n")

    async def _alive(self) -> web.Response:
        wrong = await self._asked.alive()
        return web.Response(status=503, text=f"{wrong}\n") if wrong else web.Response(text="ok\n")

    async def _ready(self) -> web.Response:
        lacks = self._asked.lacks()
        if not lacks:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="".join(f"waits for {what}: {why}\n" for what, why in lacks.items()))

    async def _metrics(self) -> web.Response:
        return web.Response(body=await asyncio.to_thread(self._asked.exposition), headers=EXPOSITION)

    async def _configuration(self) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._asked.settings()), content_type="application/json")
