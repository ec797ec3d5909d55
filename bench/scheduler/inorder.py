"""Pods released one by one: the next only when it is known what became of the last, so that decisions have an order.

Pods are created with their claims behind a scheduling gate; to release one is to take its gate away. A pod that is told
Unschedulable is deleted at once and counts as failed.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.load.client import LoadClient, LoadError
from sandbox.load.run import OPEN_GATE
from sandbox.load.workload import GATE, LABEL
from sandbox.objects import Manifest

PASSING = ("does not exist", "is not made yet")
"""Of words to pods whose claim the scheduler has not seen yet: it tries again as soon as it has."""
UNSCHEDULABLE, GATED = "Unschedulable", "SchedulingGated"
TIMEOUT_S = 60.0
_NUMBER = re.compile(r"\d+")


@dataclass(slots=True)
class InOrder:
    """One queue of pods, in one namespace."""

    client: LoadClient
    namespace: str
    label: str
    nodes: dict[str, str] = field(default_factory=dict)
    """Pod -> node, of those bound."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Last words to pods that failed, without their numbers."""
    troubles: Counter[str] = field(default_factory=Counter)
    """Words of attempts that ended in an error and were made again."""
    _decided: dict[str, asyncio.Future[str]] = field(default_factory=dict)
    _gone: dict[tuple[str, str], asyncio.Future[None]] = field(default_factory=dict)

    async def offer(self, pod: Manifest, claim: Manifest | None) -> None:
        """Create a pod and its claim; it is not scheduled yet."""
        if claim is not None:
            await self.client.create(self._labelled(claim))
        pod["spec"]["schedulingGates"] = [{"name": GATE}]
        await self.client.create(self._labelled(pod))

    async def release(self, name: str) -> str:
        """Let a pod be scheduled and return its node; empty where it failed and is deleted."""
        decided: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._decided[name] = decided
        await self.client.patch("Pod", self.namespace, name, OPEN_GATE)
        async with asyncio.timeout(TIMEOUT_S):
            node = await decided
        if not node:
            await self.client.delete("Pod", self.namespace, name)
        return node

    async def withdraw(self, name: str) -> None:
        """Delete a pod and its claim, and wait until both are gone and with them what they held."""
        await self._delete("Pod", name)
        await self._delete("ResourceClaim", name)

    async def _delete(self, kind: str, name: str) -> None:
        gone = self._gone[kind, name] = asyncio.get_running_loop().create_future()
        await self.client.delete(kind, self.namespace, name)
        async with asyncio.timeout(TIMEOUT_S):
            await gone

    def take_pod(self, event: Manifest) -> None:
        """Take an event of the watch on pods."""
        pod = event["object"]
        name, status = pod["metadata"]["name"], pod.get("status", {})
        if event["type"] == "DELETED":
            self._take_gone("Pod", name)
            return
        node = pod["spec"].get("nodeName", "")
        if node:
            self.nodes[name] = node
            self._decide(name, node)
        for each in status.get("conditions", ()):
            if each["type"] == "PodScheduled" and each["status"] == "False" and not node:
                self._take_refusal(name, each)

    def take_claim(self, event: Manifest) -> None:
        """Take an event of the watch on claims."""
        if event["type"] == "DELETED":
            self._take_gone("ResourceClaim", event["object"]["metadata"]["name"])

    def _take_refusal(self, name: str, condition: Manifest) -> None:
        text = _NUMBER.sub("#", condition.get("message", ""))
        passes = condition["reason"] != UNSCHEDULABLE or any(words in text for words in PASSING)
        if condition["reason"] == GATED or name not in self._decided:
            return
        if passes:
            self.troubles[f"{condition['reason']}: {text}"] += 1
        else:
            self.refusals[text] += 1
            self._decide(name, "")

    def _decide(self, name: str, node: str) -> None:
        decided = self._decided.pop(name, None)
        if decided is not None and not decided.done():
            decided.set_result(node)

    def _take_gone(self, kind: str, name: str) -> None:
        gone = self._gone.pop((kind, name), None)
        if gone is not None and not gone.done():
            gone.set_result(None)

    def _labelled(self, manifest: Manifest) -> Manifest:
        manifest["metadata"]["labels"] = {LABEL: self.label}
        return manifest


@asynccontextmanager
async def in_order(kubeconfig: Path, namespace: str, label: str) -> AsyncIterator[InOrder]:
    """Yield a queue that sees all its pods and claims. Raises LoadError when a watch fails."""
    async with LoadClient(kubeconfig) as client:
        queue = InOrder(client, namespace, label)
        async with asyncio.TaskGroup() as group:
            watches = [
                group.create_task(_follow(queue, "Pod", queue.take_pod)),
                group.create_task(_follow(queue, "ResourceClaim", queue.take_claim)),
            ]
            yield queue
            for each in watches:
                each.cancel()


async def _follow(queue: InOrder, kind: str, take: Callable[[Manifest], None]) -> None:
    selected = f"labelSelector={LABEL}%3D{queue.label}&allowWatchBookmarks=true"
    version = (await queue.client.list(kind, queue.namespace))["metadata"]["resourceVersion"]
    while True:  # a busy API server ends watches; the next one goes on where this one stopped
        query = f"{selected}&resourceVersion={version}"
        async for event in queue.client.watch(kind, queue.namespace, query, whole=kind == "Pod"):
            if event["type"] == "ERROR":
                raise LoadError(f"the watch on {kind}: {event['object'].get('message')}")
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                take(event)


async def ahead(create: Callable[[int], Awaitable[None]], count: int, room: int) -> AsyncIterator[int]:
    """Yield 0 to `count` - 1 in order, each once `create` is done with it; at most `room` are created ahead."""
    made = [asyncio.create_task(_made(create, number)) for number in range(min(room, count))]
    try:
        for number in range(count):
            await made[number]
            if len(made) < count:
                made.append(asyncio.create_task(_made(create, len(made))))
            yield number
    finally:
        for each in made:
            each.cancel()


async def _made(create: Callable[[int], Awaitable[None]], number: int) -> None:
    await create(number)
