"""A cluster of a few nodes with a few GPUs each, one GPU a claim: the smallest that can be decided wrongly."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from kube.nodeselect import single_node
from kube.objects import Pod, ResourceClaim
from kube.podclaims import claim_names
from kube.refusal import Refusal
from kube.resolved import Joined, Resolved, ToAllocate, Way
from packing.dra.model import Allocation, Ask, ClaimAsk, ClaimUid, DeviceId, Given
from packing.model import NodeName
from scheduler.portions import Portion

DRIVER = "gpu.example.com"


@dataclass(frozen=True)
class Answer:
    allocation: Allocation | None
    alternatives: tuple[Allocation, ...] = ()
    undecided: bool = False
    fault: str = ""


@dataclass
class ModelCluster:
    nodes: dict[str, tuple[str, ...]]
    nowhere: Answer | None = None
    """What it answers where nothing fits."""
    version: int = 0
    claims: dict[str, ResourceClaim] = field(default_factory=dict)
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    holds: dict[Any, tuple[str, ...]] = field(default_factory=dict)
    decisions: int = 0

    # Books

    def hold(self, key: Any, resolved: Any, allocation: Allocation) -> None:
        assert key not in self.holds, f"{key} is held already"
        self.version += 1
        self.holds[key] = tuple(given.device.name for claim in allocation.claims for given in claim)

    def drop(self, key: Any) -> None:
        self.version += 1
        self.holds.pop(key, None)

    def put(self, obj: Any) -> None:
        if isinstance(obj, ResourceClaim):
            self.version += 1
            self.claims[obj.metadata.uid] = obj
            self.names[obj.metadata.namespace, obj.metadata.name] = obj.metadata.uid

    def remove(self, obj: Any) -> None:
        if isinstance(obj, ResourceClaim):
            self.version += 1
            self.claims.pop(obj.metadata.uid, None)

    def used(self, *, without: Collection[str] = ()) -> set[str]:
        held = {device for devices in self.holds.values() for device in devices}
        given = (claim for uid, claim in self.claims.items() if uid not in without)
        return held | {device for claim in given for device in _devices(claim)}

    # Answers

    def resolve(self, pod: Pod) -> Resolved:
        joined, wanted = [], []
        nodes: frozenset[NodeName] | None = None
        for name in claim_names(pod):
            claim = self.claims.get(self.names.get((pod.metadata.namespace, name or ""), ""))
            if claim is None:
                raise Refusal(f"claim {name} does not exist")
            if claim.status.allocation is None:
                wanted.append(claim)
                continue
            at = frozenset({NodeName(single_node(claim.status.allocation.node_selector))})
            nodes = at if nodes is None else nodes & at
            reserved = any(each.uid == pod.metadata.uid for each in claim.status.reserved_for)
            joined.append(Joined(claim=claim, nodes=at, reserved=reserved))
        asks = tuple(ClaimAsk(uid=ClaimUid(each.metadata.uid), name=each.metadata.name, requests=()) for each in wanted)
        claims = tuple(ToAllocate(claim=each, ask=ask, classes={}) for each, ask in zip(wanted, asks, strict=True))
        ask = Ask(claims=asks, nodes=nodes, signature=(len(asks), nodes))
        return Resolved(pod=pod, ways=(Way(ask=ask, claims=claims),), joined=tuple(joined))

    def decide(self, resolved: Resolved, among: Collection[str] | None, *, slack: float = 0.0) -> Answer:
        self.decisions += 1
        found = self._allocations(resolved, among, self.used())
        return Answer(found[0], found[1:]) if found else self.nowhere or Answer(None)

    def fits_without(self, resolved: Resolved, node: NodeName, claims: Collection[ClaimUid]) -> bool:
        return bool(self._allocations(resolved, [node], self.used(without=claims)))

    def _allocations(self, resolved: Resolved, among: Collection[str] | None, used: set[str]) -> tuple[Allocation, ...]:
        found = []
        for node in self.nodes if among is None else among:
            for way in resolved.ways:
                if way.ask.nodes is not None and node not in way.ask.nodes:
                    continue
                free = [device for device in self.nodes[node] if device not in used]
                if len(free) >= len(way.claims):
                    given = tuple((Given("gpu", DeviceId(DRIVER, node, free[at])),) for at in range(len(way.claims)))
                    found.append(Allocation(node=NodeName(node), claims=given))
        return tuple(found)


def encode(portion: Portion) -> Mapping[str, Any]:
    (given,) = portion.allocation.claims
    results = [{"request": each.request, "driver": DRIVER, "pool": "p", "device": each.device.name} for each in given]
    only = {"key": "metadata.name", "operator": "In", "values": [portion.allocation.node]}
    selector = {"nodeSelectorTerms": [{"matchFields": [only]}]}
    return {"devices": {"results": results}, "nodeSelector": selector}


def _devices(claim: ResourceClaim) -> tuple[str, ...]:
    allocation = claim.status.allocation
    return tuple(each.device for each in allocation.devices.results) if allocation is not None else ()
