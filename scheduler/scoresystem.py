"""Puts the parts of mode score together: state of the cluster, predictions and scores. It reads and never writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any

from kube.client import ApiClient
from kube.cluster import Cluster, ClusterSettings
from kube.errors import ClusterError
from kube.version import KubernetesVersion, server_version
from packing.mix import DemandMix
from packing.warm import compile_kernels
from scheduler.capacity import measure
from scheduler.decider import DecideSettings
from scheduler.explaining import explain_pod, pod_named
from scheduler.feed import Feed
from scheduler.foreseen import Foreseen
from scheduler.metrics import Capacity
from scheduler.reservations import PodUid
from scheduler.scoring import Scorer
from scheduler.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 0.5
GIVES_SHARES_TWICE = frozenset({KubernetesVersion(1, 36, 0), KubernetesVersion(1, 36, 1)})
"""Shared devices with counters end in two claims (kubernetes/kubernetes#139211, mended in 1.36.2)."""


class ScoreSystem:
    """The scheduler of mode score but for its HTTP server and its watches."""

    def __init__(self, settings: Settings, mix: DemandMix | None, client: ApiClient) -> None:
        """Start with nothing known of the cluster."""
        chosen = ClusterSettings(drivers=settings.drivers, every_driver=True, policy=settings.policy, mix=mix)
        self.cluster = Cluster(chosen)
        self.foreseen = Foreseen(self.cluster)
        self.feed = Feed(self.cluster, self.foreseen.view)
        deciding = DecideSettings(slack=settings.slack or 0.0)
        self.decider = Scorer(self.cluster, self.foreseen, time.monotonic, deciding)
        self._client = client

    def compile(self) -> None:
        """Compile what decides; for a thread, it takes seconds where nothing is cached."""
        compile_kernels()

    async def prepare(self) -> None:
        """Read the version of the cluster, and do once what the first request would wait for."""
        while True:
            try:
                version = await server_version(self._client)
                break
            except ClusterError as error:
                log.warning("version not read: %s", error)
                await asyncio.sleep(TICK_S)
        self.decider.shares_refused = version in GIVES_SHARES_TWICE
        log.info("scoring kubernetes=%s shares_refused=%s", version, self.decider.shares_refused)
        self.capacity()

    def tasks(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what runs beside the requests, by name."""
        yield "changes", self._follow()

    async def drain(self) -> None:
        """Nothing is under way that could not be dropped."""

    def explain(self, namespace: str, name: str, node: str | None = None) -> object | None:
        """Return all there is to say of a pod; with `node`, of that one device by device."""
        pod = pod_named(self.foreseen.view.pods.values(), namespace, name)
        if pod is None:
            return None
        foreseen = self.foreseen.nodes.get(PodUid(pod.metadata.uid))
        return explain_pod(self.cluster, pod, [foreseen] if foreseen else [], node)

    def capacity(self) -> Capacity:
        """Return the figures of what is free."""
        packed = self.cluster.packed()
        return measure(packed.ledger.usage, packed.policy)

    def reservations(self) -> Mapping[str, int]:
        """Return how many pods hold what they will take."""
        return {"held": len(self.foreseen.nodes)}

    async def _follow(self) -> None:
        while True:
            self.decider.tick()
            await asyncio.sleep(TICK_S)
