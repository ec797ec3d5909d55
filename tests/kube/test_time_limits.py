"""A call that may take a certain time takes no longer, and the API server is told so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from kube.access import Access
from kube.client import ApiClient
from kube.errors import UnavailableError
from kube.kinds import CLAIMS
from kube.transport import within

CLAIM = {"metadata": {"namespace": "ns", "name": "one", "uid": "u"}, "spec": {}}


class Server:
    """Answers every request with a claim, after `answers` is set."""

    def __init__(self) -> None:
        self.timeouts: list[str] = []
        self.answers = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.timeouts.append(request.query["timeout"])
        await self.answers.wait()
        return web.json_response(CLAIM)

    async def start(self) -> tuple[web.AppRunner, str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, site.name


def kubeconfig(directory: Path, url: str) -> Path:
    path = directory / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


async def asked(directory: Path, *, answers: bool) -> list[str]:
    server = Server()
    runner, _ = await server.start()
    host, port = runner.addresses[0][:2]
    try:
        async with ApiClient(
            Access(kubeconfig(directory, f"http://{host}:{port}")), timeout_s=10, connections=1
        ) as client:
            if answers:
                server.answers.set()
                await client.get(CLAIMS, "ns", "one")
                await within(3.5, client.get(CLAIMS, "ns", "one"))
                await client.get(CLAIMS, "ns", "one")
                return server.timeouts
            first = asyncio.create_task(client.get(CLAIMS, "ns", "one"))
            while not server.timeouts:
                await asyncio.sleep(0)
            with pytest.raises(UnavailableError) as told:  # the only connection is taken: it is never sent
                await within(0.05, client.get(CLAIMS, "ns", "one"))
            assert told.value.status == 0
            server.answers.set()
            await first
            return server.timeouts
    finally:
        server.answers.set()
        await runner.cleanup()


def test_the_api_server_is_told_how_long_a_call_may_take(tmp_path: Path) -> None:
    assert asyncio.run(asked(tmp_path, answers=True)) == ["10s", "3.5s", "10s"]


def test_the_wait_for_a_connection_counts_and_nothing_is_sent_after_it(tmp_path: Path) -> None:
    assert asyncio.run(asked(tmp_path, answers=False)) == ["10s"]
