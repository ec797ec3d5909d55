"""Reservations, the cluster's books and what is known of claims and pods, kept in step.

All events pass here, in one thread and without waiting in between: a device is never free in the books between the end
of its hold and the allocation that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

from kube.objects import Pod, ResourceClaim
from kube.resolved import Resolved
from packing.dra.model import Allocation, ClaimUid
from packing.model import NodeName
from scheduler.portions import Portion
from scheduler.reservations import Drop, Effect, Hold, PodUid, Reservations, Settle
from scheduler.suspects import Suspects
from scheduler.view import View, is_allocated, version_of


class Books(Protocol):
    """What is used in the cluster (`kube.cluster.Cluster`)."""

    def hold(self, key: Hashable, resolved: Resolved, allocation: Allocation) -> None:
        """Count an allocation as used until dropped."""

    def drop(self, key: Hashable) -> None:
        """End a hold."""

    def put(self, obj: object) -> None:
        """Take a claim or a pod, new or changed."""

    def remove(self, obj: object) -> None:
        """Take the deletion of one."""


class Ledger:
    """Applies the effects of `reservations` to the books.

    Tells `on_freed` of devices that no event sets free, and `on_claim` of claims.
    """

    def __init__(self, books: Books, reservations: Reservations) -> None:
        self.books = books
        self.reservations = reservations
        self.view = View(self)
        self.suspects = Suspects()
        self.on_freed: Callable[[], None] = lambda: None
        self.on_unknown: Callable[[ClaimUid], None] = lambda _claim: None
        self.on_claim: Callable[[ResourceClaim], None] = lambda _claim: None

    def apply(self, effects: Iterable[Effect]) -> None:
        """Carry out effects in their order."""
        freed = False
        for effect in effects:
            match effect:
                case Hold(key, Portion() as portion):
                    self.books.hold(key, portion.resolved, portion.allocation)
                case Drop(key, was_freed):
                    self.books.drop(key)
                    freed |= was_freed
                case Settle(claim):
                    self.on_unknown(claim)
                case Hold(key):
                    raise AssertionError(f"nothing to hold under {key}")
        if freed:
            self.on_freed()

    # What the view hears

    def claim_seen(self, claim: ResourceClaim) -> None:
        """End what is reserved for an allocated claim, then count its allocation."""
        uid = ClaimUid(claim.metadata.uid)
        self.suspects.claim_seen(claim)
        self.apply(self.reservations.seen(uid, version_of(claim), allocated=is_allocated(claim)))
        self.books.put(claim)
        self.on_claim(claim)

    def claim_gone(self, claim: ResourceClaim) -> None:
        """End all that there was of a claim."""
        self.suspects.claim_gone(claim)
        self.apply(self.reservations.gone(ClaimUid(claim.metadata.uid)))
        self.books.remove(claim)

    def pod_seen(self, pod: Pod) -> None:
        """End the reservation of a pod that has a node or is over."""
        uid = PodUid(pod.metadata.uid)
        self.suspects.pod_seen(pod)
        if pod.over:
            self.apply(self.reservations.pod_gone(uid))
        elif pod.spec.node_name:
            self.apply(self.reservations.bound(uid))
        else:
            self.reservations.nominate(uid, NodeName(pod.status.nominated_node_name))
        self.books.put(pod)

    def pod_gone(self, pod: Pod) -> None:
        """End the reservation of a deleted pod."""
        self.suspects.pod_gone(pod)
        self.apply(self.reservations.pod_gone(PodUid(pod.metadata.uid)))
        self.books.remove(pod)
