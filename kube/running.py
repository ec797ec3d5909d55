"""Tasks that run as long as the process: the first that ends ends it, and its failure is told, never swallowed."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

Serving = Callable[[asyncio.Event], Awaitable[None]]


class StoppedError(RuntimeError):
    """A task that was to run for ever has ended."""


class Tasks:
    """Endless tasks of a name each."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until `stop`."""
        self._running.append(self._group.create_task(_endless(name, work), name=name))

    def stop(self) -> None:
        """End all."""
        for task in self._running:
            task.cancel()


async def _endless(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        log.exception("task failed name=%s", name)
        raise StoppedError(f"{name} failed: {type(error).__name__}: {error}") from error
    raise StoppedError(f"{name} ended, which it never should")


def run(serve: Serving) -> str:
    """Run until SIGTERM or SIGINT sets the event that `serve` gets; return what failed, nothing for a clean end."""

    async def main() -> None:
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        await serve(told)

    try:
        asyncio.run(main())
    except BaseExceptionGroup as group:
        return "; ".join(str(error) for error in _leaves(group))
    return ""


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
