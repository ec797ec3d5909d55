"""An extender on loopback within a test, asked as kube-scheduler asks; and the requests that it sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from kube.connections import LimitedServer
from scheduler.metrics import Metrics
from scheduler.server import Extender, Probes, Verbs
from scheduler.wire import BindingArgs, ExtenderArgs, FilterResult, HostPriority, PreemptionArgs, Victims

DATA = Path(__file__).parent / "data"
NODES = tuple(f"node-{number}" for number in range(3))

POD: dict[str, Any] = {
    "metadata": {"name": "pod", "namespace": "default", "uid": "u-1", "creationTimestamp": None},
    "spec": {
        "containers": [{"name": "main", "image": "busybox", "resources": {"claims": [{"name": "gpu"}]}}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "schedulerName": "dovetail",
    },
    "status": {"phase": "Pending"},
}


def question(pod: Mapping[str, Any] | None = None, names: Sequence[str] | None = NODES) -> dict[str, Any]:
    return {"Pod": POD if pod is None else pod, "Nodes": None, "NodeNames": None if names is None else list(names)}


class FirstNode:
    """Decides for the first node, refuses pods named `refused`, and fails on those named `broken`."""

    def __init__(self) -> None:
        self.bound: list[BindingArgs] = []

    def filter(self, asked: ExtenderArgs) -> FilterResult:
        name = asked.pod.metadata.name
        assert name != "broken"
        if name == "refused":
            return FilterResult(failed_and_unresolvable=dict.fromkeys(asked.node_names, "no GPU"), reason="no-gpu")
        if not asked.pod.spec.resource_claims:
            return FilterResult(node_names=asked.node_names)
        return FilterResult(node_names=asked.node_names[:1])

    def prioritize(self, asked: ExtenderArgs) -> Sequence[HostPriority]:
        return [HostPriority(name, 10 - at) for at, name in enumerate(asked.node_names[:10])]

    async def bind(self, order: BindingArgs) -> str:
        self.bound.append(order)
        return "pod is gone" if order.pod_name == "gone" else ""

    async def room(self) -> None:
        pass

    def preempt(self, asked: PreemptionArgs) -> Mapping[str, Victims]:
        return {node: each for node, each in asked.victims.items() if each.uids}


def explain(namespace: str, pod: str, node: str | None) -> object | None:
    return {"pod": f"{namespace}/{pod}"} if pod == "pod" else None


class Served:
    """A running extender and a client of it."""

    def __init__(self, port: int, client: aiohttp.ClientSession, metrics: Metrics) -> None:
        self.port, self.client, self.metrics = port, client, metrics

    async def ask(self, verb: str, body: object) -> tuple[int, Any]:
        """POST a body, bytes as they are; returns status and decoded answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post(f"http://127.0.0.1:{self.port}/{verb}", data=data) as response:
            return response.status, json.loads(await response.read())

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(f"http://127.0.0.1:{self.port}{path}") as response:
            return response.status, await response.text()


@asynccontextmanager
async def serving(verbs: Verbs | None = None, waits_for: Sequence[str] = ()) -> AsyncIterator[Served]:
    """Serve until the block ends."""
    metrics = Metrics()
    probes = Probes(waits_for=lambda: waits_for, settings={"mode": "allocate"}, explain=explain)
    runner = web.ServerRunner(LimitedServer(Extender(verbs or FirstNode(), probes, metrics).handle))
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            yield Served(port, client, metrics)
    finally:
        await runner.cleanup()
