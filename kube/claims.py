"""A pod, its claims and their classes -> all that the pod asks of one node, or the reason why nothing can serve it.

Annotations and labels of pods and claims decide nothing here: who may write them need not be allowed to have devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kube.coverage import Coverage
from kube.extended import ANNOTATION, served_resources, special_claim
from kube.objects import Pod, ResourceClaim
from kube.podclaims import is_owned, join, pod_claims
from kube.podresources import cpu_milli, memory_mib, pod_requests
from kube.refusal import Refusal
from kube.requests import claim_name, read_claim
from kube.resolved import Joined, Resolved, SpecialClaim, Surroundings, ToAllocate, Way
from kube.selections import Sieves
from kube.signature import ask_signature
from packing.dra.model import Amount, Ask
from packing.model import NodeName

Nodes = frozenset[NodeName]


class Claims:
    """Resolves pods. Keeps what selectors admit and which requests our drivers can serve; both follow the pools."""

    def __init__(self) -> None:
        self._sieves = Sieves()
        self._coverage = Coverage()

    def resolve(self, pod: Pod, around: Surroundings) -> Resolved:
        """Return what a pod asks for. Raises Refusal when, as things are, no node can serve it."""
        joined: list[Joined] = []
        wanted: list[ToAllocate] = []
        for claim in pod_claims(pod, around):
            if claim.status.allocation is not None:
                joined.append(join(claim, pod, around))
            else:
                wanted.append(self._read(claim, around))
        requests = pod_requests(pod)
        resources = served_resources(requests, around.classes())
        ways: list[Way] = []
        refusals: list[Refusal] = []
        for left, nodes in _ways_by_node(resources, around):
            try:
                ways.append(self._way(pod, requests, left, nodes, joined, wanted, around))
            except Refusal as refusal:
                refusals.append(refusal)
        if not ways:
            raise refusals[0]
        return Resolved(pod=pod, ways=tuple(ways), joined=tuple(joined))

    def _read(self, claim: ResourceClaim, around: Surroundings) -> ToAllocate:
        wanted = read_claim(claim, around, self._sieves)
        self._coverage.check(wanted, around)
        return wanted

    def _way(
        self,
        pod: Pod,
        requests: Mapping[str, Amount],
        left: Mapping[str, str],
        nodes: Nodes | None,
        joined: Iterable[Joined],
        wanted: Iterable[ToAllocate],
        around: Surroundings,
    ) -> Way:
        """Return the way to serve the pod on `nodes`, where `left` are the extended resources that need a claim."""
        nodes = _common([nodes, *(each.nodes for each in joined)])
        claims = tuple(wanted)
        special = _special(pod, left, around) if left else None
        if special is not None and special.claim.status.allocation is not None:
            nodes = _common([nodes, join(special.claim, pod, around).nodes])
        elif special is not None:
            claims += (self._read(special.claim, around),)
        cpu, memory = cpu_milli(requests), memory_mib(requests)
        asks = tuple(each.ask for each in claims)
        ask = Ask(
            claims=asks,
            cpu_milli=cpu,
            memory_mib=memory,
            nodes=nodes,
            signature=ask_signature(asks, cpu, memory, nodes),
        )
        return Way(ask=ask, claims=claims, special=special)


def _ways_by_node(resources: Mapping[str, str], around: Surroundings) -> list[tuple[dict[str, str], Nodes | None]]:
    """Return which resources need a claim on which nodes: those that no device plugin offers there."""
    offering = {name: nodes for name in resources if (nodes := around.nodes_offering(name))}
    if not offering:
        return [(dict(resources), None)]
    groups: dict[frozenset[str], set[NodeName]] = {}
    for node in around.nodes():
        left = frozenset(name for name in resources if node not in offering.get(name, ()))
        groups.setdefault(left, set()).add(node)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[0]), sorted(group[0])))
    return [({name: resources[name] for name in sorted(left)}, frozenset(nodes)) for left, nodes in ordered]


def _common(sets: Iterable[Nodes | None]) -> Nodes | None:
    """Return the nodes in all of the sets; None is all nodes."""
    given = [nodes for nodes in sets if nodes is not None]
    return frozenset.intersection(*given) if given else None


def _special(pod: Pod, resources: Mapping[str, str], around: Surroundings) -> SpecialClaim:
    """Return the special claim of a pod, the one there is already if it asks for just this. Raises Refusal."""
    claim, mappings = special_claim(pod, resources)
    existing = _existing(pod, around)
    if existing is None:
        return SpecialClaim(claim=claim, exists=False, mappings=mappings)
    name = claim_name(existing)
    if existing.metadata.deletion_timestamp is not None:
        raise Refusal(f"claim {name} of the pod's extended resources is being deleted", "wait until it is gone")
    if existing.spec != claim.spec:
        text = f"claim {name} does not ask for what the pod asks by its extended resources"
        raise Refusal(text, "delete the claim; another is then made")
    return SpecialClaim(claim=existing, exists=True, mappings=mappings)


def _existing(pod: Pod, around: Surroundings) -> ResourceClaim | None:
    """Return the special claim that was made for a pod before; the annotation tells it from those of templates."""
    made = [
        claim
        for claim in around.claims_of(pod.metadata.uid)
        if is_owned(claim, pod) and claim.metadata.annotations.get(ANNOTATION) == "true"
    ]
    status = pod.status.extended_resource_claim_status
    named = status.resource_claim_name if status is not None else ""
    return min(made, key=lambda claim: (claim.metadata.name != named, claim.metadata.name), default=None)
