"""Bindings by turns: few at once, in the order in which they came, and no more accepted than end in time.

An API server that is asked for everything at once answers everything late, until time-outs make work of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """Lets `at_once` through a gate; tells by `room` whether fewer than `most` are behind it or wait for it."""

    def __init__(self, at_once: int, most: int) -> None:
        self._gate = asyncio.Semaphore(at_once)
        self._most = most
        self._present = 0
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the length of an `async with`."""
        self._present += 1
        try:
            async with self._gate:
                yield
        finally:
            self._present -= 1
            self._left.set()

    async def room(self, patience_s: float) -> None:
        """Wait until there is room, but not longer than `patience_s`."""
        if self._present < self._most:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._present >= self._most:
                    self._left.clear()
                    await self._left.wait()
