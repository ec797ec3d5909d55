"""Where evicting pods would free the devices that a pod needs.

kube-scheduler's own preemption sees no devices: it proposes nodes where evicting pods frees CPU or memory. A node stays
a candidate only if the pod's devices fit there once the claims that its victims alone use are freed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from kube.objects import Pod
from kube.resolved import Resolved
from packing.dra.model import ClaimUid
from packing.model import NodeName
from scheduler.reservations import PodUid
from scheduler.view import View, is_allocated, reserved_pods


class Cluster(Protocol):
    """Who can ask what if."""

    def fits_without(self, resolved: Resolved, node: NodeName, claims: Collection[ClaimUid]) -> bool:
        """Whether a pod's devices fit on a node once these claims are freed. Leaves everything as it was."""
        ...


class Bystanders:
    """Which pods use which claims."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._used: dict[str, list[ClaimUid]] = {}
        for uid, claim in view.claims.items():
            for pod in reserved_pods(claim) if is_allocated(claim) else ():
                self._used.setdefault(pod, []).append(uid)

    def only_of(self, pods: Collection[str]) -> frozenset[ClaimUid]:
        """Return the claims that these pods use and nobody else."""
        claims = {claim for pod in pods for claim in self._used.get(pod, ())}
        users = {claim: self._view.claims[claim].status.reserved_for for claim in claims}
        return frozenset(claim for claim in claims if all(user.uid in pods for user in users[claim]))

    def leaving(self) -> frozenset[str]:
        """Return the pods that are deleted or gone and whose claims are not free yet."""
        return frozenset(pod for pod in self._used if self._is_leaving(pod))

    def _is_leaving(self, uid: str) -> bool:
        pod = self._view.pods.get(PodUid(uid))
        return pod is None or pod.over or pod.metadata.deletion_timestamp is not None


def kept_nodes(
    pod: Pod,
    resolved: Resolved,
    victims: Mapping[NodeName, frozenset[str]],
    cluster: Cluster,
    bystanders: Bystanders,
) -> list[NodeName]:
    """Return the nodes that stay candidates; none while the pod waits for the claims of those evicted for it."""
    if _waits(pod, resolved, cluster, bystanders):
        return []
    leaving = bystanders.leaving()
    return [
        node
        for node, uids in victims.items()
        if cluster.fits_without(resolved, node, bystanders.only_of(uids | leaving))
    ]


def _waits(pod: Pod, resolved: Resolved, cluster: Cluster, bystanders: Bystanders) -> bool:
    """Whether the pod fits on the node it is nominated to once those who leave have left."""
    node = NodeName(pod.status.nominated_node_name)
    if not node:
        return False
    freed = bystanders.only_of(bystanders.leaving())
    return bool(freed) and cluster.fits_without(resolved, node, freed)
