"""When pods are bound: the arrival of each pod in a watch on the pods that have a node.

The API's own times cannot tell: the condition PodScheduled, managedFields and creationTimestamp have a resolution of
1 s. A watch selected by `spec.nodeName!=` delivers exactly one ADDED event per pod, at the write of its binding,
whichever scheduler wrote it; it asks for metadata only, so that reading it costs little. The arrival is stamped on
this machine, with the same clock for both ends of every interval.

So that a late watch cannot pass for a slow scheduler, arrivals are held against the API's times afterwards
(`lateness_s`).
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
            raise LoadError("the watch on bound pods ended")
        raise LoadError(f"{len(self.bound_s)} of {self._workload.pods} pods are bound after {timeout_s:g} s")

    async def _run(self, version: str) -> None:
        load = self._workload
        query = f"fieldSelector=spec.nodeName!%3D&labelSelector={load.selector}&resourceVersion={version}"
        async for event in self._client.watch("Pod", load.namespace, query):
            now_s = time.time()
            if event["type"] == "ERROR":
                raise LoadError(f"the watch on bound pods: {event['object'].get('message')}")
            name = event["object"]["metadata"]["name"]
            if event["type"] != "ADDED" or name in self.bound_s:
                continue
            self.bound_s[name] = now_s
            if name in self._waiting:
                self._waiting.pop(name).set_result(now_s)
            if len(self.bound_s) >= load.pods:
                self._all.set()


def lateness_s(bound_s: dict[str, float], pods: list[Manifest]) -> float:
    """Return by how many seconds at least an arrival came after what the API says of its pod; 0 if by none.

    An arrival is good when it lies within the second of the pod's PodScheduled condition. It may come some milliseconds
    after that second; a tenth of a second or more says that the watch, or this machine, was late.
    """
    late_s = 0.0
    for pod in pods:
        (scheduled,) = [each for each in pod["status"]["conditions"] if each["type"] == "PodScheduled"]
        begins_s = datetime.fromisoformat(scheduled["lastTransitionTime"]).timestamp()
        late_s = max(late_s, bound_s[pod["metadata"]["name"]] - begins_s - API_RESOLUTION_S)
    return late_s
