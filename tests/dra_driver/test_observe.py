"""Probes and metrics over HTTP: nobody waits for another's answer, and nothing but questions is taken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import aiohttp

from dra_driver.observe import Observed
from kube.address import Address
from sandbox.ports import LOOPBACK, free_ports


class Told:
    """Answers, of which the metrics take until they are let go."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    async def alive(self) -> str:
        return ""

    def lacks(self) -> Mapping[str, str]:
        return {"kubelet": "it has not registered us (yet)"}

    def exposition(self) -> bytes:
        self.asked.set()
        assert self.go.wait(30)
        return b"dovetail_driver_ready 0.0\n"

    def settings(self) -> Mapping[str, object]:
        return {"node": "n"}


async def answers(method: str, port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{LOOPBACK}:{port}{path}") as response,
    ):
        return response.status, await response.text()


def test_a_disk_that_hangs_under_metrics_keeps_no_probe_waiting() -> None:
    """The gauges of what is prepared read the journal: in the event loop the kubelet would wait for that disk too."""

    async def story() -> None:
        told = Told()
        (port,) = free_ports(1)
        async with Observed(Address(LOOPBACK, port), told):
            metrics = asyncio.create_task(answers("GET", port, "/metrics"))
            try:
                assert await asyncio.to_thread(told.asked.wait, 30)
                async with asyncio.timeout(30):
                    assert await answers("GET", port, "/healthz") == (200, "ok\n")
            finally:
                told.go.set()
            assert await metrics == (200, "dovetail_driver_ready 0.0\n")

    asyncio.run(story())


def test_questions_and_their_answers() -> None:
    async def story() -> None:
        (port,) = free_ports(1)
        async with Observed(Address(LOOPBACK, port), Told()):
            assert await answers("GET", port, "/readyz") == (
                503,
                "waits for kubelet: it has not registered us (yet)\n",
            )
            assert await answers("GET", port, "/configz") == (200, '{"node":"n"}')
            assert (await answers("POST", port, "/healthz"))[0] == 405
            assert (await answers("GET", port, "/debug"))[0] == 404

    asyncio.run(story())
