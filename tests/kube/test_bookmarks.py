"""Bookmarks move a watch on. The API server sends them each minute, too seldom for a test: this one sends at will."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from kube.access import Access
from kube.client import ApiClient
from kube.kinds import NAMESPACES
from kube.reflector import Reflector
from tests.kube.picture import PATIENCE_S, QUICK, Picture


class Bookmarking:
    """An API server of one empty kind, each of whose watches says two bookmarks and ends."""

    def __init__(self) -> None:
        self.watched: list[dict[str, str]] = []
        self.enough = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "100"}, "items": None})
        self.watched.append(dict(request.query))
        if len(self.watched) == 3:
            self.enough.set()
        version = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        for later in (5, 10):
            metadata = {"resourceVersion": str(version + later), "creationTimestamp": None}
            line = {"type": "BOOKMARK", "object": {"kind": "Namespace", "metadata": metadata, "spec": {}}}
            await response.write(json.dumps(line).encode() + b"\n")
        return response

    @asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[Path]:
        application = web.Application()
        application.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        document: dict[str, Any] = {
            "current-context": "one",
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
            "clusters": [{"name": "one", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
            "users": [{"name": "one", "user": {}}],
        }
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(document))
        yield kubeconfig
        await runner.cleanup()


def test_a_watch_begins_at_the_last_bookmark(tmp_path: Path) -> None:
    async def run() -> None:
        server = Bookmarking()
        async with server.serving(tmp_path) as kubeconfig, ApiClient(Access(kubeconfig)) as client:
            picture = Picture()
            now_s = 0.0
            reflector = Reflector(client, NAMESPACES, picture, settings=QUICK, clock=lambda: now_s)
            task = asyncio.create_task(reflector.run())
            await asyncio.wait_for(server.enough.wait(), PATIENCE_S)
            assert [query["resourceVersion"] for query in server.watched] == ["100", "110", "120"]
            assert {query["allowWatchBookmarks"] for query in server.watched} == {"true"}
            assert all(240 <= int(query["timeoutSeconds"]) <= 300 for query in server.watched)
            assert (reflector.progress.lists, reflector.progress.events, reflector.progress.failures) == (1, 0, {})
            assert reflector.progress.age_s(7.0) == 7.0
            task.cancel()

    asyncio.run(run())
