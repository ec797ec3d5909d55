"""What-if questions on a cluster: other claims, or devices freed. Nothing of the cluster is changed by an answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from kube.cluster import Cluster
from kube.deciding import flags_of, whatever_the_host
from kube.objects import DeviceClass, Namespace, NodeSelector, Pod, ResourceClaim
from kube.refusal import Refusal
from kube.resolved import Resolved
from packing.dra.allocate import Allocator, Outcome
from packing.dra.model import Allocation, Ask, ClaimUid, Pool, SelectorError
from packing.kernels.arrays import Flags
from packing.model import NodeName

Key = tuple[str, str]
"""Namespace and name of a claim."""


class Altered:
    """A cluster in which some claims are others. Implements `Surroundings`."""

    def __init__(self, cluster: Cluster, claims: Mapping[Key, ResourceClaim]) -> None:
        self._cluster = cluster
        self._claims = claims
        self.drivers: Collection[str] = cluster.drivers

    @property
    def inventory(self) -> int:
        """As the cluster's."""
        return self._cluster.inventory

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """Return a claim, the other one where there is one."""
        return self._claims.get((namespace, name)) or self._cluster.claim(namespace, name)

    def claims_of(self, uid: str) -> Iterable[ResourceClaim]:
        """Return the claims whose controller is the pod of that UID."""
        return [
            self._claims.get((each.metadata.namespace, each.metadata.name), each)
            for each in self._cluster.claims_of(uid)
        ]

    def device_class(self, name: str) -> DeviceClass | None:
        """As the cluster's."""
        return self._cluster.device_class(name)

    def classes(self) -> Iterable[DeviceClass]:
        """As the cluster's."""
        return self._cluster.classes()

    def namespace(self, name: str) -> Namespace | None:
        """As the cluster's."""
        return self._cluster.namespace(name)

    def nodes_admitted(self, selector: NodeSelector) -> frozenset[NodeName]:
        """As the cluster's."""
        return self._cluster.nodes_admitted(selector)

    def nodes(self) -> frozenset[NodeName]:
        """As the cluster's."""
        return self._cluster.nodes()

    def nodes_offering(self, resource: str) -> frozenset[NodeName]:
        """As the cluster's."""
        return self._cluster.nodes_offering(resource)

    def pools(self) -> Iterable[Pool]:
        """As the cluster's."""
        return self._cluster.pools()

    def foreign_pools(self) -> Iterable[Pool]:
        """As the cluster's."""
        return self._cluster.foreign_pools()


class Trial:
    """Asks the allocator that the scheduler asks, with a memory of its own."""

    def __init__(self, cluster: Cluster) -> None:
        """Ask about a cluster as long as nodes and pools stay as they are."""
        self.cluster = cluster
        self.packed = cluster.packed()
        self._allocator = Allocator(self.packed.ledger, self.packed.policy)

    def serve(self, resolved: Resolved, among: Flags | None = None) -> Outcome:
        """Return the decision for a pod as things are, on nodes `among` [N]. Raises SelectorError."""
        undecided = False
        for way in resolved.ways:
            answer = self._serve(way.ask, among)
            if answer.allocation is not None:
                return answer
            undecided |= answer.undecided
        return Outcome(allocation=None, undecided=undecided)

    def altered(self, pod: Pod, claims: Mapping[Key, ResourceClaim], among: Flags | None = None) -> Allocation | None:
        """Return what a pod would get if some claims were others; None: nothing."""
        try:
            return self.serve(self.cluster.resolve(pod, Altered(self.cluster, claims)), among).allocation
        except (Refusal, SelectorError):
            return None

    def freed(self, resolved: Resolved, claims: Collection[ClaimUid], node: int) -> Allocation | None:
        """Return what a pod would get on a node if some claims held nothing; None: nothing."""
        with self.packed.ledger.without(claims):
            try:
                return self.serve(resolved, self.only(node)).allocation
            except SelectorError:
                return None

    def only(self, node: int) -> Flags:
        """Return [N] one node."""
        flags = np.zeros(len(self.packed.inventory.reach), dtype=np.bool_)
        flags[node] = True
        return flags

    def flags(self, names: Collection[str] | None) -> Flags | None:
        """Return [N] the nodes of these names."""
        return None if names is None else flags_of(self.packed.inventory, names)

    def _serve(self, ask: Ask, among: Flags | None) -> Outcome:
        place_all = self.cluster.settings.place_all
        return whatever_the_host(lambda wanted: self._allocator.allocate(wanted, among), ask, place_all=place_all)
