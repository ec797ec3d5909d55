"""Requests and their faults: what aiohttp raises and what HTTP codes mean becomes a ClusterError."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import math
import socket
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp.client_exceptions import ClientError

from kube.access import Access
from kube.errors import BY_STATUS, ClusterError, UnavailableError

GRACE_S = 2.0
"""How much longer than the API server we wait, so that its word arrives and not our time-out."""
CONNECT_S = 5.0
CLOSE_S = 1.0
MAX_LINE = 64 << 20
"""Bytes of one watch event. etcd stores 1.5 MiB; a line without end must not fill the memory."""
DEAD_AFTER_S = 30
"""How long a connection may stay without acknowledgement (TCP), so that a vanished machine is noticed."""
ALLOWED_S: ContextVar[float] = ContextVar("allowed_s", default=math.inf)
"""How long the calls of a task may take, where that is less than the client's own time-out; see `within`."""
UNAVAILABLE = 429
SERVER_FAULTS = 500


T = TypeVar("T")


async def within(timeout_s: float, call: Awaitable[T]) -> T:
    """Return what a call returns, in at most `timeout_s`, the wait for a connection included.

    The API server is told to give the call up then too. Raises UnavailableError without a status where it took longer.
    """
    allowed = ALLOWED_S.set(timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except TimeoutError as error:
        raise UnavailableError(f"no answer within {timeout_s:.1f} s") from error
    finally:
        ALLOWED_S.reset(allowed)


class Transport:
    """Connections of one user to one API server."""

    def __init__(self, access: Access, *, timeout_s: float, connections: int) -> None:
        """Prepare; `open` connects."""
        self._access = access
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None
        self.on_call: Callable[[str, str, int, float], None] = lambda _method, _path, _status, _seconds: None
        """Told of every call: HTTP method, path, status (0: no answer), seconds."""
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def open(self) -> None:
        """Make the session, in the running event loop."""
        connector = aiohttp.TCPConnector(
            ssl=self._access.tls, limit=0, keepalive_timeout=60, socket_factory=self._connected
        )
        agent = f"dovetail/{importlib.metadata.version('dovetail')}"
        # Compression would cost both sides more than it saves the network between them.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": agent}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)

    async def close(self) -> None:
        """Close all connections, and wait for them to be: TLS says goodbye after aiohttp believes it is over."""
        if self._session is not None:
            await self._session.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while any(each.fileno() >= 0 for each in self._sockets):
                    await asyncio.sleep(CLOSE_S / 100)

    def _connected(self, address: Any) -> socket.socket:  # noqa: ANN401 - a tuple of getaddrinfo
        made = _socket_that_notices(*address[:3])
        self._sockets.add(made)
        return made

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Send a request and return the body of the answer. Raises ClusterError."""
        timeout_s = min(self._timeout_s, ALLOWED_S.get())
        asked = {**(query or {}), "timeout": f"{timeout_s:g}s"}
        limits = aiohttp.ClientTimeout(total=timeout_s + GRACE_S, sock_connect=CONNECT_S)
        headers = {"Content-Type": content_type} if body is not None else {}
        what = f"{method} {path}"
        async with self._free:
            start_s, status = time.monotonic(), 0
            try:
                async with await self._send(method, path, asked, limits, headers, body) as answer:
                    text = await answer.read()
                status = answer.status
            except (ClientError, TimeoutError, OSError) as fault:
                raise _no_answer(what, fault) from fault
            finally:
                self.on_call(method, path, status, time.monotonic() - start_s)
        if answer.status >= 400:
            await self._refused(answer, text, what)
        return text

    async def lines(self, path: str, query: Mapping[str, str], *, silence_s: float) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an answer that goes on. Raises UnavailableError where no byte came for `silence_s`."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
        what = f"watch {path}"
        try:
            async with await self._send("GET", path, query, limits, {}, None) as answer:
                if answer.status >= 400:
                    await self._refused(answer, await answer.read(), what)
                async for line in _lines(answer.content.iter_any(), what):
                    yield line
        except (ClientError, TimeoutError, OSError) as fault:
            raise _no_answer(what, fault) from fault

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        headers: dict[str, str],
        body: bytes | None,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None, "the client is not open: use `async with`"
        token = await self._access.authorization()
        if token:
            headers["Authorization"] = token
        return await self._session.request(
            method,
            f"{self._access.server}{path}",
            params=query,
            headers=headers,
            data=body,
            timeout=limits,
            proxy=self._access.proxy,
            server_hostname=self._access.server_name,
            allow_redirects=False,
        )

    async def _refused(self, answer: aiohttp.ClientResponse, text: bytes, what: str) -> None:
        try:
            status = msgspec.json.decode(text)
        except msgspec.DecodeError:
            status = text.decode(errors="replace")[:400]
        fault = fault_of(answer.status, status, what, answer.headers.get("Retry-After"))
        if answer.status == 401:
            with contextlib.suppress(ClusterError):
                await self._access.renew(answer.request_info.headers.get("Authorization"))
        raise fault


def fault_of(code: int, status: object, what: str, retry_after: str | None = None) -> ClusterError:
    """Return the error for an HTTP code and a metav1.Status, or whatever came instead of one."""
    said: Mapping[str, Any] = status if isinstance(status, Mapping) else {"message": str(status)}
    reason = str(said.get("reason") or "")
    message = f"{what}: {code} {reason}: {said.get('message') or ''}".rstrip(": ")
    if code == UNAVAILABLE or code >= SERVER_FAULTS:
        details = said.get("details")
        wish = retry_after or (details.get("retryAfterSeconds") if isinstance(details, Mapping) else None)
        return UnavailableError(message, status=code, reason=reason, retry_after_s=_seconds(wish))
    return BY_STATUS.get(code, ClusterError)(message, status=code, reason=reason)


def _seconds(wish: object) -> float | None:
    """Read a Retry-After; its other form, a date, is nothing that API servers send."""
    try:
        return max(float(str(wish)), 0.0) if wish else None
    except ValueError:
        return None


def _no_answer(what: str, fault: BaseException) -> UnavailableError:
    return UnavailableError(f"{what}: no answer: {type(fault).__name__} {fault}".rstrip(), reason=type(fault).__name__)


async def _lines(chunks: Any, what: str) -> AsyncGenerator[bytes, None]:  # noqa: ANN401 - aiohttp's own iterator
    rest = b""
    async for chunk in chunks:
        first, *more = chunk.split(b"\n")
        rest += first
        for line in more:
            if rest:
                yield rest
            rest = line
        if len(rest) > MAX_LINE:
            raise UnavailableError(f"{what}: an event of more than {MAX_LINE} bytes")


def _socket_that_notices(family: int, kind: int, protocol: int) -> socket.socket:
    """Return a socket that notices within half a minute that the machine at the other end is gone."""
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_AFTER_S // 2)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, DEAD_AFTER_S // 2 // 5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000)
    return made
