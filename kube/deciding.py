"""Decisions on the packed cluster: which node and devices, and what is remembered of asks that did not fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from kube.rejections import Rejections
from kube.resolved import Resolved, Way
from packing.dra.allocate import Allocator, Outcome
from packing.dra.inventory import Inventory
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation, Ask, ClaimUid, SelectorError
from packing.dra.search import Effort
from packing.kernels.arrays import GIGA, Flags
from packing.model import NodeName
from packing.policy import Policy

MOST_ALTERNATIVES = 8
"""Nodes returned where some slack is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """An answer. `allocation` is None where nothing fits, or a selector failed: `fault` then says which and on what.

    `undecided`: without an allocation this is no proof that none exists, since a search ended at its bound.
    `unfinished`: that of the whole decision; the same pod asked again, it goes on from there. `score` compares nodes
    for this pod alone. `alternatives` are on other nodes within the slack asked for, best first.
    """

    allocation: Allocation | None = None
    score: int = 0
    undecided: bool = False
    unfinished: bool = False
    alternatives: tuple[Allocation, ...] = ()
    fault: str = ""


class Packed:
    """The cluster as the core has it: good until nodes, pools or the mix change. Follows what is in use."""

    def __init__(self, inventory: Inventory, ledger: Ledger, policy: Policy, *, place_all: bool) -> None:
        """With `place_all` a node that lacks cores or memory is vetoed."""
        self.inventory = inventory
        self.ledger = ledger
        self.policy = policy
        self._place_all = place_all
        self._allocator = Allocator(ledger, policy)
        self._nodes = frozenset(inventory.fabric.index)
        self._rejections: Rejections[Decided] = Rejections()
        self._freed = -1

    def decide(self, resolved: Resolved, among: Collection[str] | None, slack: float, freed: int) -> Decided:
        """Choose node and devices; see `kube.cluster`. `freed` changes whenever something may have made room."""
        if freed != self._freed:
            self._rejections.clear()
            self._freed = freed
        answers = []
        effort = Effort()
        for way in resolved.ways:
            answer = self._decide(way, among, slack, effort)
            if answer.allocation is not None:
                return answer
            answers.append(answer)
        first = next((each for each in answers if each.fault), answers[0])
        undecided, unfinished = (any(getattr(each, mark) for each in answers) for mark in ("undecided", "unfinished"))
        return replace(first, undecided=undecided, unfinished=unfinished)

    def predict(self, resolved: Resolved, among: Collection[str] | None) -> list[tuple[Allocation, int]]:
        """Return what the in-tree allocator would pick on each node, best first; see `kube.cluster`."""
        flags = self._flags(among)
        try:
            found = [each for way in resolved.ways if way.claims for each in self._allocator.predict(way.ask, flags)]
        except SelectorError:  # in-tree fails too, and says so itself
            return []
        return sorted(found, key=lambda each: -each[1]) if len(resolved.ways) > 1 else found

    def sharing(self, resolved: Resolved, among: Collection[str] | None) -> frozenset[NodeName]:
        """Return the nodes where a request of the pod admits devices that may be allocated several times."""
        flags = self._flags(among)
        found = (self._allocator.sharing(way.ask, flags) for way in resolved.ways if way.claims)
        return frozenset[NodeName]().union(*found)

    @contextmanager
    def without(self, claims: Collection[ClaimUid]) -> Iterator[None]:
        """Let these claims hold nothing for the length of a `with`."""
        kept, self._rejections = self._rejections, Rejections()
        try:
            with self.ledger.without(claims):
                yield
        finally:
            self._rejections = kept

    def _decide(self, way: Way, among: Collection[str] | None, slack: float, effort: Effort) -> Decided:
        ask = way.ask
        known = self._rejections.find(ask.signature, among)
        if known is not None:
            return known
        answer = self._allocate(ask, self._flags(among), slack, effort)
        if answer.allocation is None and not answer.unfinished and not answer.fault:  # a fault names its own claim
            self._reject(ask, among, answer, effort)
        return answer

    def _reject(self, ask: Ask, among: Collection[str] | None, answer: Decided, effort: Effort) -> None:
        """Remember that an ask does not fit. Where it fits nowhere at all, no list of nodes need be compared again.

        One that is undecided is remembered as that: no search would get further before something is freed.
        """
        if among is not None and ask.signature is not None:
            everywhere = self._allocate(ask, None, 0, effort)
            fails = everywhere.allocation is None and not everywhere.unfinished and not everywhere.fault
            among = None if fails and everywhere.undecided == answer.undecided else among
        self._rejections.keep(ask.signature, among, answer)

    def _allocate(self, ask: Ask, among: Flags | None, slack: float, effort: Effort) -> Decided:
        most = MOST_ALTERNATIVES if slack else 1

        def allocate(wanted: Ask) -> Outcome:
            return self._allocator.allocate(wanted, among, slack=round(slack * GIGA), most=most, effort=effort)

        try:
            outcome = whatever_the_host(allocate, ask, place_all=self._place_all)
        except SelectorError as error:
            return Decided(fault=str(error))
        return Decided(
            allocation=outcome.allocation,
            score=outcome.score,
            undecided=outcome.undecided,
            unfinished=outcome.unfinished,
            alternatives=tuple(allocation for allocation, _ in outcome.others),
        )

    def _flags(self, names: Collection[str] | None) -> Flags | None:
        """Return [N] the nodes of these names; None where they are all of them."""
        if names is None:
            return None
        index = self.inventory.fabric.index
        if len(names) >= len(index) and not self._nodes.difference(names):
            return None  # the usual case, where thousands of names need not be looked up
        flags = flags_of(self.inventory, names)
        return None if flags.all() else flags


def whatever_the_host(allocate: Callable[[Ask], Outcome], ask: Ask, *, place_all: bool) -> Outcome:
    """Allocate; where cores and memory are not ours to decide, a node is not refused for want of them.

    kube-scheduler has looked at them, with what it assumes of pods that we have not seen bound or gone.
    """
    outcome = allocate(ask)
    if outcome.allocation is None and not place_all and (ask.cpu_milli or ask.memory_mib):
        return allocate(devices_alone(ask))
    return outcome


def devices_alone(ask: Ask) -> Ask:
    """Return an ask without cores and memory."""
    signature = None if ask.signature is None else ("whatever cores and memory", ask.signature)
    return replace(ask, cpu_milli=0, memory_mib=0, signature=signature)


def flags_of(inventory: Inventory, names: Collection[str]) -> Flags:
    """Return [N] the nodes of these names."""
    index = inventory.fabric.index
    flags = np.zeros(len(index), dtype=np.bool_)
    flags[[at for name in names if (at := index.get(name)) is not None]] = True  # type: ignore[call-overload]
    return flags
