"""Mode score: kube-scheduler allocates, we tell it on which node its pick is the best by our policy.

`filter` runs after the in-tree allocator has found devices on each node asked about. It refuses what kube-scheduler
would serve wrongly, and nodes where no allocation exists at all. `prioritize` ranks the others. Nothing is written, and
without an answer of ours kube-scheduler goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from kube.deciding import Decided
from kube.objects import Pod
from kube.refusal import Refusal, WishRefusal
from kube.resolved import Resolved
from packing.dra.model import Allocation
from packing.kernels.arrays import GIGA
from packing.model import NodeName
from scheduler import texts
from scheduler.decider import DecideSettings
from scheduler.foreseen import Foreseen
from scheduler.matching import unmatched
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

SETTLE_S = 2.0
"""A picture that has changed since may be another than kube-scheduler's."""
MAX_SEARCHES = 8
"""Nodes that a search shows to be possible after all, before the others are left to kube-scheduler: each costs one."""


class Cluster(Protocol):
    """Who knows what is free (`kube.cluster.Cluster`)."""

    @property
    def version(self) -> int:
        """Changes with everything that can change an answer."""
        ...

    def nodes(self) -> Collection[NodeName]:
        """Return all nodes."""
        ...

    def resolve(self, pod: Pod) -> Resolved:
        """Return what a pod asks for. Raises Refusal."""
        ...

    def decide(self, resolved: Resolved, among: Collection[str] | None) -> Decided:
        """Find an allocation wherever there is one."""
        ...

    def predict(self, resolved: Resolved, among: Collection[str] | None) -> list[tuple[Allocation, int]]:
        """Return what the in-tree allocator would pick on each node, with our scores, best first."""
        ...

    def sharing(self, resolved: Resolved, among: Collection[str] | None) -> Collection[NodeName]:
        """Return the nodes where a request admits devices that may be allocated several times."""
        ...


class Scorer:
    """Answers the verbs. `shares_refused` until it is known that this kube-scheduler gives no share away twice."""

    def __init__(
        self, cluster: Cluster, foreseen: Foreseen, clock: Callable[[], float], settings: DecideSettings
    ) -> None:
        self.shares_refused = True
        self._cluster = cluster
        self._foreseen = foreseen
        self._clock = clock
        self._settings = settings
        self._version = -1
        self._changed_s = clock()

    def filter(self, asked: ExtenderArgs) -> FilterResult:
        """Return the nodes but those that cannot serve the pod; all of them for a pod that needs no devices."""
        names = asked.node_names
        try:
            resolved = self._resolved(asked.pod)
        except WishRefusal as refusal:
            return FilterResult(failed_and_unresolvable=dict.fromkeys(names, f"dovetail: {refusal.text}"))
        if resolved is None:
            return FilterResult(node_names=names)
        lost = texts.faulty(asked.wishes.fault) if asked.wishes.fault else unmatched(resolved)
        if lost:
            return FilterResult(failed_and_unresolvable=dict.fromkeys(names, lost))
        sharing = self._cluster.sharing(resolved, names) if self.shares_refused else ()
        refused = {str(name): texts.NO_SHARES for name in sharing}
        impossible = self._impossible(resolved, [name for name in names if name not in refused])
        # Rejected pods are not woken by slices that come, and kube-scheduler may have seen some before us.
        if len(impossible) + len(refused) < len(names) or self._is_settled():
            refused |= dict.fromkeys(impossible, texts.NO_DEVICES)
        if not refused:
            return FilterResult(node_names=names)
        left = tuple(name for name in names if name not in refused)
        return FilterResult(node_names=left, failed_and_unresolvable=refused)

    def prioritize(self, asked: ExtenderArgs) -> Sequence[HostPriority]:
        """Score each node by what the in-tree allocator will pick there; all alike where that is nothing to us."""
        try:
            resolved = self._resolved(asked.pod)
        except WishRefusal:
            resolved = None
        found = [] if resolved is None else self._cluster.predict(resolved, asked.node_names)
        ranks = ranked([(allocation.node, score) for allocation, score in found], self._slack(asked.wishes))
        return [HostPriority(name, ranks.get(NodeName(name), 0)) for name in asked.node_names]

    async def bind(self, order: BindingArgs) -> str:  # noqa: ARG002
        """Refuse: kube-scheduler binds."""
        return texts.ONLY_SCORES

    async def room(self) -> None:
        """Never wait: nothing is written here."""

    def preempt(self, asked: PreemptionArgs) -> Mapping[str, Victims]:
        """Leave evictions as they are proposed."""
        return asked.victims

    def tick(self) -> None:
        """Take notice of changes; to be called now and then."""
        version = self._cluster.version
        if version != self._version:
            self._version, self._changed_s = version, self._clock()

    def _resolved(self, pod: Pod) -> Resolved | None:
        """Return what a pod asks for, None where there is nothing to tell: kube-scheduler says itself what is amiss."""
        try:
            resolved = self._cluster.resolve(pod)
        except WishRefusal:
            raise
        except Refusal:
            return None
        if not any(way.claims for way in resolved.ways):
            return None
        self._foreseen.begin(pod)
        return resolved

    def _impossible(self, resolved: Resolved, names: Sequence[str]) -> list[str]:
        """Return the nodes where no allocation exists, of those that we know."""
        served = {allocation.node for allocation, _ in self._cluster.predict(resolved, names)}
        known = self._cluster.nodes()
        left = [name for name in names if name not in served and name in known]
        for _ in range(min(MAX_SEARCHES, len(left))):
            decided = self._cluster.decide(resolved, left)
            if decided.allocation is None:
                return [] if decided.undecided or decided.fault else left
            left.remove(decided.allocation.node)
        return []

    def _is_settled(self) -> bool:
        self.tick()
        return self._clock() - self._changed_s >= SETTLE_S

    def _slack(self, wishes: Wishes) -> int:
        chosen = self._settings
        slack = max(chosen.slack, chosen.soft_slack) if wishes.soft else chosen.slack
        return round((slack if wishes.slack is None else wishes.slack) * GIGA)


def ranked(found: Sequence[tuple[NodeName, int]], slack: int = 0) -> dict[NodeName, int]:
    """Return 10 for the best of nodes given best first, and those within `slack` of it; 9 to 1 for the others.

    Without slack one node alone is the best, the first of equals: kube-scheduler draws among nodes of equal score.
    """
    ranks: dict[NodeName, int] = {}
    rank, before = MAX_PRIORITY, None
    for node, score in found:
        if not ranks or (slack and score >= found[0][1] - slack):
            ranks[node] = MAX_PRIORITY
            continue
        if score != before:
            rank, before = max(rank - 1, 1), score
        ranks[node] = rank
    return ranks
