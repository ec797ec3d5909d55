"""What a decision takes, cut into what each claim takes and what the pod takes beside them: each is held by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kube.objects import ResourceClaim
from kube.resolved import Resolved, ToAllocate, Way
from packing.dra.model import Allocation, ClaimUid
from packing.model import NodeName
from scheduler.reservations import Choice


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """One claim of a pod on one node, or none and what the pod takes beside its claims."""

    resolved: Resolved
    allocation: Allocation

    @property
    def wanted(self) -> ToAllocate:
        """The claim."""
        return self.resolved.ways[0].claims[0]

    @property
    def special(self) -> bool:
        """Whether the claim serves extended resources."""
        way = self.resolved.ways[0]
        return way.special is not None and way.special.claim is self.wanted.claim

    def of(self, claim: ResourceClaim) -> Portion:
        """Return the portion for a claim that was only planned when it was decided and now exists."""
        way = self.resolved.ways[0]
        ask = dataclasses.replace(self.wanted.ask, uid=ClaimUid(claim.metadata.uid), name=claim.metadata.full_name)
        wanted = dataclasses.replace(self.wanted, claim=claim, ask=ask)
        special = way.special and dataclasses.replace(way.special, claim=claim, exists=True)
        one = Way(ask=dataclasses.replace(way.ask, claims=(ask,)), claims=(wanted,), special=special)
        return Portion(dataclasses.replace(self.resolved, ways=(one,)), self.allocation)


def choice(resolved: Resolved, allocation: Allocation, planned: Mapping[ClaimUid, object]) -> Choice:
    """Return what a decision takes, claim by claim. `planned` is what others have planned on the same node."""
    way = resolved.way_to(allocation.node)
    assert way is not None, "the allocation is of one of the ways"
    claims: dict[ClaimUid, object] = {**planned}
    for wanted, given in zip(way.claims, allocation.claims, strict=True):
        ask = dataclasses.replace(way.ask, claims=(wanted.ask,), cpu_milli=0, memory_mib=0, signature=None)
        one = dataclasses.replace(resolved, ways=(dataclasses.replace(way, ask=ask, claims=(wanted,)),), joined=())
        claims[wanted.ask.uid] = Portion(one, Allocation(node=allocation.node, claims=(given,)))
    bare = dataclasses.replace(way, ask=dataclasses.replace(way.ask, claims=(), signature=None), claims=())
    rest = Portion(dataclasses.replace(resolved, ways=(bare,)), Allocation(node=allocation.node, claims=()))
    return Choice(claims, rest)


def without(resolved: Resolved, planned: Mapping[ClaimUid, NodeName]) -> Resolved:
    """Return what is left to decide where some claims are planned by others: the rest, on their node alone."""
    if not planned:
        return resolved
    nodes = frozenset(planned.values())
    return dataclasses.replace(resolved, ways=tuple(_narrowed(resolved, planned, nodes)))


def _narrowed(resolved: Resolved, planned: Mapping[ClaimUid, NodeName], nodes: frozenset[NodeName]) -> Iterator[Way]:
    for way in resolved.ways:
        claims = tuple(each for each in way.claims if each.ask.uid not in planned)
        among = nodes if len(nodes) == 1 else frozenset[NodeName]()
        among = among if way.ask.nodes is None else among & way.ask.nodes
        asks = tuple(each.ask for each in claims)
        yield dataclasses.replace(
            way, claims=claims, ask=dataclasses.replace(way.ask, claims=asks, nodes=among, signature=None)
        )
