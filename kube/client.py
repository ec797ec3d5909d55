"""The API server over asynchronous HTTP: objects in as manifests, out as frozen structs or as they were sent.

One attempt a call: who calls knows whether another one makes sense. Every call has an end: the API server is told how
long it may take (`timeout`), and the client waits a little longer than that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from kube.access import Access
from kube.decoding import Event, Page, decoder, parsed
from kube.errors import ClusterError, NotFoundError
from kube.kinds import PODS, Kind
from kube.transport import Transport, fault_of

T = TypeVar("T")
Manifest = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PAGE = 500
"""Objects of one page of a list."""
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind. Nothing given means all."""

    namespace: str = ""
    fields: str = ""
    """Such as "spec.nodeName=node-1"; what a kind can select by, the API says."""
    labels: str = ""

    def query(self) -> dict[str, str]:
        """Return the parameters of a request."""
        pairs = {"fieldSelector": self.fields, "labelSelector": self.labels}
        return {name: value for name, value in pairs.items() if value}


EVERYTHING = Selection()


class ApiClient:
    """One user's connections to one API server; in one event loop."""

    def __init__(self, access: Access, *, timeout_s: float = TIMEOUT_S, connections: int = 64) -> None:
        """Prepare connections. `timeout_s` is for each call but watches; `connections`: how many calls at once."""
        self._transport = Transport(access, timeout_s=timeout_s, connections=connections)

    def watch_calls(self, told: Callable[[str, str, int, float], None]) -> None:
        """Have `told` hear of every call but watches: HTTP method, path, status (0: no answer), seconds."""
        self._transport.on_call = told

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def list_pages(
        self, kind: Kind[T], selection: Selection = EVERYTHING, *, page: int = PAGE
    ) -> AsyncIterator[Page[T]]:
        """Yield a list page by page, all of one state of the cluster. Raises GoneError when that took too long."""
        query = selection.query()
        while True:
            if page:
                query["limit"] = str(page)
            text = await self._transport.call("GET", kind.path(selection.namespace), query=query)
            found = decoder(kind).page(text)
            yield found
            if not found.metadata.continue_token:
                return
            query["continue"] = found.metadata.continue_token

    async def list_all(self, kind: Kind[T], selection: Selection = EVERYTHING) -> list[T]:
        """Return all objects that decode."""
        return [found async for page in self.list_pages(kind, selection) for found in page.objects]

    async def watch(
        self,
        kind: Kind[T],
        resource_version: str,
        selection: Selection = EVERYTHING,
        *,
        duration_s: int = 270,
        silence_s: float = 90.0,
    ) -> AsyncGenerator[Event[T], None]:
        """Yield changes after a resourceVersion, and bookmarks, until the API server ends the watch after `duration_s`.

        Raises GoneError where the resourceVersion is too old, UnavailableError after `silence_s` without a byte.
        Who stops before the end closes it (contextlib.aclosing).
        """
        query = selection.query() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(duration_s),
        }
        decode = decoder(kind).event
        path = kind.path(selection.namespace)
        async with aclosing(self._transport.lines(path, query, silence_s=silence_s)) as lines:
            async for line in lines:
                event = decode(line)
                if not isinstance(event, Event):
                    raise fault_of(int(event.get("code") or 500), event, f"watch {kind.plural}")
                yield event

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return an object as a struct."""
        return decoder(kind).one(await self._transport.call("GET", kind.path(namespace, name)))

    async def get_raw(self, kind: Kind[Any], namespace: str, name: str) -> Manifest:
        """Return an object as it is stored, so that it can be written without losing fields that we do not know."""
        return _plain(await self._transport.call("GET", kind.path(namespace, name)))

    async def list_raw(self, kind: Kind[Any], selection: Selection = EVERYTHING) -> list[Manifest]:
        """Return all objects as they are stored, each with its apiVersion and kind."""
        items: list[Manifest] = []
        query = selection.query() | {"limit": str(PAGE)}
        while True:
            page = parsed(await self._transport.call("GET", kind.path(selection.namespace), query=query))
            items += page.get("items") or ()
            if not (token := page["metadata"].get("continue")):
                break
            query["continue"] = token
        return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in items]

    async def create(self, kind: Kind[Any], manifest: Mapping[str, Any]) -> Manifest:
        """Create an object. Returns it as stored. Raises ConflictError where one of its name exists."""
        path = kind.path(manifest["metadata"].get("namespace", ""))
        return _plain(await self._transport.call("POST", path, body=_typed(kind, manifest)))

    async def update(self, kind: Kind[Any], manifest: Mapping[str, Any], *, subresource: str = "") -> Manifest:
        """Write an object. Raises ConflictError where the resourceVersion in it is not the latest any more."""
        metadata = manifest["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return _plain(await self._transport.call("PUT", path, body=_typed(kind, manifest)))

    async def patch(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        change: object,
        *,
        subresource: str = "",
        content_type: str = MERGE_PATCH,
        field_manager: str = "",
        force: bool = False,
    ) -> Manifest:
        """Change an object. With metadata.resourceVersion in a merge patch, ConflictError where it has moved on."""
        query = {"fieldManager": field_manager} if field_manager else {}
        if force:
            query["force"] = "true"
        path = kind.path(namespace, name, subresource)
        body = msgspec.json.encode(change)
        return _plain(await self._transport.call("PATCH", path, query=query, body=body, content_type=content_type))

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        grace_s: int | None = None,
    ) -> None:
        """Delete an object; with `uid` or `resource_version` that one alone, else ConflictError."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        if any(conditions.values()):
            options["preconditions"] = {key: value for key, value in conditions.items() if value}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        await self._transport.call("DELETE", kind.path(namespace, name), body=msgspec.json.encode(options))

    async def bind(self, namespace: str, pod: str, uid: str, node: str) -> None:
        """Give a pod its node. Raises ConflictError where it has one, or is another pod of the same name."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": pod, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        path = PODS.path(namespace, pod, "binding")
        await self._transport.call("POST", path, body=msgspec.json.encode(binding))

    async def served(self, kind: Kind[T]) -> Kind[T] | None:
        """Return the kind in the version, of those that we read, that the API server has; None where it has none."""
        for version in kind.versions:
            wanted = kind.of_version(version)
            try:
                found = _plain(await self._transport.call("GET", wanted.root))
            except NotFoundError:
                continue
            if any(each.get("name") == kind.plural for each in found.get("resources") or ()):
                return wanted
        return None

    async def raw(self, path: str) -> str:
        """Return the body of any path, such as /version."""
        return (await self._transport.call("GET", path)).decode()


def _typed(kind: Kind[Any], manifest: Mapping[str, Any]) -> bytes:
    """Encode a manifest, with its apiVersion and kind whether or not it has them."""
    return msgspec.json.encode({"apiVersion": kind.api_version, "kind": kind.name, **manifest})


def _plain(text: bytes) -> Manifest:
    try:
        stored: Manifest = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise ClusterError(f"the API server's answer cannot be read: {fault}") from fault
    return stored
