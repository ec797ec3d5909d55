"""What has gone wrong with claims, and nobody else will mend. Pure: the state goes in, findings come out.

Each finding must be true of the state for a while before it is acted on: most are seen for a moment whenever a pod is
scheduled, because pods and claims are watched apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from kube.nodeselect import single_node
from kube.objects import Pod, ResourceClaim
from packing.dra.model import ClaimUid, DeviceId
from packing.model import NodeName
from scheduler.reservations import PodUid, Reservations
from scheduler.suspects import Suspects, names_of
from scheduler.view import FINALIZER, View, is_allocated, reserved_pods

UNSCHEDULABLE = "Unschedulable"


@dataclass(frozen=True, slots=True)
class Stuck:
    """A claim allocated for pods that are all pending and cannot go where its devices are; or for nobody."""

    claim: ClaimUid


@dataclass(frozen=True, slots=True)
class Doubled:
    """A device that two claims have. `loser` is to give way; None where pods of both run."""

    device: DeviceId
    loser: ClaimUid | None


@dataclass(frozen=True, slots=True)
class Bare:
    """A pod that has a node, and a claim without devices there: it can never start."""

    pod: PodUid


@dataclass(frozen=True, slots=True)
class Leftover:
    """A claim without devices that nobody uses and that keeps the finalizer, whoever added it.

    Every scheduler adds it for a pod that names the claim, so without one it guards nothing. Which driver the claim
    would be of is not known before it has devices.
    """

    claim: ClaimUid


Finding = Stuck | Doubled | Bare | Leftover


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at."""

    view: View
    reservations: Reservations
    suspects: Suspects
    """What may be wrong: nothing else is looked at."""
    nodes: Collection[str]
    drivers: Collection[str]
    """Whose devices we allocate."""
    scheduler: str
    """The name by which pods ask for us."""

    def all(self) -> Iterator[Finding]:
        """Return all findings."""
        claims, suspects = self.view.claims, self.suspects
        waiting = (claim for pod in suspects.pending & suspects.used.keys() for claim in suspects.used[pod])
        for uid in {*suspects.unused, *waiting}:
            if self.is_stuck(claims[uid]):
                yield Stuck(uid)
        for uid in suspects.kept:
            if self.is_leftover(claims[uid]):
                yield Leftover(uid)
        yield from self.doubled()
        for pod in suspects.starting:
            if self.is_bare(self.view.pods[pod]):
                yield Bare(pod)

    def is_stuck(self, claim: ResourceClaim) -> bool:
        """Whether a claim of ours holds devices that no pod will come to use."""
        if not is_allocated(claim) or not self._is_ours(claim):
            return False
        users = claim.status.reserved_for
        if not users:
            return not self._is_named(claim) and claim.metadata.deletion_timestamp is None
        pods = [self.view.pods.get(PodUid(user.uid)) for user in users]
        return all(pod is not None and self._cannot_go(pod, claim) for pod in pods)

    def is_leftover(self, claim: ResourceClaim) -> bool:
        """Whether a finalizer guards nothing, for nobody."""
        uid = ClaimUid(claim.metadata.uid)
        busy = uid in self.reservations.plans or uid in self.reservations.writes
        kept = FINALIZER in claim.metadata.finalizers and claim.metadata.deletion_timestamp is None
        return kept and not is_allocated(claim) and not busy and not self._is_named(claim)

    def is_bare(self, pod: Pod) -> bool:
        """Whether a pod of ours has a node and lacks devices there."""
        if (
            not pod.spec.node_name
            or pod.spec.scheduler_name != self.scheduler
            or pod.status.phase not in {"", "Pending"}
        ):
            return False
        if pod.metadata.deletion_timestamp is not None:
            return False
        claims = (self.view.claim(pod.metadata.namespace, name) for name in names_of(pod))
        return any(claim is not None and not _serves(claim, pod.spec.node_name) for claim in claims)

    def doubled(self) -> Iterator[Doubled]:
        """Return the devices that two claims have, neither sharing nor administering them."""
        for device in self.suspects.doubled:
            if device.driver in self.drivers:
                holders = sorted(self.suspects.holders[device])
                yield Doubled(device, self._loser([self.view.claims[uid] for uid in holders]))

    def _loser(self, claims: list[ResourceClaim]) -> ClaimUid | None:
        """Return the claim whose pods came last, among those of which none runs."""
        idle = [claim for claim in claims if not any(pod.status.phase == "Running" for pod in self._pods(claim))]
        if not idle:
            return None
        return ClaimUid(max(idle, key=self._came).metadata.uid)

    def _came(self, claim: ResourceClaim) -> tuple[str, str]:
        times = [pod.metadata.creation_timestamp for pod in self._pods(claim)]
        return max((str(time) for time in times if time is not None), default=""), claim.metadata.uid

    def _pods(self, claim: ResourceClaim) -> list[Pod]:
        found = (self.view.pods.get(PodUid(uid)) for uid in reserved_pods(claim))
        return [pod for pod in found if pod is not None]

    def _cannot_go(self, pod: Pod, claim: ResourceClaim) -> bool:
        """Whether a pending pod that nothing is being written for will not get to the node of its claim."""
        uid = PodUid(pod.metadata.uid)
        if pod.spec.node_name or pod.over or self.reservations.tied(uid) is not None:
            return False
        assert claim.status.allocation is not None
        node = single_node(claim.status.allocation.node_selector)
        if node and NodeName(node) not in self.nodes:
            return True
        promised = self.reservations.pods.get(uid)
        there = promised is not None and (not node or NodeName(node) in promised.nodes)
        if promised is not None and there and (promised.nominated or not promised.bind_called):
            return False  # on its way there: kube-scheduler may wait for volumes before it asks for `bind`
        scheduled = pod.status.scheduled
        return scheduled is not None and scheduled.status == "False" and scheduled.reason == UNSCHEDULABLE

    def _is_named(self, claim: ResourceClaim) -> bool:
        """Whether a pod names it that is not over."""
        return (claim.metadata.namespace, claim.metadata.name) in self.suspects.naming

    def _is_ours(self, claim: ResourceClaim) -> bool:
        allocation = claim.status.allocation
        return allocation is not None and any(each.driver in self.drivers for each in allocation.devices.results)


def _serves(claim: ResourceClaim, node: str) -> bool:
    """Whether a claim has devices that can be used on a node; selectors other than by name are taken to admit it."""
    if claim.status.allocation is None:
        return False
    return single_node(claim.status.allocation.node_selector) in {"", node}
