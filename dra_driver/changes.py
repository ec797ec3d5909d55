"""From a thread that tells of changes to the event loop that follows them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol


class Changing(Protocol):
    """What tells of its changes, from any thread."""

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` at each change; the returned function ends that."""
        ...


@contextlib.contextmanager
def changes(source: Changing) -> Iterator[asyncio.Event]:
    """Give an event of the running loop that is set at every change of `source`; who waits for it clears it before."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            loop.call_soon_threadsafe(changed.set)

    end = source.subscribe(tell)
    try:
        yield changed
    finally:
        end()


async def change(changed: asyncio.Event, timeout_s: float) -> None:
    """Wait for a change, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await changed.wait()
