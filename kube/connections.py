"""HTTP connections with limits, so that no client can hold what others need: how many, how long silent, how large."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

MAX_CONNECTIONS = 512
"""kube-scheduler opens one per binding under way; more than these are closed at once."""
FIRST_REQUEST_S = 10.0
"""A connection that has sent no whole request head by then is closed."""
KEEPALIVE_S = 120.0
"""So long a connection may be idle. kube-scheduler closes its own after 90 s, so that ours never cross a request."""
READ_S = 10.0
"""A body must have come by then."""
MAX_BODY_BYTES = 32 << 20
"""5,000 node names are 0.2 MB, 1,500 whole Nodes 30 MB; a pod is below 1.5 MB by etcd's limit."""
MAX_LINE_BYTES = 8190


class LimitedServer(web.Server):
    """aiohttp's server with limits on connections."""

    def __init__(self, handler: Any) -> None:  # noqa: ANN401 - aiohttp keeps its type to itself
        super().__init__(
            handler,
            request_factory=self._request,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            auto_decompress=False,  # nobody who should sends that, and little can unpack to much
            lingering_time=1.0,
            access_log=None,
        )
        self._silent: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or close it where there are too many."""
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(FIRST_REQUEST_S, transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        self._heard(handler)
        super().connection_lost(handler, exc)

    def _heard(self, handler: web.RequestHandler) -> None:
        timer = self._silent.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:  # noqa: ANN401
        self._heard(protocol)
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


async def read_body(request: web.BaseRequest) -> bytes:
    """Read the body of a request.

    Raises HTTPRequestEntityTooLarge before more than the limit is kept, HTTPRequestTimeout where it comes too slowly.
    """
    announced = request.content_length
    if announced is not None and announced > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY_BYTES, actual_size=announced)
    try:
        async with asyncio.timeout(READ_S):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
