"""Writes down what a kube-scheduler really sends, for the fuzz tests: a listener between it and the extender.

python -m tests.scheduler.recording FILE LISTEN_PORT EXTENDER_PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp
from aiohttp import web


async def record(path: Path, port: int, extender_port: int) -> None:
    """Pass requests on and append verb and body of each to `path`, until killed."""
    async with aiohttp.ClientSession() as client:

        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            if request.method == "POST":
                with path.open("a") as lines:
                    lines.write(json.dumps({"verb": request.path[1:], "body": json.loads(body)}) + "\n")
            url = f"http://127.0.0.1:{extender_port}{request.raw_path}"
            async with client.request(request.method, url, data=body) as answer:
                return web.Response(status=answer.status, body=await answer.read())

        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
