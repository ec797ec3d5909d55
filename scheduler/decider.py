"""The verbs of the extender: `filter` decides and reserves, `bind` writes, `preempt` vetoes vain evictions.

`filter`, `prioritize` and `preempt` never wait: each sees and leaves one state of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kube.objects import Pod, ResourceClaim
from kube.podclaims import claim_names
from kube.refusal import Refusal
from kube.resolved import Resolved
from packing.dra.model import Allocation, ClaimUid
from packing.model import NodeName
from scheduler import texts
from scheduler.bind import Binder
from scheduler.faults import BindFault, FinalFault, NoLongerFree
from scheduler.ledger import Ledger
from scheduler.portions import choice, without
from scheduler.preempt import Bystanders, kept_nodes
from scheduler.preempt import Cluster as WhatIf
from scheduler.reservations import PodUid
from scheduler.special import Promise
from scheduler.wire import (
    MAX_PRIORITY,
    BindingArgs,
    ExtenderArgs,
    FilterResult,
    HostPriority,
    PreemptionArgs,
    Victims,
    Wishes,
)

UNSEEN_S = 60.0
"""A rejected pod that the watch has not shown by then is gone."""
MAX_MISSED = 10_000


class Decided(Protocol):
    """What the cluster answers. `allocation` is None where nothing fits."""

    @property
    def allocation(self) -> Allocation | None:
        """The best."""
        ...

    @property
    def alternatives(self) -> Sequence[Allocation]:
        """Others within the slack that was asked for, best first."""
        ...

    @property
    def undecided(self) -> bool:
        """Whether a search ended at its bound: without an allocation this is no proof that none exists."""
        ...

    @property
    def fault(self) -> str:
        """Which selector failed on which device; empty: none."""
        ...


class Cluster(WhatIf, Protocol):
    """Who knows what is free (`kube.cluster.Cluster`)."""

    @property
    def version(self) -> int:
        """Changes with everything that can change an answer."""
        ...

    def resolve(self, pod: Pod) -> Resolved:
        """Return what a pod asks for. Raises Refusal."""
        ...

    def decide(self, resolved: Resolved, among: Collection[str] | None, *, slack: float = 0.0) -> Decided:
        """Choose node and devices."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideSettings:
    """How `filter` answers. Slack is in whole GPUs of future demand by which a node may be worse than the best."""

    place_all: bool = False
    """Pods without devices are decided too."""
    slack: float = 0.0
    soft_slack: float = 0.05
    """For pods with preferences that kube-scheduler weighs."""
    max_alternatives: int = 4


@dataclass(frozen=True, slots=True)
class _Rejected:
    version: int
    names: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """No node; `text` says why, where it is not for want of devices."""

    text: str = ""


class Decider:
    """Answers the verbs. `leads` tells whether decisions may be made here."""

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        *,
        leads: Callable[[], bool],
        clock: Callable[[], float],
        settings: DecideSettings = DecideSettings(),
    ) -> None:
        self.cluster = cluster
        self.ledger = ledger
        self.reservations = ledger.reservations
        self.leads = leads
        self.clock = clock
        self.settings = settings
        self.binder: Binder | None = None
        """Set once it is made: it asks us for promises."""
        self.waiting: dict[PodUid, float] = {}
        """Pods that were rejected and not placed since, and when that was last; for the wake-ups."""
        self.missed: dict[tuple[str, str], float] = {}
        """Claims of rejected pods that we had not seen: kube-scheduler had, and will not try again because of them.

        And when that was.
        """
        self._promised: dict[PodUid, dict[NodeName, Promise]] = {}
        self._rejections: dict[object, _Rejected] = {}

    # Verbs

    def filter(self, asked: ExtenderArgs) -> FilterResult:
        """Decide, reserve, and return the chosen node; all nodes for a pod that needs no devices."""
        pod, names = asked.pod, asked.node_names
        try:
            resolved = self.cluster.resolve(pod)
        except Refusal as refusal:
            if len(self.missed) < MAX_MISSED:
                self.missed |= dict.fromkeys(self._unseen(pod), self.clock())
            return self._reject(pod, names, refusal.text)
        if not resolved.has_devices and not self.settings.place_all:
            return FilterResult(node_names=names)
        if not self.leads():
            return FilterResult(error=texts.NOT_LEADING)
        if asked.wishes.fault and resolved.has_devices:
            return self._reject(pod, names, texts.faulty(asked.wishes.fault))
        return self._filter(pod, names, resolved, self._slack(asked.wishes))

    def prioritize(self, asked: ExtenderArgs) -> Sequence[HostPriority]:
        """Score the nodes by the order of the decision; all alike where there is none."""
        order = list(self._promised.get(PodUid(asked.pod.metadata.uid), ()))
        ranks = {node: max(MAX_PRIORITY - at, 0) for at, node in enumerate(order)}
        return [HostPriority(name, ranks.get(NodeName(name), 0)) for name in asked.node_names]

    async def bind(self, order: BindingArgs) -> str:
        """Write the claims and the binding. Returns why it failed, nothing for success."""
        assert self.binder is not None, "the binder is set before requests are answered"
        return await self.binder.bind(order.pod_namespace, order.pod_name, order.pod_uid, order.node)

    async def room(self) -> None:
        """Wait, for a while, where so many pods are being bound that another one would only wait."""
        if self.binder is not None:
            await self.binder.room()

    def preempt(self, asked: PreemptionArgs) -> Mapping[str, Victims]:
        """Return the nodes where evicting the victims would free the devices."""
        try:
            resolved = self.cluster.resolve(asked.pod)
        except Refusal:
            return {}
        if not resolved.has_devices:
            return asked.victims
        if not self.leads():
            return {}
        bystanders = Bystanders(self.ledger.view)
        victims = {NodeName(node): frozenset(each.uids) for node, each in asked.victims.items()}
        kept = kept_nodes(asked.pod, resolved, victims, self.cluster, bystanders)
        return {node: asked.victims[node] for node in kept}

    # For `bind`

    def promise(self, pod: Pod, node: NodeName) -> Promise:
        """Return what the pod gets on a node, after a new decision where it was promised nothing. Raises BindFault."""
        uid = PodUid(pod.metadata.uid)
        reservation = self.reservations.pods.get(uid)
        kept = self._promised.get(uid, {}).get(node)
        if kept is not None and reservation is not None and node in reservation.nodes:
            if kept.claims and not self.leads():
                raise BindFault(texts.NOT_LEADING)
            return kept
        try:
            resolved = self.cluster.resolve(pod)
        except Refusal as refusal:
            raise FinalFault(refusal.text) from refusal
        if not resolved.has_devices and not self.settings.place_all:
            return Promise(())
        if not self.leads():
            raise BindFault(texts.NOT_LEADING)
        tied = self.reservations.tied(uid)
        if tied is not None:
            raise BindFault(texts.tied_elsewhere(tied))
        chosen = self._choose(pod, resolved, (node,), 0.0)
        if isinstance(chosen, _Nowhere):
            raise NoLongerFree(chosen.text or texts.no_longer_free(node))
        return self._promised[uid][node]

    def tick(self) -> None:
        """Give up what was never fetched, and forget pods that are gone."""
        self.ledger.apply(self.reservations.expire(self.clock()))
        pods = self.ledger.view.pods
        lately = self.clock() - UNSEEN_S
        self.waiting = {
            uid: since
            for uid, since in self.waiting.items()
            if (not pods[uid].spec.node_name if uid in pods else since > lately)
        }
        for uid in [uid for uid in self._promised if uid not in self.reservations.pods]:
            del self._promised[uid]
        self.missed = {claim: since for claim, since in self.missed.items() if since > lately}
        version = self.cluster.version
        self._rejections = {key: each for key, each in self._rejections.items() if each.version == version}

    def came(self, claim: ResourceClaim) -> bool:
        """Whether a pod was rejected for want of this claim, which the watch shows now."""
        key = (claim.metadata.namespace, claim.metadata.name)
        return self.missed.pop(key, None) is not None

    # Inside

    def _unseen(self, pod: Pod) -> set[tuple[str, str]]:
        names = {(pod.metadata.namespace, name) for name in claim_names(pod)}
        return {each for each in names if self.ledger.view.claim(*each) is None}

    def _filter(self, pod: Pod, names: tuple[str, ...], resolved: Resolved, slack: float) -> FilterResult:
        uid = PodUid(pod.metadata.uid)
        tied = self.reservations.tied(uid)
        if tied is not None:
            return self._only(pod, tied, names)
        held = self.reservations.pods.get(uid)
        nominated = NodeName(pod.status.nominated_node_name)
        if held is not None and nominated in held.nodes and nominated in names:
            self.reservations.nominate(uid, nominated)
            return FilterResult(node_names=(nominated,))
        self.ledger.apply(self.reservations.decide(uid, {}, self.clock()))
        key = (tuple(way.ask.signature for way in resolved.ways), tuple(each.nodes for each in resolved.joined))
        cached = self._cached(key, resolved, names)
        if cached is not None:
            return self._reject(pod, names, cached)
        chosen = self._choose(pod, resolved, names, slack)
        if isinstance(chosen, _Nowhere):
            text = chosen.text or self._why(resolved, names)
            if not chosen.text:  # else it is told of the pod's own claim, or more steps may find something
                self._rejections[key] = _Rejected(self.cluster.version, names, text)
            return self._reject(pod, names, text)
        self.waiting.pop(uid, None)
        return FilterResult(node_names=chosen)

    def _choose(self, pod: Pod, resolved: Resolved, names: Sequence[str], slack: float) -> tuple[str, ...] | _Nowhere:
        """Decide and reserve; return the nodes, best first."""
        uid = PodUid(pod.metadata.uid)
        planned = self._planned(resolved)
        left = without(resolved, {claim: node for claim, (node, _) in planned.items()})
        slack = 0.0 if planned or _shared(resolved) else slack
        last = self.reservations.tried_last(uid, self.clock())
        found = self._allocations(left, [name for name in names if name not in last] if last else names, slack)
        if isinstance(found, _Nowhere) and last:
            found = self._allocations(left, [name for name in names if name in last], slack)
        taken = {claim: what for claim, (_, what) in planned.items()}
        allocations = [] if isinstance(found, _Nowhere) else found
        choices = {each.node: choice(left, each, taken) for each in allocations}
        self.ledger.apply(self.reservations.decide(uid, choices, self.clock()))
        if isinstance(found, _Nowhere):
            return found
        self._promised[uid] = {node: self._promise(resolved, node) for node in choices}
        return tuple(choices)

    def _slack(self, wishes: Wishes) -> float:
        if wishes.slack is not None:
            return wishes.slack
        return max(self.settings.slack, self.settings.soft_slack) if wishes.soft else self.settings.slack

    def _allocations(self, resolved: Resolved, names: Sequence[str], slack: float) -> list[Allocation] | _Nowhere:
        if not names:
            return _Nowhere()
        decided = self.cluster.decide(resolved, names, slack=slack)
        if decided.allocation is None:
            return _Nowhere(texts.faulty(decided.fault) if decided.fault else texts.BOUND * decided.undecided)
        found = [decided.allocation]
        for each in decided.alternatives if slack else ():
            if len(found) < self.settings.max_alternatives and not any(_overlap(each, other) for other in found):
                found.append(each)
        return found

    def _planned(self, resolved: Resolved) -> dict[ClaimUid, tuple[NodeName, object]]:
        """Return what others were promised of the claims that this pod shares with them."""
        claims = {each.ask.uid for way in resolved.ways for each in way.claims}
        found = {claim: self.reservations.planned(claim) for claim in sorted(claims)}
        return {claim: plan for claim, plan in found.items() if plan is not None}

    def _promise(self, resolved: Resolved, node: NodeName) -> Promise:
        way = resolved.way_to(node)
        assert way is not None, "the promise is of one of the ways"
        claims = [ClaimUid(each.claim.metadata.uid) for each in resolved.joined]
        claims += [each.ask.uid for each in way.claims]
        special = way.special
        if special is not None and ClaimUid(special.claim.metadata.uid) not in claims:
            claims.append(ClaimUid(special.claim.metadata.uid))
        return Promise(tuple(claims), special)

    def _cached(self, key: object, resolved: Resolved, names: tuple[str, ...]) -> str | None:
        cached = self._rejections.get(key)
        if (
            cached is None
            or cached.version != self.cluster.version
            or any(w.ask.signature is None for w in resolved.ways)
        ):
            return None
        return cached.text if cached.names == names and not self._planned(resolved) else None

    def _why(self, resolved: Resolved, names: Collection[str]) -> str:
        tied = [way.ask.nodes for way in resolved.ways if way.ask.nodes is not None]
        if resolved.joined and tied and not any(nodes & set(names) for nodes in tied):
            return texts.ALLOCATED_ELSEWHERE
        return texts.NO_DEVICES

    def _only(self, pod: Pod, node: NodeName, names: tuple[str, ...]) -> FilterResult:
        if node in names:
            return FilterResult(node_names=(node,))
        return self._reject(pod, names, texts.ALLOCATED_ELSEWHERE)

    def _reject(self, pod: Pod, names: tuple[str, ...], text: str) -> FilterResult:
        """Refuse all nodes for good: evicting pods is for `preempt` to judge, not for kube-scheduler to try."""
        uid = PodUid(pod.metadata.uid)
        self.waiting[uid] = self.clock()
        if self.reservations.tied(uid) is None:
            self.ledger.apply(self.reservations.decide(uid, {}, self.clock()))
        return FilterResult(failed_and_unresolvable=dict.fromkeys(names, text))


def _shared(resolved: Resolved) -> bool:
    """Whether a claim of the pod may be of other pods too: then there is one node to agree on."""
    claims = (each.claim for way in resolved.ways for each in way.claims)
    return any(claim.metadata.controller is None for claim in claims)


def _overlap(one: Allocation, other: Allocation) -> bool:
    devices = {given.device for claim in one.claims for given in claim}
    return any(given.device in devices for claim in other.claims for given in claim)
