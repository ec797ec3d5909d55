"""The tasks beside the requests do not wait for each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kube.access import Access
from kube.client import ApiClient
from scheduler.assemble import System
from scheduler.settings import Settings
from tests.scheduler.test_fuzz import KUBECONFIG


async def given_up(kubeconfig: Path) -> None:
    never, done = asyncio.Event(), asyncio.Event()

    async def stands() -> None:
        await never.wait()

    async with ApiClient(Access(kubeconfig)) as client:
        system = System(Settings(), None, client)
        system.settler.all = system.janitor.step = stands  # type: ignore[method-assign]
        system.decider.tick = done.set  # type: ignore[method-assign]
        tasks = [asyncio.create_task(work) for _, work in system.tasks()]
        try:
            await asyncio.wait_for(done.wait(), 30)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def test_promises_end_in_time_while_an_unknown_write_waits_for_the_api_server(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    asyncio.run(given_up(kubeconfig))
