"""Claims and pods as last known: what the watch shows, and the answers to our own writes, which are often earlier.

Nothing goes back in time: an object older than what is known is dropped, one that was deleted stays so. Thus the
cluster's books see an allocation of ours with the answer of its write, and a claim in the order of its versions.
resourceVersions of one kind compare as integers (KEP-5504; so has every API server on etcd done before).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kube.objects import Pod, ResourceClaim
from packing.dra.model import ClaimUid
from scheduler.reservations import PodUid

FINALIZER = "resource.kubernetes.io/delete-protection"
MAX_TOMBS = 20_000
"""Deleted claims that are remembered: answers to writes come within seconds, so many claims do not go in that time."""


class Listener(Protocol):
    """Who is told, in order."""

    def claim_seen(self, claim: ResourceClaim) -> None:
        """Hear of a claim that is new or has changed."""

    def claim_gone(self, claim: ResourceClaim) -> None:
        """Hear of a claim that was deleted."""

    def pod_seen(self, pod: Pod) -> None:
        """Hear of a pod that is new or has changed."""

    def pod_gone(self, pod: Pod) -> None:
        """Hear of a pod that was deleted."""


def version_of(claim: ResourceClaim | Pod) -> int:
    """Return the resourceVersion as a number."""
    return int(claim.metadata.resource_version or 0)


class View:
    """Claims by uid and by (namespace, name), pods likewise."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.claims: dict[ClaimUid, ResourceClaim] = {}
        self.claim_names: dict[tuple[str, str], ClaimUid] = {}
        self.pods: dict[PodUid, Pod] = {}
        self._tombs: dict[ClaimUid, None] = {}
        self._unshown: dict[ClaimUid, int] = {}
        """Claims known by calls of our own that the watch has not shown, and how many of its lists lacked them."""

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """Return the claim of this name."""
        uid = self.claim_names.get((namespace, name))
        return None if uid is None else self.claims[uid]

    # The watch

    def put_claim(self, claim: ResourceClaim) -> None:
        """Take a claim from the watch."""
        uid = ClaimUid(claim.metadata.uid)
        self._unshown.pop(uid, None)
        self._tombs.pop(uid, None)
        self._take(claim)

    def remove_claim(self, claim: ResourceClaim) -> None:
        """Take a deletion from the watch."""
        uid = ClaimUid(claim.metadata.uid)
        self._unshown.pop(uid, None)
        self._tombs[uid] = None
        while len(self._tombs) > MAX_TOMBS:
            del self._tombs[next(iter(self._tombs))]
        known = self.claims.pop(uid, None)
        if known is not None:
            name = (known.metadata.namespace, known.metadata.name)
            if self.claim_names.get(name) == uid:
                del self.claim_names[name]
            self.listener.claim_gone(known)

    def replace_claims(self, claims: Iterable[ResourceClaim]) -> None:
        """Take a whole list. What is not in it is gone.

        But a claim that a call of our own has shown may be newer than the first list after that; the second one was
        begun when the first had ended.
        """
        listed = {ClaimUid(claim.metadata.uid): claim for claim in claims}
        for uid in [uid for uid in self.claims if uid not in listed]:
            if self._unshown.get(uid, 1) > 0:
                self.remove_claim(self.claims[uid])
            else:
                self._unshown[uid] += 1
        for claim in listed.values():
            self.put_claim(claim)

    def put_pod(self, pod: Pod) -> None:
        """Take a pod from the watch."""
        uid = PodUid(pod.metadata.uid)
        known = self.pods.get(uid)
        if known is None or version_of(known) <= version_of(pod):
            self.pods[uid] = pod
            self.listener.pod_seen(pod)

    def remove_pod(self, pod: Pod) -> None:
        """Take a deletion from the watch."""
        if self.pods.pop(PodUid(pod.metadata.uid), None) is not None:
            self.listener.pod_gone(pod)

    def replace_pods(self, pods: Iterable[Pod]) -> None:
        """Take a whole list."""
        listed = {PodUid(pod.metadata.uid): pod for pod in pods}
        for uid in [uid for uid in self.pods if uid not in listed]:
            self.remove_pod(self.pods[uid])
        for pod in listed.values():
            self.put_pod(pod)

    # Our own calls

    def answered(self, claim: ResourceClaim) -> ResourceClaim:
        """Take a claim from the answer to a read or a write, and return it. Deleted claims do not come back."""
        if ClaimUid(claim.metadata.uid) in self.claims:
            self._take(claim)
        return claim

    def listed(self, claim: ResourceClaim) -> None:
        """Take a claim from a list of our own, which may be ahead of the watch."""
        uid = ClaimUid(claim.metadata.uid)
        if uid not in self._tombs:
            known = uid in self.claims
            self._take(claim)
            if not known and uid in self.claims:
                self._unshown[uid] = 0

    def created(self, claim: ResourceClaim) -> ResourceClaim:
        """Take a claim that we have made, and return it."""
        uid = ClaimUid(claim.metadata.uid)
        if uid not in self._tombs and uid not in self.claims:
            self._unshown[uid] = 0
            self._take(claim)
        return claim

    def _take(self, claim: ResourceClaim) -> None:
        uid = ClaimUid(claim.metadata.uid)
        name = (claim.metadata.namespace, claim.metadata.name)
        known = self.claims.get(uid)
        if known is not None and version_of(known) >= version_of(claim):
            return
        namesake = self.claim_names.get(name)
        if namesake is not None and namesake != uid:
            if version_of(self.claims[namesake]) > version_of(claim):
                return
            self.remove_claim(self.claims[namesake])
        self.claims[uid] = claim
        self.claim_names[name] = uid
        self.listener.claim_seen(claim)


def is_allocated(claim: ResourceClaim) -> bool:
    """Whether a claim has devices."""
    return claim.status.allocation is not None


def reserved_pods(claim: ResourceClaim) -> tuple[str, ...]:
    """Return the uids of the pods that a claim is reserved for."""
    return tuple(each.uid for each in claim.status.reserved_for if each.resource == "pods")
