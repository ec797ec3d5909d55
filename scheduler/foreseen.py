"""Mode score: what pods on their way to a node will take there, from the decision on until their claims say so.

kube-scheduler writes its decision into `status.nominatedNodeName` before it writes the claims (1.35 and later). From
then on, what its allocator is predicted to pick counts as taken; the allocation itself then takes its place.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Protocol

from kube.objects import Pod, ResourceClaim
from kube.refusal import Refusal
from kube.resolved import Resolved
from packing.dra.model import Allocation, ClaimUid
from packing.model import NodeName
from scheduler.reservations import PodUid
from scheduler.seams import claim_key
from scheduler.view import View, is_allocated


class Cluster(Protocol):
    """Who knows what is free (`kube.cluster.Cluster`)."""

    def put(self, new: object) -> None:
        """Take an object, new or changed."""
        ...

    def remove(self, gone: object) -> None:
        """Take a deletion."""
        ...

    def resolve(self, pod: Pod) -> Resolved:
        """Return what a pod asks for. Raises Refusal."""
        ...

    def predict(self, resolved: Resolved, among: Collection[str] | None) -> list[tuple[Allocation, int]]:
        """Return what the in-tree allocator would pick, with scores, best first."""
        ...

    def hold(self, key: Hashable, resolved: Resolved, allocation: Allocation) -> None:
        """Count an allocation as used until dropped, or until its claims are seen allocated."""
        ...

    def drop(self, key: Hashable) -> None:
        """End a hold; nothing where there is none."""
        ...


class Foreseen:
    """Follows claims and pods. `nodes` has the pods whose devices are held, and where."""

    def __init__(self, cluster: Cluster) -> None:
        self.view = View(self)
        self.nodes: dict[PodUid, NodeName] = {}
        self._cluster = cluster
        self._claims: dict[PodUid, set[ClaimUid]] = {}
        """Pod -> its claims that are not seen allocated."""
        self._late: set[PodUid] = set()
        """Pods with a decision of which nothing could be foreseen yet: their claims or slices come by other watches."""

    def begin(self, pod: Pod) -> None:
        """Prepare for a new decision on a pod: others hold what they will take, the pod itself nothing."""
        uid = PodUid(pod.metadata.uid)
        late, self._late = self._late - {uid}, set()
        for other in sorted(late):
            known = self.view.pods.get(other)
            if known is not None:
                self._follow(known)
        if uid in self.nodes:
            self._drop(uid)
        if uid in self.view.pods:
            self._late.add(uid)

    # What the view hears

    def claim_seen(self, claim: ResourceClaim) -> None:
        """Count an allocation; it ends what was foreseen of the claim."""
        self._cluster.put(claim)
        if is_allocated(claim):
            for uid in [uid for uid, claims in self._claims.items() if claim_key(claim) in claims]:
                self._claims[uid].discard(claim_key(claim))
                if not self._claims[uid]:
                    self._drop(uid)

    def claim_gone(self, claim: ResourceClaim) -> None:
        """Forget a claim."""
        self._cluster.remove(claim)

    def pod_seen(self, pod: Pod) -> None:
        """Hold what a pod will take as soon as its node is known."""
        self._cluster.put(pod)
        self._follow(pod)

    def pod_gone(self, pod: Pod) -> None:
        """Hold nothing for a pod that is gone."""
        self._cluster.remove(pod)
        self._drop(PodUid(pod.metadata.uid))

    # Inside

    def _follow(self, pod: Pod) -> None:
        uid = PodUid(pod.metadata.uid)
        if pod.spec.node_name and not pod.over:
            # Bound: the claims are written, and the watch of claims may be behind that of pods.
            if self.nodes.get(uid) != pod.spec.node_name:
                self._drop(uid)
            return
        node = NodeName(pod.status.nominated_node_name)
        if self.nodes.get(uid) == node and not pod.over:
            return
        self._drop(uid)
        if node and not pod.over:
            self._hold(uid, pod, node)

    def _hold(self, uid: PodUid, pod: Pod, node: NodeName) -> None:
        try:
            resolved = self._cluster.resolve(pod)
        except Refusal:
            self._late.add(uid)
            return
        if not any(way.claims for way in resolved.ways):
            return
        found = self._cluster.predict(resolved, (node,))
        if not found:
            self._late.add(uid)
            return
        allocation, _ = found[0]
        way = resolved.way_to(node)
        assert way is not None, "the allocation is of one of the ways"
        self._cluster.hold(uid, resolved, allocation)
        self.nodes[uid] = node
        self._claims[uid] = {each.ask.uid for each in way.claims}

    def _drop(self, uid: PodUid) -> None:
        self._late.discard(uid)
        self._claims.pop(uid, None)
        if self.nodes.pop(uid, None) is not None:
            self._cluster.drop(uid)
