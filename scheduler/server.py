"""The HTTP side of the extender: verbs of kube-scheduler, and what people and probes ask.

    POST /filter /prioritize /bind /preempt     200, or 400 with the path of the fault, 408, 413, 503 until ready
    GET  /healthz /readyz /metrics /configz     for probes and operators
    GET  /explain/<namespace>/<pod>[?node=...]  for people

Invariant: whatever comes in, one request is answered and the process goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs, unquote

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from kube.connections import read_body
from scheduler import wire, wire_read
from scheduler.metrics import Metrics
from scheduler.strictjson import JsonFault
from scheduler.wire import BindingArgs, ExtenderArgs, FilterResult, HostPriority, PreemptionArgs, Victims
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

EXPLAIN = "/explain/"
OBSERVED = frozenset({"/healthz", "/readyz", "/metrics"})
PATH_SHOWN = 200


class Verbs(Protocol):
    """Who decides. Only `bind` and `room` wait for anything: the others see and leave one state of the cluster."""

    def filter(self, asked: ExtenderArgs) -> FilterResult:
        """Decide, reserve and return the chosen node; all nodes for a pod that asks for no device."""
        ...

    def prioritize(self, asked: ExtenderArgs) -> Sequence[HostPriority]:
        """Score the nodes that are left."""
        ...

    async def bind(self, order: BindingArgs) -> str:
        """Write the claims and the binding. Returns why it failed, nothing for success."""
        ...

    async def room(self) -> None:
        """Wait, for a while, where another decision would only make a queue longer."""
        ...

    def preempt(self, asked: PreemptionArgs) -> Mapping[str, Victims]:
        """Return the nodes where evicting the victims would free the devices."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the process knows of itself."""

    waits_for: Callable[[], Sequence[str]]
    """What is not ready yet, in words; nothing when requests can be answered."""
    settings: Mapping[str, object]
    """For /configz; no secrets."""
    explain: Callable[[str, str, str | None], object | None]
    """(namespace, pod, node to look at or None) -> what there is to know of a pod as JSON values.

    None for a pod that is not there. Raises InvalidInputError for a node that is not.
    """


class Extender:
    """Answers requests. `handle` is for `connections.LimitedServer`."""

    def __init__(self, verbs: Verbs, probes: Probes, metrics: Metrics) -> None:
        self._verbs = verbs
        self._probes = probes
        self._metrics = metrics
        self._posts: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            "/filter": self._filter,
            "/prioritize": self._prioritize,
            "/bind": self._bind,
            "/preempt": self._preempt,
        }
        self._gets: dict[str, Callable[[], web.Response]] = {
            "/healthz": lambda: web.Response(text="ok"),
            "/readyz": self._ready,
            "/metrics": self._exposition,
            "/configz": lambda: _json(msgspec.json.encode(self._probes.settings)),
        }

    async def observe(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer probes and metrics, and nothing else."""
        if request.path in OBSERVED and request.method in {"GET", "HEAD"}:
            return await self.handle(request)
        return _fault(404, "", f"there are {', '.join(sorted(OBSERVED))} here")

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, whatever it is and whatever fails."""
        try:
            return await self._dispatch(request)
        except Exception:
            log.exception("failed method=%s path=%r", request.method, request.path[:PATH_SHOWN])
            return _fault(500, "", "internal error; the log of the extender tells more")

    async def _dispatch(self, request: web.BaseRequest) -> web.Response:
        if request.path in self._posts:
            return await self._answer(request)
        if request.path not in self._gets and not request.path.startswith(EXPLAIN):
            return _fault(404, "", f"no such path; there are {', '.join([*self._posts, *self._gets, EXPLAIN])}")
        if request.method not in {"GET", "HEAD"}:
            return _fault(405, "", "use GET", allow="GET")
        get = self._gets.get(request.path)
        return get() if get is not None else self._explain(request.raw_path)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        start_s, status = time.perf_counter(), 500
        verb = request.path[1:]
        try:
            response = await self._served(request, verb)
            status = response.status
            return response
        finally:
            self._metrics.answered(verb, status, time.perf_counter() - start_s)

    async def _served(self, request: web.BaseRequest, verb: str) -> web.Response:
        if request.method != "POST":
            return _fault(405, "", "use POST", allow="POST")
        if lacks := self._probes.waits_for():
            return _fault(503, "", f"not ready: waits for {', '.join(lacks)}")
        try:
            return _json(await self._posts[request.path](await read_body(request)))
        except JsonFault as fault:
            log.warning("refused verb=%s path=%r problem=%r", verb, fault.path, fault.problem)
            return _fault(400, fault.path, fault.problem)
        except HttpProcessingError as fault:  # a body that is not as its headers say
            return _fault(400, "", fault.message)
        except web.HTTPException as fault:
            return _fault(fault.status, "", fault.reason)

    async def _filter(self, body: bytes) -> bytes:
        asked = wire_read.read_args(body)
        await self._verbs.room()
        result = self._verbs.filter(asked)
        self._metrics.decided(_outcome(asked, result), _reason(result))
        return wire.write_filter(result, asked)

    async def _prioritize(self, body: bytes) -> bytes:
        return wire.write_priorities(self._verbs.prioritize(wire_read.read_args(body)))

    async def _bind(self, body: bytes) -> bytes:
        return wire.write_binding(await self._verbs.bind(wire_read.read_binding(body)))

    async def _preempt(self, body: bytes) -> bytes:
        return wire.write_preemption(self._verbs.preempt(wire_read.read_preemption(body)))

    def _ready(self) -> web.Response:
        lacks = self._probes.waits_for()
        return web.Response(status=503, text=f"waits for {', '.join(lacks)}") if lacks else web.Response(text="ok")

    def _exposition(self) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.exposition(), headers=headers)

    def _explain(self, raw_path: str) -> web.Response:
        parts = raw_path.partition("?")[0].removeprefix(EXPLAIN).split("/")
        if len(parts) != 2 or not all(parts):
            return _fault(404, "", f"expected {EXPLAIN}NAMESPACE/POD")
        if lacks := self._probes.waits_for():
            return _fault(503, "", f"not ready: waits for {', '.join(lacks)}")
        namespace, pod = map(unquote, parts)
        node = parse_qs(raw_path.partition("?")[2]).get("node", [None])[0]
        try:
            found = self._probes.explain(namespace, pod, node)
        except InvalidInputError as error:
            return _fault(404, error.field, str(error))
        if found is None:
            return _fault(404, "", f"no pod {namespace}/{pod} asks for devices of ours")
        return _json(msgspec.json.encode(found))


def _outcome(asked: ExtenderArgs, result: FilterResult) -> str:
    if result.error:
        return "error"
    if not result.node_names:
        return "rejected"
    return "passed" if result.node_names is asked.node_names else "placed"


def _reason(result: FilterResult) -> str:
    """Return why, in one of few texts: what all nodes are told is one."""
    return result.reason or next(iter(result.failed_and_unresolvable.values()), "")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _fault(status: int, path: str, problem: str, *, allow: str = "") -> web.Response:
    content = {"reason": HTTPStatus(status).phrase.replace(" ", ""), "path": path, "message": problem}
    headers = {"Allow": allow} if allow else {}
    return web.Response(
        status=status, body=msgspec.json.encode(content), content_type="application/json", headers=headers
    )
