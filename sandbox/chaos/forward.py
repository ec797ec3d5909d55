"""One request through the proxy: faults before, the API server's answer, faults after, and a record of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sandbox.chaos.apirequest import ApiRequest, parse
from sandbox.chaos.faults import Answer, Delay, Fault, Faults, Gate, Match
from sandbox.chaos.holding import HeldTooLongError, Holds
from sandbox.connection import Connection

MAX_BODY = 8 << 20
"""Bytes of a request; the API server itself takes 3 MiB."""
MAX_RECORDS = 100_000
"""Older records go."""
HOP_BY_HOP = frozenset(
    {
        "connection",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection only (RFC 9110, 7.6.1)."""
GATE_EVERY_S = 0.01
RETRIED = frozenset({"PUT", "DELETE"})
"""Methods that aiohttp silently sends again when a reused connection turns out dead, and that change something."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""struct linger: on, 0 s. The peer gets a TCP reset."""
NO_UPGRADE = Answer(501, reason="NotImplemented")


@dataclass(slots=True, eq=False)
class Record:
    """What became of one request."""

    request: ApiRequest
    at_s: float
    """Time of arrival, in seconds of the Unix clock."""
    faults: tuple[Fault, ...]
    """Those that act on it, in order."""
    forwarded: bool = False
    """Whether it was sent on to the API server."""
    served: int | None = None
    """The API server's code."""
    seen: int | None = None
    """The code that the client got; None: not yet, or its connection was reset."""
    reset: bool = False


class _CutError(Exception):
    """The client's connection is to be reset."""


class Forwarder:
    """The proxy's part between two connections. Lives in the proxy's event loop."""

    def __init__(self, certified: Connection, bare: Connection, faults: Faults, holds: Holds) -> None:
        self.records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._certified = certified
        self._bare = bare
        self._faults = faults
        self._holds = holds
        self._sessions: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        self._open: dict[Record, web.BaseRequest] = {}

    async def __aenter__(self) -> Self:
        for known, connection in ((True, self._certified), (False, self._bare)):
            for reuse in (True, False):
                self._sessions[known, reuse] = connection.session(reuse=reuse)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    def cut(self, match: Match) -> int:
        """Reset the requests under way that match."""
        doomed = [request for record, request in self._open.items() if match.accepts(record.request)]
        for request in doomed:
            _reset(request)
        return len(doomed)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        asked = parse(request.method, request.raw_path, request.headers.get(hdrs.USER_AGENT, ""))
        record = Record(asked, time.time(), tuple(self._faults.striking(asked)))
        self.records.append(record)
        self._open[record] = request
        try:
            return await self._serve(request, record)
        except (_CutError, HeldTooLongError, aiohttp.ClientError, OSError):
            # Also when the API server is gone: what the client would see without us.
            record.reset = True
            _reset(request)
            await asyncio.Future()  # until aiohttp has seen that the client is gone and cancels us
            raise AssertionError("never reached") from None
        finally:
            del self._open[record]

    async def _serve(self, request: web.Request, record: Record) -> web.StreamResponse:
        if hdrs.UPGRADE in request.headers:
            return _answered(record, NO_UPGRADE)
        body = await request.read()
        if answer := await _suffered(record, forwarded=False):
            return _answered(record, answer)
        known = request.transport is not None and bool(request.transport.get_extra_info("peercert"))
        session = self._sessions[known, request.method not in RETRIED]
        record.forwarded = True
        async with session.request(
            request.method,
            URL(self._certified.server + request.raw_path, encoded=True),
            headers=_end_to_end(request.headers),
            data=body or None,
            allow_redirects=False,
        ) as served:
            record.served = served.status
            chunks = _any(served)
            if record.request.verb == "watch":
                chunks = self._holds.passed(record.request, chunks)
            elif any(fault.forwarded for fault in record.faults):
                chunks = _one(await served.read())  # it has done its part when the answer is complete
            if answer := await _suffered(record, forwarded=True):
                return _answered(record, answer)
            return await _passed_on(request, record, served, chunks)


async def _passed_on(
    request: web.Request, record: Record, served: aiohttp.ClientResponse, chunks: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    response = web.StreamResponse(status=served.status, reason=served.reason, headers=_end_to_end(served.headers))
    await response.prepare(request)
    record.seen = served.status
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()
    return response


async def _any(served: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    async for chunk in served.content.iter_any():
        yield chunk


async def _one(chunk: bytes) -> AsyncGenerator[bytes, None]:
    yield chunk


async def _suffered(record: Record, *, forwarded: bool) -> Answer | None:
    """Let the faults of this moment act, up to one that answers. Raises _CutError for a reset."""
    for fault in record.faults:
        if fault.forwarded != forwarded:
            continue
        match fault.action:
            case Delay(seconds=seconds):
                await (asyncio.Future() if math.isinf(seconds) else asyncio.sleep(seconds))
            case Gate(opened=opened):
                while not opened.is_set():
                    await asyncio.sleep(GATE_EVERY_S)
            case Answer() as answer:
                return answer
            case _:
                raise _CutError
    return None


def _answered(record: Record, answer: Answer) -> web.StreamResponse:
    status = answer.status(record.request)
    if record.request.verb == "watch" and answer.code == 410:
        # The API server tells this by an event, with 200 (k8s.io/apiserver, storage/cacher, newErrWatcher).
        record.seen = 200
        return web.json_response({"type": "ERROR", "object": status}, dumps=lambda event: json.dumps(event) + "\n")
    record.seen = answer.code
    headers = {} if answer.retry_after_s is None else {hdrs.RETRY_AFTER: str(answer.retry_after_s)}
    return web.json_response(status, status=answer.code, headers=headers)


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


def _reset(request: web.BaseRequest) -> None:
    """Close the client's connection so that it gets a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:  # else the client has gone in this moment
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
