"""A TLS server that knows all its connections, from their first byte on, so that none outlives it.

`asyncio.Server` cannot tell them before Python 3.13. A client that keeps an idle connection, or that never finishes
its handshake, would leave a transport in a closed event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable

from sandbox.ports import LOOPBACK

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """Gives each connection, once its handshake is done, to a protocol of its own. Lives in one event loop."""

    def __init__(self, factory: Factory, tls: ssl.SSLContext) -> None:
        self._factory = factory
        self._tls = tls
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    @contextlib.asynccontextmanager
    async def on_loopback(self) -> AsyncIterator[int]:
        """Let clients in while the block runs; yields the port. Then all connections are cut."""
        loop = asyncio.get_running_loop()
        with socket.create_server((LOOPBACK, 0)) as listening:
            listening.settimeout(0)
            loop.add_reader(listening, self._accept, listening)
            try:
                yield listening.getsockname()[1]
            finally:
                loop.remove_reader(listening)
                await self._cut_all()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # the client has gone again
            return
        handshake = asyncio.create_task(self._shake_hands(connection))
        self._handshakes[handshake] = connection
        handshake.add_done_callback(self._handshakes.pop)

    async def _shake_hands(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # a client that speaks no TLS, or hangs up, is its own business
            transport, _ = await loop.connect_accepted_socket(self._factory, connection, ssl=self._tls)
            self._transports.add(transport)

    async def _cut_all(self) -> None:
        for connection in self._handshakes.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # a cancelled handshake may just have made its transport
        if self._handshakes:
            await asyncio.wait(self._handshakes)
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # asyncio closes the socket of an aborted transport in the next round
