"""Mends what `findings` finds, on the leader, under the locks of `bind`.

Releases claims whose pods cannot come to them (the in-tree plugin that would is off), deletes the later of two pods
with one device, gives bound pods their devices or deletes them, and removes finalizers that guard nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kube.errors import ClusterError, ConflictError, NotFoundError
from kube.objects import Pod, ResourceClaim
from packing.dra.model import ClaimUid
from scheduler.bind import Binder
from scheduler.faults import BindFault
from scheduler.findings import Bare, Doubled, Finding, Leftover, Sight, Stuck
from scheduler.reservations import PodUid
from scheduler.suspects import names_of
from scheduler.view import reserved_pods

log = logging.getLogger(__name__)

DOUBLE, BARE, RELEASED = "DeviceInTwoClaims", "NoDevices", "ClaimReleased"
"""Reasons of events."""
FENCE = "another scheduler allocates these devices: apply the admission policy of manifests/scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class JanitorSettings:
    """How long something must be wrong before it is mended, in seconds."""

    stuck_s: float = 20.0
    doubled_s: float = 2.0
    bare_s: float = 10.0
    leftover_s: float = 60.0


class Janitor:
    """Looks, remembers since when, and mends."""

    def __init__(
        self,
        binder: Binder,
        sight: Callable[[], Sight],
        leads: Callable[[], bool],
        settings: JanitorSettings = JanitorSettings(),
    ) -> None:
        self.binder = binder
        self.ledger = binder.ledger
        self.writes = binder.writes
        self.sight = sight
        self.leads = leads
        self.grace = {
            Stuck: settings.stuck_s,
            Doubled: settings.doubled_s,
            Bare: settings.bare_s,
            Leftover: settings.leftover_s,
        }
        self._since: dict[Finding, float] = {}

    async def step(self) -> None:
        """Look once, and mend what has been wrong long enough. What fails is tried again."""
        if not self.leads():
            self._since.clear()
            return
        now = self.binder.clock()
        found = set(self.sight().all())
        self._since = {each: self._since.get(each, now) for each in found}
        for each in sorted(found, key=repr):
            if now - self._since[each] >= self.grace[type(each)]:
                await self._mended(each)

    async def _mended(self, finding: Finding) -> None:
        try:
            match finding:
                case Stuck(claim):
                    await self._release(claim)
                case Leftover(claim):
                    await self._unfinalize(claim)
                case Bare(pod):
                    await self._complete(pod)
                case Doubled():
                    await self._part(finding)
        except (ConflictError, NotFoundError) as error:
            log.info("changed meanwhile finding=%s: %s", finding, error)
        except (ClusterError, BindFault) as error:
            log.warning("not mended finding=%s: %s", finding, error)

    async def _release(self, uid: ClaimUid) -> None:
        claim = self.ledger.view.claims.get(uid)
        if claim is None:
            return
        pods = reserved_pods(claim)
        async with self.binder.locks.all(pods), self.binder.locks.of(uid):
            claim = self.ledger.view.claims.get(uid)
            if claim is None or reserved_pods(claim) != pods or not self.sight().is_stuck(claim):
                return
            self.ledger.view.answered(await self.writes.release(claim, pods, timeout_s=self._window()))
        name = claim.metadata.full_name
        log.info("released claim=%s", name)
        text = f"claim {name} had devices where the pod cannot go; they are free again, and others are chosen"
        for pod in (self.ledger.view.pods.get(PodUid(each)) for each in pods):
            if pod is not None:
                await self.writes.event(pod, RELEASED, text, timeout_s=self._window())

    async def _unfinalize(self, uid: ClaimUid) -> None:
        async with self.binder.locks.of(uid):
            claim = self.ledger.view.claims.get(uid)
            if claim is not None and self.sight().is_leftover(claim):
                self.ledger.view.answered(await self.writes.unfinalize(claim, timeout_s=self._window()))

    async def _complete(self, uid: PodUid) -> None:
        pod = self.ledger.view.pods.get(uid)
        if pod is None or not self.sight().is_bare(pod):
            return
        problem = await self.binder.complete(pod)
        if problem:
            claims = ", ".join(names_of(pod))
            text = (
                f"the pod is on node {pod.spec.node_name} without devices for claim {claims}: {problem}. "
                "It is deleted; make it again without spec.nodeName, so that its devices are chosen with the node"
            )
            await self._delete(pod, BARE, text)

    async def _part(self, finding: Doubled) -> None:
        """Delete the pods that came later, if none of them runs, as the API server has it now."""
        claim = None if finding.loser is None else self.ledger.view.claims.get(finding.loser)
        if claim is None:
            await self._tell_running(finding)
            return
        fresh = await self.writes.read_claim(claim.metadata.namespace, claim.metadata.name, timeout_s=self._window())
        if fresh.metadata.uid != claim.metadata.uid or not _has(fresh, finding):
            self.ledger.view.answered(fresh)
            return
        pods = [self.ledger.view.pods.get(PodUid(uid)) for uid in reserved_pods(fresh)]
        text = f"{self._doubled(finding)}; this pod came later and is deleted, its controller makes it again; {FENCE}"
        for pod in pods:
            if pod is not None and pod.metadata.deletion_timestamp is None:
                await self._delete(pod, DOUBLE, text)
        if not pods:
            self.ledger.view.answered(await self.writes.release(fresh, (), timeout_s=self._window()))

    async def _tell_running(self, finding: Doubled) -> None:
        """Kill nobody's work; say what is wrong, to all whom it concerns."""
        text = f"{self._doubled(finding)}, and their pods run; delete one of the pods; {FENCE}"
        for claim in self._holders(finding):
            for uid in reserved_pods(claim):
                pod = self.ledger.view.pods.get(PodUid(uid))
                if pod is not None and not pod.over:
                    await self.writes.event(pod, DOUBLE, text, timeout_s=self._window())

    def _holders(self, finding: Doubled) -> list[ResourceClaim]:
        holders = self.ledger.suspects.holders.get(finding.device, set())
        return [self.ledger.view.claims[uid] for uid in sorted(holders)]

    def _doubled(self, finding: Doubled) -> str:
        names = sorted(claim.metadata.full_name for claim in self._holders(finding))
        return f"device {'/'.join(finding.device)} is in two claims, {' and '.join(names)}"

    async def _delete(self, pod: Pod, reason: str, text: str) -> None:
        now = await self.writes.read_pod(pod.metadata.namespace, pod.metadata.name, timeout_s=self._window())
        if now.metadata.uid == pod.metadata.uid and now.status.phase in {"", "Pending"}:
            log.warning("deleted pod=%s/%s: %s", pod.metadata.namespace, pod.metadata.name, text)
            await self.writes.event(now, reason, text, timeout_s=self._window())
            await self.writes.delete_pod(now, timeout_s=self._window())

    def _window(self) -> float:
        return self.binder.window(self.binder.begin(self.binder.settings.write_s))


def _has(claim: ResourceClaim, finding: Doubled) -> bool:
    allocation = claim.status.allocation
    results: Collection[object] = allocation.devices.results if allocation is not None else ()
    return any((each.driver, each.pool, each.device) == finding.device for each in results)  # type: ignore[attr-defined]
