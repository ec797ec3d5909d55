"""A task that ends ends the process with its failure in words; SIGTERM ends it cleanly."""

from __future__ import annotations

import asyncio
import os
import signal

from kube.running import Tasks, run


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_sigterm_ends_cleanly() -> None:
    async def serve(told: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = Tasks(group)
            tasks.start("watch", for_ever())
            os.kill(os.getpid(), signal.SIGTERM)
            await told.wait()
            tasks.stop()

    assert run(serve) == ""


def test_a_failed_task_is_told() -> None:
    async def fail() -> None:
        raise LookupError("no such pod")

    async def serve(told: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = Tasks(group)
            tasks.start("watch-nodes", for_ever())
            tasks.start("watch-pods", fail())
            await told.wait()

    assert run(serve) == "watch-pods failed: LookupError: no such pod"


def test_a_task_that_returns_is_a_failure_too() -> None:
    async def serve(told: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            Tasks(group).start("janitor", asyncio.sleep(0))
            await told.wait()

    assert run(serve) == "janitor ended, which it never should"
