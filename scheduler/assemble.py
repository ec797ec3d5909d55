"""Puts the parts of the scheduler together: state of the cluster, decisions, writes, and the tasks beside them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from kube.client import ApiClient
from kube.cluster import Cluster, ClusterSettings
from kube.encode import Whereabouts, encode_allocation
from kube.errors import ClusterError
from kube.objects import Pod
from packing.dra.model import DeviceId
from packing.mix import DemandMix
from packing.model import NodeName
from packing.warm import compile_kernels
from scheduler.bind import Binder
from scheduler.capacity import measure
from scheduler.claimwriter import ClaimWriter
from scheduler.decider import Decider, DecideSettings
from scheduler.decisionlog import LoggedCluster
from scheduler.faults import BindFault
from scheduler.feed import Feed
from scheduler.ledger import Ledger
from scheduler.metrics import Capacity
from scheduler.portions import Portion
from scheduler.reservations import PodUid, Reservations
from scheduler.settings import Settings
from scheduler.settle import Settler
from scheduler.special import SpecialClaims
from scheduler.writes import ApiWrites
from topology.errors import InvalidInputError

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often what was promised and never fetched is given up, and what is unknown is looked after."""


class Alone:
    """The fence of a scheduler without replicas: it may always write."""

    def left(self) -> float:
        """Return for how many seconds."""
        return math.inf


class System:
    """The scheduler but for its HTTP server and its watches."""

    def __init__(self, settings: Settings, mix: DemandMix | None, client: ApiClient) -> None:
        """Start with nothing known of the cluster. Raises InvalidInputError for a log that cannot be written."""
        self.cluster = _cluster(settings, mix)
        self.ledger = Ledger(self.cluster, Reservations())
        self.feed = Feed(self.cluster, self.ledger.view)
        self._leads = False
        deciding = DecideSettings(place_all=settings.place_all, slack=settings.slack or 0.0)
        self.decider = Decider(
            self.cluster, self.ledger, leads=lambda: self._leads, clock=time.monotonic, settings=deciding
        )
        writes = ApiWrites(client)
        claims = ClaimWriter(self.ledger, writes, self._encode, self._labels)
        self.binder = Binder(
            self.ledger,
            writes,
            claims,
            special=SpecialClaims(self.ledger, writes),
            promises=self.decider,
            fence=Alone(),
            clock=time.monotonic,
        )
        self.decider.binder = self.binder
        self.settler = Settler(self.binder)

    def compile(self) -> None:
        """Compile what decides; for a thread, it takes seconds where nothing is cached."""
        compile_kernels()

    def prepare(self) -> None:
        """Do once what the first request would wait for: the cluster is known."""
        self.capacity()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what runs beside the requests, by name."""
        yield "settling", self._settle()

    async def drain(self) -> None:
        """Finish what is being written; begin nothing."""
        await self.binder.drain()
        if isinstance(self.cluster, LoggedCluster):
            self.cluster.close()

    def explain(self, namespace: str, name: str) -> object | None:
        """Return what the watch knows of a pod."""
        pod = next((each for each in self.ledger.view.pods.values() if _is_named(each, namespace, name)), None)
        if pod is None:
            return None
        reservation = self.ledger.reservations.pods.get(PodUid(pod.metadata.uid))
        promised = [] if reservation is None else sorted(reservation.nodes)
        return {"pod": f"{namespace}/{name}", "node": pod.spec.node_name or None, "promised": promised}

    def capacity(self) -> Capacity:
        """Return the figures of what is free."""
        packed = self.cluster.packed()
        return measure(packed.ledger.usage, packed.policy)

    def reservations(self) -> Mapping[str, int]:
        """Return the pods with a reservation by its phase, and the writes under way."""
        known = self.ledger.reservations
        return {**Counter(each.phase.value for each in known.pods.values()), "writing": len(known.writes)}

    async def _settle(self) -> None:
        while True:
            try:
                if not self._leads:
                    await self.settler.take_over()
                    self._leads = True
                    log.info("leads")
                await self.settler.all()
            except (ClusterError, BindFault) as error:
                log.warning("to be settled later error=%r", str(error))
            self.decider.tick()
            await asyncio.sleep(TICK_S)

    def _encode(self, portion: Portion) -> Mapping[str, Any]:
        """Return the status.allocation of a claim."""
        (given,) = portion.allocation.claims
        return encode_allocation(
            portion.wanted,
            given,
            portion.allocation.node,
            self._whereabouts,
            new_share_id=lambda: str(uuid.uuid4()),
            now=datetime.now(UTC),
        )

    def _labels(self, node: NodeName) -> Mapping[str, str]:
        """Return the labels of a node; none where it is gone."""
        found = self.cluster.store.nodes.get("", node)
        return {} if found is None else found.metadata.labels

    def _whereabouts(self, device: DeviceId) -> Whereabouts:
        where = self.cluster.pool_book.where(device)
        assert where is not None, f"{device} was just allocated"
        return Whereabouts(where)


def _is_named(pod: Pod, namespace: str, name: str) -> bool:
    return pod.metadata.name == name and pod.metadata.namespace == namespace


def _cluster(settings: Settings, mix: DemandMix | None) -> Cluster:
    chosen = ClusterSettings(drivers=settings.drivers, policy=settings.policy, mix=mix, place_all=settings.place_all)
    if settings.decision_log is None:
        return Cluster(chosen)
    try:
        return LoggedCluster(chosen, settings.decision_log, max_mib=settings.decision_log_max_mib)
    except OSError as error:
        raise InvalidInputError("scheduler settings", "--decision-log", str(error)) from error
