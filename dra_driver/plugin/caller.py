"""Who waits for an answer, and work for them that either has no effect or is done to its end.

An RPC that was cancelled, or is past its deadline, must leave nothing behind: the kubelet may have unprepared the claim
by then. While a claim waits (for its turn, the API server, a worker) giving up simply ends it. Once a worker has begun,
only the worker knows how far it is: it asks `Caller.is_gone` before its first effect, and finishes what it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from dra_driver.errors import CancelledError

T = TypeVar("T")


class RpcCaller:
    """The caller of one RPC. `remaining_s`: seconds until its deadline, None where it has none."""

    def __init__(self, remaining_s: float | None) -> None:
        self._deadline = None if remaining_s is None else time.monotonic() + remaining_s
        self._left = False

    def leave(self) -> None:
        """Note that the RPC was cancelled."""
        self._left = True

    def is_gone(self) -> bool:
        """Whether nobody waits any more."""
        return self._left or (self._deadline is not None and time.monotonic() >= self._deadline)


class Turns:
    """One at a time for each key, in the order in which they came. Of one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Have the key to oneself until the block ends."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = lock, users
            else:
                del self._locks[key]


class Workers:
    """Threads for code that blocks."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="claim")
        self._jobs: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[[], T], caller: RpcCaller) -> T:
        """Run `work` in a thread; cancelled before it began, never. Cancelled later, tell the caller's end and wait.

        Raises dra_driver.errors.CancelledError where the caller's deadline is past before it began.
        """
        job = self._pool.submit(_unless_gone, work, caller)
        future = asyncio.wrap_future(job)
        self._jobs.add(future)
        future.add_done_callback(self._jobs.discard)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            caller.leave()
            job.cancel()
            await _ended(future)
            raise

    async def close(self, timeout_s: float) -> bool:
        """Take no more work and wait for the end of what runs. Returns whether it ended in time."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=timeout_s)
        return not self._jobs


def _unless_gone(work: Callable[[], T], caller: RpcCaller) -> T:
    if caller.is_gone():
        raise CancelledError("the kubelet gave up before it was begun")
    return work()


async def _ended(future: asyncio.Future[T]) -> None:
    """Wait for the end of a future, whoever cancels us meanwhile. Nobody is left to hear what came of it."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()
