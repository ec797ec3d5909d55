"""When pods are bound: the arrival of each pod in a watch on the pods that have a node.

The API's own times cannot tell: the condition PodScheduled, managedFields and creationTimestamp have a resolution of
1 s. A watch selected by `spec.nodeName!=` delivers exactly one ADDED event per pod, at the write of its binding,
whichever scheduler wrote it; it asks for metadata only, so that reading it costs little. The arrival is stamped on
this machine, with the same clock for both ends of every interval.

A busy API server delivers watch events seconds late, or ends the watch. So that this cannot pass for a slow scheduler,
arrivals are held against the API's times afterwards (`corrected`): a binding is known to some milliseconds while the
watch keeps up, and to 1 s at worst.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from types import TracebackType
from typing import Self

from sandbox.load.client import LoadClient, LoadError
from sandbox.load.workload import Workload
from sandbox.objects import Manifest

API_RESOLUTION_S = 1.0


class BoundWatch:
    """Sees the pods of a load being bound, from the beginning of the block on."""

    def __init__(self, client: LoadClient, workload: Workload) -> None:
        self.bound_s: dict[str, float] = {}
        """Pod name -> arrival, in seconds of the Unix clock."""
        self.breaks = 0
        """How often the API server ended the watch; the next one made up for what was missed, a little later."""
        self._client = client
        self._workload = workload
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._all = asyncio.Event()

    async def __aenter__(self) -> Self:
        before = await self._client.list("Pod", self._workload.namespace, self._workload.selector)
        self._task = asyncio.create_task(self._run(before["metadata"]["resourceVersion"]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def one(self, pod: str, timeout_s: float) -> float:
        """Wait until a pod is bound; returns when. Raises LoadError when the time is up."""
        if pod not in self.bound_s:
            self._waiting[pod] = asyncio.get_running_loop().create_future()
            await self._reached(self._waiting[pod], timeout_s)
        return self.bound_s[pod]

    async def all(self, timeout_s: float) -> None:
        """Wait until all pods of the load are bound. Raises LoadError when the time is up."""
        await self._reached(asyncio.ensure_future(self._all.wait()), timeout_s)

    async def _reached(self, goal: asyncio.Future[float] | asyncio.Task[bool], timeout_s: float) -> None:
        done, _ = await asyncio.wait({goal, self._task}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if goal in done:
            return
        goal.cancel()
        if self._task in done:
            await self._task  # raises
        raise LoadError(f"{len(self.bound_s)} of {self._workload.pods} pods are bound after {timeout_s:g} s")

    async def _run(self, version: str) -> None:
        selected = f"fieldSelector=spec.nodeName!%3D&labelSelector={self._workload.selector}&allowWatchBookmarks=true"
        while True:  # a busy API server ends watches; the next one goes on where this one stopped
            query = f"{selected}&resourceVersion={version}"
            async for event in self._client.watch("Pod", self._workload.namespace, query):
                self._take(event, time.time())
                version = event["object"]["metadata"]["resourceVersion"]
            self.breaks += 1

    def _take(self, event: Manifest, now_s: float) -> None:
        if event["type"] == "ERROR":
            raise LoadError(f"the watch on bound pods: {event['object'].get('message')}")
        name = event["object"]["metadata"].get("name", "")
        if event["type"] != "ADDED" or name in self.bound_s:
            return
        self.bound_s[name] = now_s
        if name in self._waiting:
            self._waiting.pop(name).set_result(now_s)
        if len(self.bound_s) >= self._workload.pods:
            self._all.set()


def corrected(bound_s: dict[str, float], pods: list[Manifest]) -> tuple[dict[str, float], float]:
    """Move arrivals that came too late to the end of the second in which the API says that the pod was bound.

    Returns the times, and by how many seconds the latest arrival was moved: 0 says that the watch kept up.
    """
    times_s, lateness_s = dict(bound_s), 0.0
    for pod in pods:
        name = pod["metadata"]["name"]
        (scheduled,) = [each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled"]
        ends_s = datetime.fromisoformat(scheduled["lastTransitionTime"]).timestamp() + API_RESOLUTION_S
        lateness_s = max(lateness_s, bound_s[name] - ends_s)
        times_s[name] = min(bound_s[name], ends_s)
    return times_s, lateness_s
