"""Devices that are promised to pods but not yet written, or whose write has no known end (docs/reservations.md).

Pure: no clock, no I/O. Events go in, effects on the cluster's books come out as values, in the order to apply them. The
invariant: while a write of an allocation may still land, its devices are held, whatever becomes of the pod.

A pod has one reservation with alternatives {node: claims}. What a claim would be given on a node is a `Plan`, kept once
however many pods share the claim. A `Write` is a claim's allocation on its way to the API server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType

from packing.dra.model import ClaimUid
from packing.model import NodeName

PodUid = NewType("PodUid", str)


class HoldKey(NamedTuple):
    """What is held: what a claim, or where `claim` is empty the pod beside its claims, takes on a node."""

    node: NodeName
    claim: ClaimUid
    pod: PodUid


@dataclass(frozen=True, slots=True)
class Hold:
    """Count `what` as used."""

    key: HoldKey
    what: object


@dataclass(frozen=True, slots=True)
class Drop:
    """Count it as used no longer. `freed`: the devices are free now, rather than known to be allocated."""

    key: HoldKey
    freed: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """Find out how a write ended: touch the claim, so that a lost write can only get a conflict, and tell `seen`."""

    claim: ClaimUid


Effect = Hold | Drop | Settle


class Phase(StrEnum):
    """How far a pod is. HELD: decided. BINDING: `bind` works on it, or nobody knows whether its Binding landed."""

    HELD = "held"
    BINDING = "binding"


@dataclass(slots=True)
class Reservation:
    """What a pod was promised: one of some nodes."""

    nodes: dict[NodeName, tuple[ClaimUid, ...]]
    expires_at: float
    phase: Phase = Phase.HELD
    nominated: bool = False
    """Whether status.nominatedNodeName names one of the nodes: volumes may take minutes."""
    bind_called: bool = False


@dataclass(slots=True)
class Plan:
    """What a claim gets on a node, and the pods that count on it."""

    what: object
    pods: set[PodUid]


@dataclass(slots=True)
class Write:
    """An allocation sent under resourceVersion `base` of its claim. `unknown`: it got no answer."""

    node: NodeName
    base: int
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What a decision takes on one node: `claims` to be written there, and what the pod takes beside them."""

    claims: Mapping[ClaimUid, object]
    pod: object = None


@dataclass(slots=True)
class Reservations:
    """All reservations of this scheduler.

    `hold_s`: a decision without a `bind` is given up after so long. `last_s`: so long is a node that came to nothing
    tried last for its pod.
    """

    hold_s: float = 30.0
    last_s: float = 60.0
    pods: dict[PodUid, Reservation] = field(default_factory=dict)
    plans: dict[ClaimUid, dict[NodeName, Plan]] = field(default_factory=dict)
    writes: dict[ClaimUid, Write] = field(default_factory=dict)
    _left: dict[PodUid, dict[NodeName, float]] = field(default_factory=dict)

    # Questions

    def tied(self, pod: PodUid) -> NodeName | None:
        """Return the only node that may be answered for the pod: something is being written for it there."""
        reservation = self.pods.get(pod)
        if reservation is None:
            return None
        if reservation.phase is Phase.BINDING:
            return next(iter(reservation.nodes))
        claims = (claim for claims in reservation.nodes.values() for claim in claims)
        return next((self.writes[claim].node for claim in claims if claim in self.writes), None)

    def planned(self, claim: ClaimUid) -> tuple[NodeName, object] | None:
        """Return the node and what a claim gets there, where another decision has settled it."""
        plans = self.plans.get(claim, {})
        write = self.writes.get(claim)
        node = write.node if write else next(iter(plans), None)
        return None if node is None else (node, plans[node].what)

    def what(self, claim: ClaimUid, node: NodeName) -> object | None:
        """Return what a claim was promised on a node."""
        plan = self.plans.get(claim, {}).get(node)
        return None if plan is None else plan.what

    def tried_last(self, pod: PodUid, now: float) -> frozenset[NodeName]:
        """Return the nodes that were chosen for the pod lately and came to nothing before `bind`."""
        return frozenset(node for node, until in self._left.get(pod, {}).items() if until > now)

    def unknown(self) -> list[ClaimUid]:
        """Return the claims with a write whose end nobody knows."""
        return [claim for claim, write in self.writes.items() if write.unknown]

    # Decisions

    def decide(self, pod: PodUid, choices: Mapping[NodeName, Choice], now: float) -> list[Effect]:
        """Replace what the pod was promised; nothing where there are no choices. Not while the pod is `tied`."""
        assert self.tied(pod) is None, "a pod with a write on its way keeps its node"
        self._remember(pod, now)
        effects = list(self._forget(pod))
        if not choices:
            return effects
        nodes = {node: tuple(choice.claims) for node, choice in choices.items()}
        self.pods[pod] = Reservation(nodes, now + self.hold_s)
        for node, choice in choices.items():
            effects.append(Hold(HoldKey(node, ClaimUid(""), pod), choice.pod))
            for claim, what in choice.claims.items():
                effects += self._plan(pod, node, claim, what)
        return effects

    def nominate(self, pod: PodUid, node: str) -> None:
        """Take note of status.nominatedNodeName."""
        reservation = self.pods.get(pod)
        if reservation is not None:
            reservation.nominated = node in reservation.nodes

    def expire(self, now: float) -> list[Effect]:
        """Give up what was promised and never fetched."""
        for pod in [pod for pod, left in self._left.items() if all(until <= now for until in left.values())]:
            del self._left[pod]
        effects: list[Effect] = []
        for pod, each in list(self.pods.items()):
            if each.phase is Phase.HELD and not each.nominated and each.expires_at <= now and self.tied(pod) is None:
                self._remember(pod, now)
                effects += self._forget(pod)
        return effects

    def retire(self) -> list[Effect]:
        """Give up all that is held: we lead no longer. What is being written stays."""
        idle = [pod for pod, each in self.pods.items() if each.phase is Phase.HELD and self.tied(pod) is None]
        return [effect for pod in idle for effect in self._forget(pod)]

    # Writing

    def start(self, pod: PodUid, node: NodeName) -> list[Effect]:
        """Begin to bind: the other alternatives are free. A pod that needs no devices was promised nothing."""
        reservation = self.pods.get(pod)
        if reservation is None:
            return []
        reservation.phase, reservation.bind_called = Phase.BINDING, True
        others = [each for each in reservation.nodes if each != node]
        return [effect for each in others for effect in self._leave(pod, each)]

    def rename(self, claim: ClaimUid, to: ClaimUid, what: Mapping[NodeName, object]) -> list[Effect]:
        """Give a planned claim the uid that it got when it was created. `what` it was promised, with that uid."""
        effects: list[Effect] = []
        plans = self.plans.pop(claim, {})
        for node, plan in plans.items():
            effects.append(Drop(HoldKey(node, claim, PodUid("")), freed=False))
            effects += [each for pod in plan.pods for each in self._plan(pod, node, to, what[node])]
            for pod in plan.pods:
                claims = self.pods[pod].nodes[node]
                self.pods[pod].nodes[node] = tuple(to if each == claim else each for each in claims)
        return effects

    def write(self, claim: ClaimUid, node: NodeName, base: int) -> None:
        """Take note that an allocation is about to be sent under this resourceVersion."""
        assert claim not in self.writes, "one write of a claim at a time"
        assert node in self.plans.get(claim, {}), "what is written is held"
        self.writes[claim] = Write(node, base)

    def refused(self, claim: ClaimUid) -> list[Effect]:
        """Take note that the API server did not write."""
        return self._end_write(claim)

    def lost(self, claim: ClaimUid) -> list[Effect]:
        """Take note that no answer came: the write may have landed, may land, or not."""
        if claim in self.writes:
            self.writes[claim].unknown = True
            return [Settle(claim)]
        return []

    def failed(self, pod: PodUid, now: float) -> list[Effect]:
        """Take note that `bind` failed and no Binding landed: the pod may be decided again."""
        reservation = self.pods.get(pod)
        if reservation is not None:
            reservation.phase, reservation.expires_at = Phase.HELD, now + self.hold_s
        return []

    def void(self, pod: PodUid) -> list[Effect]:
        """Take note that what the pod was promised cannot be written: others who count on its claims lose it too."""
        reservation = self.pods.get(pod)
        claims = {claim for claims in reservation.nodes.values() for claim in claims} if reservation else set()
        sharing = {other for claim in claims for plan in self.plans.get(claim, {}).values() for other in plan.pods}
        void = [each for each in sorted({pod, *sharing}) if each in self.pods and self.tied(each) is None]
        return [effect for each in void for effect in self._forget(each)]

    # What the API server says

    def seen(self, claim: ClaimUid, version: int, *, allocated: bool) -> list[Effect]:
        """Learn the state of a claim, by watch or by an answer; in the order of its resourceVersions.

        Allocated: whoever did it, no allocation of ours can follow under an older version. Not allocated: a write under
        an older version has ended without effect that lasts.
        """
        write = self.writes.get(claim)
        if write is not None and version <= write.base:
            return []
        if allocated:
            return self._close(claim, freed=False)
        return self._end_write(claim)

    def gone(self, claim: ClaimUid) -> list[Effect]:
        """Learn that a claim was deleted: nothing can be written to it."""
        return self._close(claim, freed=True)

    def bound(self, pod: PodUid) -> list[Effect]:
        """Learn that the pod has a node: it is in the books from now on."""
        self._left.pop(pod, None)
        return [Drop(each.key, freed=False) if isinstance(each, Drop) else each for each in self._forget(pod)]

    def pod_gone(self, pod: PodUid) -> list[Effect]:
        """Learn that a pod was deleted or has ended. What is being written for it stays held until that has ended."""
        self._left.pop(pod, None)
        return list(self._forget(pod))

    # Inside

    def _plan(self, pod: PodUid, node: NodeName, claim: ClaimUid, what: object) -> Iterator[Effect]:
        plans = self.plans.setdefault(claim, {})
        plan = plans.get(node)
        if plan is not None:
            assert plan.what is what, "a claim that is planned keeps its devices"
            plan.pods.add(pod)
            return
        plans[node] = Plan(what, {pod})
        yield Hold(HoldKey(node, claim, PodUid("")), what)

    def _remember(self, pod: PodUid, now: float) -> None:
        """Try the nodes of a decision that never came to `bind` last, for a while."""
        former = self.pods.get(pod)
        if former is not None and not former.bind_called:
            self._left.setdefault(pod, {}).update(dict.fromkeys(former.nodes, now + self.last_s))

    def _forget(self, pod: PodUid) -> Iterator[Effect]:
        reservation = self.pods.get(pod)
        for node in list(reservation.nodes) if reservation else ():
            yield from self._leave(pod, node)
        self.pods.pop(pod, None)

    def _leave(self, pod: PodUid, node: NodeName) -> Iterator[Effect]:
        """Take a node from a pod's alternatives; plans that nobody counts on and nobody writes end."""
        yield Drop(HoldKey(node, ClaimUid(""), pod), freed=True)
        for claim in self.pods[pod].nodes.pop(node):
            plan = self.plans.get(claim, {}).get(node)
            if plan is not None:
                plan.pods.discard(pod)
                yield from self._prune(claim, node)

    def _prune(self, claim: ClaimUid, node: NodeName) -> Iterator[Effect]:
        plans = self.plans.get(claim, {})
        write = self.writes.get(claim)
        if node not in plans or plans[node].pods or (write is not None and write.node == node):
            return
        del plans[node]
        if not plans:
            del self.plans[claim]
        yield Drop(HoldKey(node, claim, PodUid("")), freed=True)

    def _end_write(self, claim: ClaimUid) -> list[Effect]:
        write = self.writes.pop(claim, None)
        return [] if write is None else list(self._prune(claim, write.node))

    def _close(self, claim: ClaimUid, *, freed: bool) -> list[Effect]:
        self.writes.pop(claim, None)
        return [Drop(HoldKey(node, claim, PodUid("")), freed) for node in self.plans.pop(claim, {})]
