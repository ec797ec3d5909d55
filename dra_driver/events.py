"""What people read with `kubectl describe node` and `kubectl describe resourceclaim`: what went wrong, and what helps.

Who tells never waits: events are written one after another by `run`. What cannot be written is logged.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dra_driver.changes import change, changes
from dra_driver.errors import DeviceError
from dra_driver.health.board import HealthBoard
from dra_driver.metrics import Metrics
from dra_driver.prepare.model import ClaimRef
from dra_driver.prepare.sentinel import Found
from dra_driver.publish.features import Features
from dra_driver.publish.names import DRIVER_NAME
from kube.client import ApiClient
from kube.events import NORMAL, WARNING, About, EventLimits, Events
from kube.kinds import CLAIMS, NODES

log = logging.getLogger(__name__)

MOST_WAITING = 256
WRITE_S = 5.0
LIMITS = EventLimits(repeat_s=300, same_s=1800, per_object=20)
"""The kubelet asks for a refused claim every 15 s, and the sentinel looks every 30 s."""


@dataclass(frozen=True, slots=True)
class _Told:
    about: About
    type: str
    reason: str
    text: str


class DriverEvents:
    """Events of one node's driver. All but `run` are called in the event loop, or from any thread once it runs."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        limits: EventLimits = LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` counts seconds."""
        self._events = Events(client, reporter=DRIVER_NAME, clock=clock, instance=socket.gethostname(), limits=limits)
        # As kubelets do: `kubectl describe node` looks for events with the name in place of the UID.
        self._node = About(api_version=NODES.api_version, kind=NODES.name, name=node, uid=node)
        self._waiting: asyncio.Queue[_Told] = asyncio.Queue(MOST_WAITING)

    def of_node(self, reason: str, text: str, type_: str = WARNING) -> None:
        """Tell of the node."""
        self._tell(_Told(self._node, type_, reason, text))

    def of_claim(self, claim: ClaimRef, reason: str, text: str) -> None:
        """Tell of a claim."""
        about = About(
            api_version=CLAIMS.api_version,
            kind=CLAIMS.name,
            namespace=claim.namespace,
            name=claim.name,
            uid=claim.uid,
        )
        self._tell(_Told(about, WARNING, reason, text))

    async def run(self) -> None:
        """Write what is told until cancelled."""
        while True:
            told = await self._waiting.get()
            await self._events.tell(told.about, told.reason, told.text, type_=told.type, timeout_s=WRITE_S)

    def _tell(self, told: _Told) -> None:
        try:
            self._waiting.put_nowait(told)
        except asyncio.QueueFull:
            log.warning("event left out about=%s reason=%s: %s", told.about, told.reason, told.text)


@dataclass(frozen=True, slots=True)
class ClaimReports:
    """Implements `plugin.ports.Reporter`."""

    events: DriverEvents
    metrics: Metrics

    def refused(self, claim: ClaimRef, fault: DeviceError) -> None:
        """Tell that a claim was not prepared, or not unprepared."""
        self.metrics.refused(fault)
        self.events.of_claim(claim, "DevicesRefused", str(fault))

    def answered(self, method: str, seconds: float, *, claims: int, refused: int) -> None:
        """Count a call of the kubelet."""
        self.metrics.answered(method, seconds, claims=claims, refused=refused)


@dataclass(frozen=True, slots=True)
class SliceReports:
    """Implements `slices.controller.Told`."""

    events: DriverEvents
    metrics: Metrics

    def wrote(self, verb: str, code: int) -> None:
        """Count a write."""
        self.metrics.wrote(verb, code)

    def published(self, slices: int, devices: int, generation: int) -> None:
        """Count what is stored."""
        self.metrics.published(slices, devices, generation)

    def degraded(self, features: Features, text: str) -> None:
        """Tell what the API server stores."""
        self.metrics.features(features)
        if text:
            self.events.of_node("DevicesReduced", text)

    def refused(self, text: str) -> None:
        """Tell that the API server does not take the slices."""
        self.events.of_node("DevicesNotPublished", text)


class HealthReports:
    """Tells of GPUs that fall ill, and of those that are well again."""

    def __init__(self, events: DriverEvents, board: HealthBoard, *, refresh_s: float = 5.0) -> None:
        """Keep who is told and what is looked at, also every `refresh_s`: silence comes with time alone."""
        self._events, self._board, self._refresh_s = events, board, refresh_s
        self._wrong: dict[str, str] = {}

    async def run(self) -> None:
        """Follow the board until cancelled."""
        with changes(self._board) as changed:
            while True:
                changed.clear()
                self.look()
                await change(changed, self._refresh_s)

    def look(self) -> None:
        """Tell what is new on the board."""
        wrong = self._board.wrong()
        for gpu, text in wrong.items():
            if self._wrong.get(gpu) != text:
                log.warning("gpu unhealthy uuid=%s: %s", gpu, text)
                self._events.of_node("GPUUnhealthy", f"{gpu}: {text}")
        for gpu in self._wrong.keys() - wrong.keys():
            log.info("gpu well again uuid=%s", gpu)
            self._events.of_node("GPUHealthy", f"{gpu} is well again", NORMAL)
        self._wrong = dict(wrong)


@dataclass(frozen=True, slots=True)
class FindingReports:
    """Who `tending.Tending` tells; what it found before is no news, the limits of events see to that."""

    events: DriverEvents
    metrics: Metrics

    def __call__(self, found: Sequence[Found]) -> None:
        """Tell what a check found."""
        self.metrics.found(found)
        for each in found:
            self.events.of_node("DevicesInconsistent", each.text)
