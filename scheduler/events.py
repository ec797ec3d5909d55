"""Events about pods, as `kubectl get events` shows them: what the scheduler did to a pod, why, and what helps.

What is told again within a while raises the count of its event instead of making another, and no pod gets more than so
many in a while: who tells need not care. An event that cannot be written is logged, and stops nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kube.client import ApiClient
from kube.errors import ClusterError, NotFoundError
from kube.kinds import EVENTS
from kube.objects import Pod

log = logging.getLogger(__name__)

REPORTER = "dovetail-scheduler"
MAX_TEXT = 1024
"""Bytes of a note that the API server takes."""
MAX_NAME = 253
KNOWN_PODS = 4096
"""Pods whose events are remembered; those told about longest ago are forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """How often what is said. Times in seconds."""

    repeat_s: float = 60.0
    """What was told less long ago is not told again."""
    same_s: float = 600.0
    """Told again later than that, it is another event."""
    per_pod: int = 10
    """Different events of a pod within `same_s`."""


@dataclass(slots=True)
class _Told:
    name: str
    count: int
    last_s: float


class Events:
    """Writes events, and remembers what it wrote."""

    def __init__(
        self,
        client: ApiClient,
        *,
        clock: Callable[[], float],
        instance: str,
        limits: EventLimits = EventLimits(),
    ) -> None:
        """`clock` counts seconds; `instance` names this replica."""
        self._client = client
        self._clock = clock
        self._instance = instance
        self._limits = limits
        self._told: OrderedDict[str, dict[tuple[str, str], _Told]] = OrderedDict()

    async def warn(self, pod: Pod, reason: str, text: str, *, timeout_s: float) -> None:
        """Tell of a pod in an event of type Warning."""
        now = self._clock()
        told = self._of(pod.metadata.uid, now)
        known = told.get((reason, text))
        if known is not None and now - known.last_s < self._limits.repeat_s:
            return
        if known is None and len(told) >= self._limits.per_pod:
            log.info("event left out pod=%s/%s reason=%s: %s", pod.metadata.namespace, pod.metadata.name, reason, text)
            return
        if known is None:
            known = told[reason, text] = _Told(_name(pod), 0, now)
        known.count += 1
        known.last_s = now
        try:
            async with asyncio.timeout(timeout_s):
                await self._write(pod, reason, text, known)
        except (ClusterError, TimeoutError) as error:
            name = pod.metadata.full_name
            log.warning("event not written pod=%s reason=%s: %s", name, reason, str(error) or "no answer in time")

    def _of(self, uid: str, now: float) -> dict[tuple[str, str], _Told]:
        """Return what was told of a pod and is not too long ago."""
        told = self._told.pop(uid, {})
        self._told[uid] = {what: each for what, each in told.items() if now - each.last_s < self._limits.same_s}
        while len(self._told) > KNOWN_PODS:
            self._told.popitem(last=False)
        return self._told[uid]

    async def _write(self, pod: Pod, reason: str, text: str, told: _Told) -> None:
        if told.count > 1:
            change = {"count": told.count, "lastTimestamp": _now()}
            try:
                await self._client.patch(EVENTS, pod.metadata.namespace, told.name, change)
            except NotFoundError:
                told.name = _name(pod)  # the API server forgets events in time
            else:
                return
        await self._client.create(EVENTS, self._manifest(pod, reason, text, told))

    def _manifest(self, pod: Pod, reason: str, text: str, told: _Told) -> dict[str, Any]:
        at, now = pod.metadata, _now()
        about = {"apiVersion": "v1", "kind": "Pod", "namespace": at.namespace, "name": at.name, "uid": at.uid}
        return {
            "metadata": {"namespace": at.namespace, "name": told.name},
            "involvedObject": {**about, "resourceVersion": at.resource_version},
            "type": "Warning",
            "reason": reason,
            "message": _cut(text, MAX_TEXT),
            "count": told.count,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": REPORTER},
            "reportingComponent": REPORTER,
            "reportingInstance": self._instance,
        }


def _name(pod: Pod) -> str:
    suffix = f".{secrets.token_hex(8)}"
    return pod.metadata.name[: MAX_NAME - len(suffix)].rstrip(".-") + suffix


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cut(text: str, most: int) -> str:
    """Return as much of a text as the API takes, whole characters only."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    return encoded[: most - 3].decode(errors="ignore") + "..."
