"""Events about objects, as `kubectl get events` shows them: what was done to an object, why, and what helps.

What is told again within a while raises the count of its event instead of making another, and no object gets more than
so many in a while: who tells need not care. An event that cannot be written is logged, and stops nothing.
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
from kube.kinds import EVENTS, Kind
from kube.objects_base import Metadata
from kube.objects_pods import PodMetadata

log = logging.getLogger(__name__)

WARNING = "Warning"
NORMAL = "Normal"
MAX_TEXT = 1024
"""Bytes of a note that the API server takes."""
MAX_NAME = 253
KNOWN = 4096
"""Objects whose events are remembered; those told about longest ago are forgotten first."""
CLUSTER_NAMESPACE = "default"
"""Where events are about objects that have no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLimits:
    """How often what is said. Times in seconds."""

    repeat_s: float = 60.0
    """What was told less long ago is not told again."""
    same_s: float = 600.0
    """Told again later than that, it is another event."""
    per_object: int = 10
    """Different events of an object within `same_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str
    uid: str
    resource_version: str = ""

    @classmethod
    def of(cls, kind: Kind[Any], metadata: Metadata | PodMetadata) -> About:
        """Return what names an object of a kind."""
        return cls(
            api_version=kind.api_version,
            kind=kind.name,
            namespace=metadata.namespace,
            name=metadata.name,
            uid=metadata.uid,
            resource_version=metadata.resource_version,
        )

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def manifest(self) -> dict[str, Any]:
        """As a v1 ObjectReference."""
        named = {"apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid}
        more = {"namespace": self.namespace, "resourceVersion": self.resource_version}
        return named | {key: value for key, value in more.items() if value}


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
        reporter: str,
        clock: Callable[[], float],
        instance: str,
        limits: EventLimits = EventLimits(),
    ) -> None:
        """`clock` counts seconds; `reporter` names the program, `instance` this replica of it."""
        self._client = client
        self._reporter, self._instance = reporter, instance
        self._clock = clock
        self._limits = limits
        self._told: OrderedDict[str, dict[tuple[str, str], _Told]] = OrderedDict()

    async def warn(self, about: About, reason: str, text: str, *, timeout_s: float) -> None:
        """Tell of an object in an event of type Warning."""
        await self.tell(about, reason, text, type_=WARNING, timeout_s=timeout_s)

    async def tell(self, about: About, reason: str, text: str, *, type_: str = NORMAL, timeout_s: float) -> None:
        """Tell of an object. `reason` is one word in CamelCase."""
        now = self._clock()
        told = self._of(about.uid, now)
        known = told.get((reason, text))
        if known is not None and now - known.last_s < self._limits.repeat_s:
            return
        kind = about.kind.lower()
        if known is None and len(told) >= self._limits.per_object:
            log.info("event left out %s=%s reason=%s: %s", kind, about, reason, text)
            return
        if known is None:
            known = told[reason, text] = _Told(_name(about), 0, now)
        known.count += 1
        known.last_s = now
        try:
            async with asyncio.timeout(timeout_s):
                await self._write(about, type_, reason, text, known)
        except (ClusterError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.warning("event not written %s=%s reason=%s: %s", kind, about, reason, why)

    def _of(self, uid: str, now: float) -> dict[tuple[str, str], _Told]:
        """Return what was told of an object and is not too long ago."""
        told = self._told.pop(uid, {})
        self._told[uid] = {what: each for what, each in told.items() if now - each.last_s < self._limits.same_s}
        while len(self._told) > KNOWN:
            self._told.popitem(last=False)
        return self._told[uid]

    async def _write(self, about: About, type_: str, reason: str, text: str, told: _Told) -> None:
        if told.count > 1:
            change = {"count": told.count, "lastTimestamp": _now()}
            try:
                await self._client.patch(EVENTS, _namespace(about), told.name, change)
            except NotFoundError:
                told.name = _name(about)  # the API server forgets events in time
            else:
                return
        await self._client.create(EVENTS, self._manifest(about, type_, reason, text, told))

    def _manifest(self, about: About, type_: str, reason: str, text: str, told: _Told) -> dict[str, Any]:
        now = _now()
        return {
            "metadata": {"namespace": _namespace(about), "name": told.name},
            "involvedObject": about.manifest(),
            "type": type_,
            "reason": reason,
            "message": _cut(text, MAX_TEXT),
            "count": told.count,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._reporter},
            "reportingComponent": self._reporter,
            "reportingInstance": self._instance,
        }


def _namespace(about: About) -> str:
    return about.namespace or CLUSTER_NAMESPACE


def _name(about: About) -> str:
    suffix = f".{secrets.token_hex(8)}"
    return about.name[: MAX_NAME - len(suffix)].rstrip(".-") + suffix


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _cut(text: str, most: int) -> str:
    """Return as much of a text as the API takes, whole characters only."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    return encoded[: most - 3].decode(errors="ignore") + "..."
