"""Questions from a file on a cluster from a file: one pod or its claims, once or as often as they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec.structs import replace as with_fields

from kube.cluster import Cluster, ClusterSettings
from kube.decoding import without_nulls
from kube.documents import stored_objects
from kube.errors import MalformedObjectError
from kube.explaining import explain
from kube.extended import served_resources
from kube.fitting import Fit, Fitter, allocation_of
from kube.hostfit import Hosts, HostWishes, read_wishes
from kube.objects import (
    AllocationResult,
    Pod,
    ResourceClaim,
    ResourceClaimConsumerReference,
    ResourceClaimStatus,
    ResourceClaimTemplate,
)
from kube.podresources import pod_requests
from kube.question import Question, pose
from kube.snapshot import read_snapshot
from topology.errors import InvalidInputError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """How many replicas of a pod fit, and the answer for each of them; `last` is for the one that did not."""

    placed: tuple[Fit, ...]
    last: Fit | None


class SnapshotCluster:
    """A cluster from a snapshot, with what kube-scheduler and the answers need beside our own state."""

    def __init__(self, document: object, source: str, settings: ClusterSettings) -> None:
        """Read it. Raises InvalidInputError."""
        found = read_snapshot(document, source)
        self.source = source
        self.malformed: tuple[MalformedObjectError, ...] = found.malformed
        raw = list(stored_objects([document], source))
        pods = [each for each in found.objects if isinstance(each, Pod)]
        self.pods = {(each.metadata.namespace, each.metadata.name): each for each in pods}
        broken = {each.name for each in found.malformed if each.kind == "Node"}
        nodes = [each for kind, each in raw if kind == "Node" and each["metadata"]["name"] not in broken]
        self.hosts = Hosts(nodes, pods)
        self.stored_pods: dict[tuple[str, str], Mapping[str, Any]] = {
            (str(each["metadata"].get("namespace") or ""), str(each["metadata"].get("name"))): each
            for kind, each in raw
            if kind == "Pod" and isinstance(each.get("metadata"), Mapping)
        }
        self._allocations = {
            (each["metadata"].get("namespace"), each["metadata"].get("name")): allocation
            for kind, each in raw
            if kind == "ResourceClaim" and (allocation := (each.get("status") or {}).get("allocation"))
        }
        templates = [each for each in found.objects if isinstance(each, ResourceClaimTemplate)]
        self._templates = {(each.metadata.namespace, each.metadata.name): each for each in templates}
        self.cluster = Cluster.from_snapshot(found.objects, settings)
        self.fitter = Fitter(self.cluster, self._allocated)
        self._taken: set[tuple[str, str]] = set()

    def template(self, namespace: str, name: str) -> ResourceClaimTemplate | None:
        """Return a template."""
        return self._templates.get((namespace, name))

    def barred(self, pod: Pod, wishes: HostWishes) -> dict[str, str]:
        """Return the nodes that kube-scheduler would not offer, and why."""
        by_claim = served_resources(pod_requests(pod), self.cluster.classes())
        return self.hosts.barred(pod, wishes, self.cluster.store.nodes, by_claim)

    def check_node(self, node: str | None) -> None:
        """Raise InvalidInputError for a node that is not there."""
        if node is not None and node not in self.cluster.nodes():
            raise InvalidInputError(self.source, "--node", f"has no node {node[:80]!r}")

    def ask(self, question: Question, *, node: str | None = None) -> Fit:
        """Answer a question."""
        self.check_node(node)
        return self._ask(question, 0, node, explain=True)[1]

    def ask_many(self, question: Question, most: int, *, node: str | None = None) -> Replicas:
        """Place a pod again and again, `most` times or until it does not fit any more."""
        self.check_node(node)
        placed: list[Fit] = []
        for number in range(most):
            pod, found = self._ask(question, number, node, explain=False)
            if not found.fits:
                # What was just placed is the question itself; freeing it is no answer.
                last = self._ask(question, number, node, explain=True)[1]
                return Replicas(placed=tuple(placed), last=last)
            placed.append(replace(found, resolved=None))
            self._take(pod, found)
        return Replicas(placed=tuple(placed), last=None)

    def explain(self, namespace: str, name: str, *, node: str | None = None) -> Json:
        """Return all there is to say of a pod of the snapshot. Raises InvalidInputError for one that is not there."""
        self.check_node(node)
        pod = self.pods.get((namespace, name))
        if pod is None:
            raise InvalidInputError(self.source, "", f"has no pod {namespace}/{name}")
        wishes = read_wishes(self.stored_pods[namespace, name])
        barred = {} if pod.spec.node_name else self.barred(pod, wishes)
        return explain(self.cluster, self.fitter, pod, node=node, barred=barred)

    def _ask(self, question: Question, number: int, node: str | None, *, explain: bool) -> tuple[Pod, Fit]:
        wishes = read_wishes(question.stored)
        pod = pose(question, self.cluster, self.template, number)
        try:
            barred = self.barred(pod, wishes)
        except InvalidInputError as error:
            raise InvalidInputError(f"Pod {pod.metadata.name}", "resources", str(error)) from error
        return pod, self.fitter.fit(pod, node=node, barred=barred, keep=self._taken, explain=explain)

    def _take(self, pod: Pod, found: Fit) -> None:
        """Make an answer so."""
        assert found.node is not None
        user = ResourceClaimConsumerReference(uid=pod.metadata.uid, name=pod.metadata.name, resource="pods")
        for each in found.claims:
            claim = self.cluster.claim(each["namespace"], each["name"])
            if claim is None:
                continue
            allocation = msgspec.convert(without_nulls(each["allocation"]), AllocationResult)
            status = ResourceClaimStatus(allocation=allocation, reserved_for=(*claim.status.reserved_for, user))
            self._allocations[each["namespace"], each["name"]] = each["allocation"]
            self._taken.add((each["namespace"], each["name"]))
            self.cluster.put(with_fields(claim, status=status))
        bound = with_fields(pod, spec=with_fields(pod.spec, node_name=found.node))
        self.hosts.bind(bound, found.node)
        self.cluster.put(bound)

    def _allocated(self, claim: ResourceClaim) -> Json:
        """Return the allocation of a claim as it is stored, in the snapshot or in the question."""
        known = self._allocations.get((claim.metadata.namespace, claim.metadata.name))
        return dict(known) if known is not None else allocation_of(claim)
