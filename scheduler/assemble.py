"""Puts the parts of the scheduler together: state of the cluster, decisions, writes, and the tasks beside them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kube.client import ApiClient
from kube.cluster import Cluster, ClusterSettings
from kube.encode import encode_allocation, whereabouts_in
from kube.errors import ClusterError
from kube.objects import ResourceClaim
from packing.mix import DemandMix
from packing.model import NodeName
from packing.warm import compile_kernels
from scheduler.bell import ClaimBell
from scheduler.bind import Binder
from scheduler.capacity import measure
from scheduler.claimwriter import ClaimWriter
from scheduler.decider import Decider, DecideSettings
from scheduler.decisionlog import LoggedCluster
from scheduler.explaining import explain_pod, pod_named
from scheduler.faults import BindFault
from scheduler.feed import Feed
from scheduler.findings import Sight
from scheduler.janitor import Janitor
from scheduler.leadership import Leadership, LeaseSettings
from scheduler.ledger import Ledger
from scheduler.metrics import Capacity
from scheduler.portions import Portion
from scheduler.reservations import PodUid, Reservations
from scheduler.scoresystem import ScoreSystem
from scheduler.settings import Mode, Settings
from scheduler.settle import Settler
from scheduler.special import SpecialClaims
from scheduler.wakeup import Wakeup, WakeupSettings
from scheduler.writes import ApiWrites, LeaseOf
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often what was promised and never fetched is given up, and what is unknown is looked after."""


def assemble(settings: Settings, mix: DemandMix | None, client: ApiClient) -> System | ScoreSystem:
    """Return the scheduler of the mode that is set. Raises InvalidInputError for a log that cannot be written."""
    if settings.mode is Mode.SCORE:
        return ScoreSystem(settings, mix, client)
    return System(settings, mix, client)


class Alone:
    """The leadership of a scheduler without replicas: its own for ever, once it has looked after what was left."""

    def __init__(self, take_over: Callable[[], Awaitable[None]]) -> None:
        self._take_over = take_over
        self._open = self._leads = False

    def left(self) -> float:
        """Return for how many seconds claims may be written."""
        return math.inf if self._open else 0.0

    def leads(self) -> bool:
        """Whether decisions may be made."""
        return self._leads

    def term(self) -> int:
        """Return the term of leadership: there is one."""
        return 1

    async def close(self) -> None:
        """Write no more."""
        self._open = self._leads = False

    async def follow(self) -> None:
        """Take over, however often that fails, then wait for ever."""
        self._open = True
        while not self._leads:
            try:
                await self._take_over()
                self._leads = True
            except (ClusterError, BindFault) as error:
                log.warning("not taken over: %s", error)
                await asyncio.sleep(TICK_S)
        log.info("leading")
        await asyncio.Event().wait()


class System:
    """The scheduler but for its HTTP server and its watches."""

    def __init__(self, settings: Settings, mix: DemandMix | None, client: ApiClient) -> None:
        """Start with nothing known of the cluster. Raises InvalidInputError for a log that cannot be written."""
        self.cluster = _cluster(settings, mix)
        self.ledger = Ledger(self.cluster, Reservations())
        self.feed = Feed(self.cluster, self.ledger.view)
        deciding = DecideSettings(place_all=settings.place_all, slack=settings.slack or 0.0)
        self.decider = Decider(self.cluster, self.ledger, leads=self.leads, clock=time.monotonic, settings=deciding)
        writes = ApiWrites(client)
        claims = ClaimWriter(self.ledger, writes, self._encode, self._labels)
        self.binder = Binder(
            self.ledger,
            writes,
            claims,
            special=SpecialClaims(self.ledger, writes),
            promises=self.decider,
            fence=self,
            clock=time.monotonic,
        )
        self.decider.binder = self.binder
        self.settler = Settler(self.binder)
        self.leadership = self._leadership(settings, client)
        self.janitor = Janitor(self.binder, lambda: self._sight(settings), self.leads)
        ring = WakeupSettings(namespace=settings.lease.namespace if settings.lease else "default")
        self.wakeup = Wakeup(
            ClaimBell(client, ring.namespace, ring.name),
            ring,
            waits=lambda: bool(self.decider.waiting) and self.leads(),
            token=lambda: str(uuid.uuid4()),
        )
        self.ledger.on_freed = self.feed.on_inventory = self.wakeup.ask
        self.ledger.on_claim = self._came

    def leads(self) -> bool:
        """Whether decisions may be made here."""
        return self.leadership.leads()

    def left(self) -> float:
        """Return for how many seconds claims may be written: the fence of the binder."""
        return self.leadership.left()

    def term(self) -> int:
        """Return the term of leadership."""
        return self.leadership.term()

    def compile(self) -> None:
        """Compile what decides; for a thread, it takes seconds where nothing is cached."""
        compile_kernels()

    async def prepare(self) -> None:
        """Do once what the first request would wait for: the cluster is known."""
        self.capacity()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what runs beside the requests, by name."""
        yield "leadership", self.leadership.follow()
        yield "settling", _repeat(self.settler.all)
        yield "repairs", _repeat(self.janitor.step)
        yield "promises", self._expire()
        yield "wake-ups", self.wakeup.run()

    async def drain(self) -> None:
        """Finish what is being written; begin nothing."""
        await self.binder.drain()
        await self.leadership.close()
        if isinstance(self.cluster, LoggedCluster):
            self.cluster.close()

    def explain(self, namespace: str, name: str, node: str | None = None) -> object | None:
        """Return all there is to say of a pod; with `node`, of that one device by device."""
        pod = pod_named(self.ledger.view.pods.values(), namespace, name)
        if pod is None:
            return None
        reservation = self.ledger.reservations.pods.get(PodUid(pod.metadata.uid))
        return explain_pod(self.cluster, pod, [] if reservation is None else list(reservation.nodes), node)

    def capacity(self) -> Capacity:
        """Return the figures of what is free."""
        packed = self.cluster.packed()
        return measure(packed.ledger.usage, packed.policy)

    def reservations(self) -> Mapping[str, int]:
        """Return the pods with a reservation by its phase, and the writes under way."""
        known = self.ledger.reservations
        return {**Counter(each.phase.value for each in known.pods.values()), "writing": len(known.writes)}

    def _leadership(self, settings: Settings, client: ApiClient) -> Leadership | Alone:
        if settings.lease is None:
            return Alone(self.settler.take_over)
        return Leadership(
            LeaseSettings(identity=settings.identity),
            LeaseOf(client, settings.lease),
            time.monotonic,
            self.settler.take_over,
            lambda: self.ledger.apply(self.ledger.reservations.retire()),
        )

    def _sight(self, settings: Settings) -> Sight:
        return Sight(
            view=self.ledger.view,
            reservations=self.ledger.reservations,
            suspects=self.ledger.suspects,
            nodes=self.cluster.nodes(),
            drivers=self.cluster.drivers,
            scheduler=settings.scheduler_name,
        )

    async def _expire(self) -> None:
        """Give up what was never fetched, however long the API server takes for what else there is to do."""
        while True:
            self.decider.tick()
            await asyncio.sleep(TICK_S)

    def _came(self, claim: ResourceClaim) -> None:
        """Have the pods tried again that were rejected because the watch was late."""
        if self.decider.came(claim):
            self.wakeup.ask()

    def _encode(self, portion: Portion) -> Mapping[str, Any]:
        """Return the status.allocation of a claim."""
        (given,) = portion.allocation.claims
        return encode_allocation(
            portion.wanted,
            given,
            portion.allocation.node,
            partial(whereabouts_in, self.cluster.pool_book),
            new_share_id=lambda: str(uuid.uuid4()),
            now=datetime.now(UTC),
        )

    def _labels(self, node: NodeName) -> Mapping[str, str] | None:
        """Return the labels of a node; None where it is gone."""
        found = self.cluster.store.nodes.get("", node)
        return None if found is None else found.metadata.labels


async def _repeat(step: Callable[[], Awaitable[None]]) -> None:
    """Look again and again after what the API server may refuse."""
    while True:
        try:
            await step()
        except (ClusterError, BindFault) as error:
            log.warning("to be settled later error=%r", str(error))
        await asyncio.sleep(TICK_S)


def _cluster(settings: Settings, mix: DemandMix | None) -> Cluster:
    chosen = ClusterSettings(
        drivers=settings.drivers,
        ignored_taints=settings.ignored_taints,
        policy=settings.policy,
        mix=mix,
        place_all=settings.place_all,
    )
    if settings.decision_log is None:
        return Cluster(chosen)
    try:
        return LoggedCluster(chosen, settings.decision_log, max_mib=settings.decision_log_max_mib)
    except OSError as error:
        raise InvalidInputError("scheduler settings", "--decision-log", str(error)) from error
