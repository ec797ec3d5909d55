"""Requests by the thousand: many at once, as few bytes as possible, nothing decoded that nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from sandbox.connection import Connection
from sandbox.errors import SandboxError
from sandbox.objects import RESOURCE_API, Manifest

CONNECTIONS = 32
MERGE_PATCH = "application/merge-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceClaim": f"/apis/{RESOURCE_API}/namespaces/{{}}/resourceclaims",
    "ResourceClaimTemplate": f"/apis/{RESOURCE_API}/namespaces/{{}}/resourceclaimtemplates",
}
MAX_EVENT = 8 << 20
"""Bytes of one watch event."""


class LoadError(SandboxError):
    """The API server refused a request of the load, or the load did not end in time."""


class LoadClient:
    """One user's connections; in one event loop."""

    def __init__(self, kubeconfig: Path) -> None:
        self._connection = Connection.read(kubeconfig)

    async def __aenter__(self) -> Self:
        self._session = self._connection.session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def create(self, manifest: Manifest) -> None:
        """Create an object."""
        path = PATHS[manifest["kind"]].format(manifest["metadata"]["namespace"])
        await self._call("POST", path, manifest, {})

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        """Apply a JSON merge patch."""
        path = f"{PATHS[kind].format(namespace)}/{name}"
        await self._call("PATCH", path, change, {"Content-Type": MERGE_PATCH, "Accept": METADATA_ONLY})

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """Return an object."""
        answer = await self._call("GET", f"{PATHS[kind].format(namespace)}/{name}", None, {})
        stored: Manifest = json.loads(answer)
        return stored

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object at once."""
        await self._call("DELETE", f"{PATHS[kind].format(namespace)}/{name}", {"gracePeriodSeconds": 0}, {})

    async def delete_all(self, kind: str, namespace: str, selector: str) -> None:
        """Delete all objects with a label at once."""
        path = f"{PATHS[kind].format(namespace)}?labelSelector={selector}"
        await self._call("DELETE", path, {"gracePeriodSeconds": 0}, {})

    async def list(self, kind: str, namespace: str, selector: str = "", *, whole: bool = False) -> Manifest:
        """Return the list of objects with a label; their metadata alone unless `whole`."""
        path = f"{PATHS[kind].format(namespace)}?labelSelector={selector}"
        answer = await self._call("GET", path, None, {} if whole else {"Accept": METADATA_LIST})
        stored: Manifest = json.loads(answer)
        return {**stored, "items": stored["items"] or []}  # an empty list of metadata is null

    async def watch(self, kind: str, namespace: str, query: str, *, whole: bool = False) -> AsyncIterator[Manifest]:
        """Yield watch events until the API server ends the watch; of objects their metadata alone unless `whole`."""
        path = f"{PATHS[kind].format(namespace)}?watch=true&{query}"
        headers = {**({} if whole else {"Accept": METADATA_ONLY}), **self._connection.headers}
        async with _told(path), self._session.get(self._connection.server + path, headers=headers) as answer:
            await _checked(answer, path)
            line = b""
            async for chunk in answer.content.iter_any():
                *lines, line = (line + chunk).split(b"\n")
                if len(line) > MAX_EVENT:
                    raise LoadError(f"an event of {path} is longer than {MAX_EVENT} bytes")
                for each in lines:
                    yield json.loads(each)

    async def _call(self, method: str, path: str, content: Manifest | None, headers: dict[str, str]) -> bytes:
        url = self._connection.server + path
        data = None if content is None else json.dumps(content).encode()
        given = {"Content-Type": "application/json", **self._connection.headers, **headers}
        what = f"{method} {path}"
        async with _told(what), self._session.request(method, url, data=data, headers=given) as answer:
            await _checked(answer, what)
            return await answer.read()


@contextlib.asynccontextmanager
async def _told(what: str) -> AsyncIterator[None]:
    try:
        yield
    except aiohttp.ClientError as fault:
        raise LoadError(f"{what}: {fault}") from fault


async def _checked(answer: aiohttp.ClientResponse, what: str) -> None:
    if answer.status >= 300:
        raise LoadError(f"{what}: {answer.status} {(await answer.text())[:300]}")


async def for_each(
    call: Callable[[int], Awaitable[None]], numbers: Iterable[int], *, at_once: int = CONNECTIONS
) -> None:
    """Await `call` for all numbers, some at once and in order; the first failure ends all and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            shared = iter(numbers)
            for _ in range(at_once):
                group.create_task(_each(call, shared))
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None


async def _each(call: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> None:
    for number in numbers:
        await call(number)
