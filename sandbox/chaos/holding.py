"""Watches whose events wait. Lives in the proxy's event loop; only `Holds.add` is called from other threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from sandbox.chaos.apirequest import ApiRequest
from sandbox.chaos.faults import Match

MAX_HELD = 64 << 20
"""Bytes that one watch may have waiting; beyond that it is reset, as the API server drops a slow watcher."""


class HeldTooLongError(Exception):
    """A watch had more than MAX_HELD bytes waiting."""


@dataclass(slots=True, eq=False)
class Hold:
    """One hold in force."""

    match: Match
    held_bytes: int = 0
    """What it kept from clients so far."""
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Holds:
    """All holds in force."""

    def __init__(self) -> None:
        self._holds: list[Hold] = []

    def add(self, match: Match) -> Hold:
        """Begin to hold."""
        hold = Hold(match)
        self._holds = [*self._holds, hold]
        return hold

    def release(self, hold: Hold) -> None:
        """Let the events go. In the event loop only."""
        self._holds = [each for each in self._holds if each is not hold]
        hold.released.set()

    def on(self, request: ApiRequest) -> Hold | None:
        """Return a hold on this watch, if there is one."""
        return next((hold for hold in self._holds if hold.match.accepts(request)), None)

    async def passed(self, request: ApiRequest, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield a watch's chunks, and its end, when no hold is on it. Meanwhile the API server is still listened to.

        Raises HeldTooLongError, and whatever ended the chunks.
        """
        waiting: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        size = 0

        async def listen() -> None:
            nonlocal size
            end: BaseException | None = None
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    if hold := self.on(request):
                        hold.held_bytes += len(chunk)
                    if size > MAX_HELD:
                        end = HeldTooLongError(f"{request}: more than {MAX_HELD} bytes wait")
                        break
                    waiting.put_nowait(chunk)
            except Exception as fault:  # noqa: BLE001 - raised again where it belongs, after the chunks before it
                end = fault
            waiting.put_nowait(end)

        listener = asyncio.ensure_future(listen())
        try:
            while True:
                item = await waiting.get()
                while hold := self.on(request):
                    await hold.released.wait()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    return
                size -= len(item)
                yield item
        finally:
            listener.cancel()
