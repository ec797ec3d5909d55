"""Node and devices for an ask: the first alternatives that some node can serve, on the node that the policy likes best.

Two ways to the same end. Where the ask means GPUs alone and the node is plain, `place()` decides over all nodes at
once; elsewhere devices are searched node by node (`packing.dra.general`) and judged by the same policy. What `place()`
chose is checked against the devices before it counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from packing.dra.general import LOOK_STEPS, General, Predicted
from packing.dra.ledger import Ledger
from packing.dra.model import Allocation, Ask
from packing.dra.placed import Names, Taken, are_free, devices_of, givens_of, told_of
from packing.dra.search import BoundHitError, Effort, Steps
from packing.dra.translate import Combination, bits_of, combinations, selected, translate
from packing.kernels.arrays import UNDECIDED, Flags
from packing.memory import memory_of
from packing.model import Demand, NodeName
from packing.place import Decision, place
from packing.policy import Policy

MAX_COMBINATIONS = 4096
"""Choices among alternatives that are tried; more than that is undecided."""
WAY_STEPS = 10
"""What it costs to go through one more choice, in steps of a search: measured, and rounded."""
LAYOUT_STEPS = 30
"""The same to make it for one layout."""
MAX_ASKS = 128
"""Asks of which something is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `allocate` answers: an allocation, or None where no node can serve the ask.

    `undecided`: a search ended at its bound, so that without an allocation this is no proof that none exists.
    `unfinished`: the bound was that of the whole decision, and the same ask goes on from there next time. `score` is
    the policy's. `others` are allocations on further nodes within the slack asked for, best first, with theirs.
    """

    allocation: Allocation | None
    score: int = 0
    undecided: bool = False
    unfinished: bool = False
    others: tuple[tuple[Allocation, int], ...] = ()


class Allocator:
    """Allocates under one policy beside what one ledger holds; reads it, changes nothing but its own memory."""

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        """Start knowing nothing of any ask."""
        assert policy.fabric is ledger.inventory.fabric, "the policy was made for another fabric"
        self._ledger = ledger
        self._policy = policy
        self._asks: OrderedDict[Hashable, Known] = OrderedDict()

    def allocate(
        self, ask: Ask, among: Flags | None = None, *, slack: int = 0, most: int = 1, effort: Effort | None = None
    ) -> Outcome:
        """Decide node and devices. `among` [N] restricts the nodes, beside `ask.nodes`.

        With `most` over 1, up to so many nodes whose scores are at most `slack` below the best. Raises SelectorError
        where a selector fails. `effort` is what is left of that of a decision of several asks.
        """
        undecided = unfinished = False
        effort = effort or Effort()
        nodes = self._admitted(ask, among)
        known = self._known(ask)
        names = Names(known.ask, ask)
        with told_of(known.ask, ask):
            for way in known.ways(effort.find):
                field = Field(self._ledger, self._policy, way, nodes, effort)
                best = field.best()
                undecided |= field.undecided
                unfinished |= field.unfinished
                if best is not None:
                    allocation, score = field.allocation(best, names)
                    others = field.others(best, names, score - slack, most - 1) if most > 1 else ()
                    return Outcome(allocation=allocation, score=score, others=others)
        unfinished |= known.cut_short and not known.exhausted
        return Outcome(allocation=None, undecided=undecided or known.cut_short, unfinished=unfinished)

    def predict(self, ask: Ask, among: Flags | None = None) -> list[tuple[Allocation, int]]:
        """Return what the in-tree allocator (1.36) would pick on each node, with the policy's score of it, best first.

        Nodes on which it finds nothing, or on which that cannot be told within bounds, are left out. Link wishes are
        not known to it. Raises SelectorError.
        """
        nodes = self._admitted(ask, among)
        known = self._known(ask)
        predicted = known.predicted
        with told_of(known.ask, ask):
            predicted.refresh(nodes, Effort())
        scores = np.where(nodes, predicted.scores, UNDECIDED)
        order = np.argsort(-scores, kind="stable")
        names = Names(known.ask, ask)
        fabric = self._ledger.inventory.fabric
        return [
            (Allocation(node=fabric.nodes[node].name, claims=predicted.givens(node, names)), int(scores[node]))
            for node in order[scores[order] > UNDECIDED].tolist()
        ]

    def sharing(self, ask: Ask, among: Flags | None = None) -> list[NodeName]:
        """Return the nodes where a request admits devices that may be allocated several times. Raises SelectorError."""
        inventory = self._ledger.inventory
        subs = [sub for claim in ask.claims for request in claim.requests for sub in request.alternatives]
        return [
            inventory.fabric.nodes[node].name
            for node in np.flatnonzero(self._admitted(ask, among)).tolist()
            if any(
                inventory.layout(node).devices[bit].multiple
                for sub in subs
                for bit in bits_of(selected(inventory.layout(node), inventory.reach[node], sub))
            )
        ]

    def _admitted(self, ask: Ask, among: Flags | None) -> Flags:
        nodes = np.ones(len(self._ledger.inventory.reach), dtype=np.bool_) if among is None else among
        if ask.nodes is None:
            return nodes
        index = self._ledger.inventory.fabric.index
        named = np.zeros(len(nodes), dtype=np.bool_)
        named[[index[name] for name in ask.nodes if name in index]] = True
        return nodes & named

    def _known(self, ask: Ask) -> Known:
        """Return what is remembered of an ask, or of one with the same signature."""
        key: Hashable = ("id", id(ask)) if ask.signature is None else ("signature", ask.signature, _sizes(ask))
        known = self._asks.get(key)
        if known is None or (ask.signature is None and known.ask is not ask):
            known = self._asks[key] = Known(self._ledger, self._policy, ask)
            if len(self._asks) > MAX_ASKS:
                self._asks.popitem(last=False)
        self._asks.move_to_end(key)
        return known


def _sizes(ask: Ask) -> Hashable:
    """Return what the demand of the core adds to the signature."""
    return ask.cpu_milli, ask.memory_mib


class Known:
    """What is remembered of an ask: its ways, in order, as far as they were needed."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask) -> None:
        """Start with no way."""
        self.ask = ask
        self.cut_short = False
        """Whether not all ways were gone through."""
        self._ledger = ledger
        self._policy = policy
        self._left = combinations(ask)
        self._next = next(self._left, None)
        self._ways: list[Way] = []

    def ways(self, steps: Steps) -> Iterator[Way]:
        """Yield the ways, the first alternatives first. Raises SelectorError, and again wherever it is asked again.

        Ends, `cut_short`, where `steps` are used up. The first way costs none.
        """
        at = 0
        self.cut_short = False
        while at < len(self._ways) or self._next is not None:
            made = at < len(self._ways)
            try:
                if self.exhausted and not made:
                    raise BoundHitError
                if at:
                    steps.spend(WAY_STEPS if made else WAY_STEPS + LAYOUT_STEPS * len(self._ledger.inventory.layouts))
            except BoundHitError:
                self.cut_short = True
                return
            if not made:
                self._extend()
            yield self._ways[at]
            at += 1

    @property
    def exhausted(self) -> bool:
        """Whether as many ways were made as are tried."""
        return len(self._ways) == MAX_COMBINATIONS

    def _extend(self) -> None:
        """Make the next way."""
        assert self._next is not None, "there is a next way"
        self._ways.append(Way(self._ledger, self._policy, self.ask, self._next, first=not self._ways))
        self._next = next(self._left, None)  # only now: a way that fails to be made is the next one still

    @cached_property
    def predicted(self) -> Predicted:
        """What the in-tree allocator would pick."""
        return Predicted(self._ledger, self._policy, self.ask)


class Way:
    """One choice among the alternatives of an ask, and what is known of it on all nodes."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask, combination: Combination, *, first: bool) -> None:
        """Translate it. Raises SelectorError."""
        self.combination = combination
        self.look = 0 if first else LOOK_STEPS
        """Steps that count for each node looked at: none for the first way, without which nothing is decided."""
        self.translation = translate(ledger.inventory, ask, combination)
        self._of = (ledger, policy, ask)

    @cached_property
    def general(self) -> General:
        """What was searched."""
        return General(*self._of, self.combination)


class Field:
    """The nodes on which one way may be gone, with their scores: those of `place()`, and those searched."""

    def __init__(self, ledger: Ledger, policy: Policy, way: Way, nodes: Flags, effort: Effort) -> None:
        """Bring all scores up to date. Raises SelectorError."""
        self._ledger = ledger
        self._policy = policy
        self._way = way
        self.undecided = False
        self.unfinished = False
        self._searched = way.translation.general & nodes
        self._fast: list[tuple[Demand, Flags, Decision]] = []
        speaks = ledger.inventory.plain & ledger.exact
        if any(sub.tolerations for claim in way.combination for sub in claim):
            speaks &= ~ledger.inventory.tainted
        for group in way.translation.groups:
            asked = group.nodes & nodes
            fast = asked & speaks if group.demand.requests else asked
            self._searched |= asked & ~fast
            decision = self._place(group.demand, fast)
            self._fast.append((group.demand, fast, decision))
            self.undecided |= decision.undecided
        if self._searched.any():
            self.unfinished = not way.general.refresh(self._searched, effort, look=way.look)
            self.undecided |= bool((way.general.scores[self._searched] == UNDECIDED).any())

    def best(self) -> int | None:
        """Return the node of the highest score, the first of equals."""
        index = self._ledger.inventory.fabric.index
        found = [
            (-decision.score, index[decision.placement.node])
            for _, _, decision in self._fast
            if decision.placement is not None
        ]
        if self._searched.any():
            scores = np.where(self._searched, self._way.general.scores, UNDECIDED)
            at = int(scores.argmax())
            if scores[at] > UNDECIDED:
                found.append((-int(scores[at]), at))
        return min(found)[1] if found else None

    def allocation(self, node: int, names: Names) -> tuple[Allocation, int]:
        """Return the devices of a node that serves the ask, and its score."""
        name = self._ledger.inventory.fabric.nodes[node].name
        if self._searched[node]:
            general = self._way.general
            return Allocation(node=name, claims=general.givens(node, names)), int(general.scores[node])
        decision = self._decision(node)
        assert decision.placement is not None, "the node serves the ask"
        taken = self._taken(node, decision)
        return Allocation(
            node=name, claims=givens_of(self._ledger, node, self._way.combination, taken, names)
        ), decision.score

    def others(self, best: int, names: Names, least: int, most: int) -> tuple[tuple[Allocation, int], ...]:
        """Return up to `most` more nodes that score at least `least`, best first."""
        scores = np.full(len(self._searched), UNDECIDED, dtype=np.int64)
        memory = memory_of(self._ledger.usage, self._policy)
        for demand, fast, _ in self._fast:
            row = memory.row(self._ledger.usage.classes.index(demand))
            scores[fast] = memory.cache.scores[row, : len(scores)][fast]
        if self._searched.any():
            scores[self._searched] = self._way.general.scores[self._searched]
        scores[best] = UNDECIDED
        order = np.argsort(-scores, kind="stable")
        good = (scores[order] > UNDECIDED) & (scores[order] >= least)
        found: list[tuple[Allocation, int]] = []
        for node in order[good].tolist():
            if len(found) == most:
                break
            if self._searched[node] or self._serves(node):
                found.append(self.allocation(node, names))
        return tuple(found)

    def _place(self, demand: Demand, fast: Flags) -> Decision:
        """Let the core decide among `fast`; nodes of which it is wrong are left to the search."""
        ledger = self._ledger
        while True:
            among = None if fast.all() else fast
            decision = place(ledger.usage.fabric, ledger.usage, demand, self._policy, among)
            if decision.placement is None or self._holds(decision):
                return decision
            node = ledger.inventory.fabric.index[decision.placement.node]
            fast[node] = False
            self._searched[node] = True

    def _decision(self, node: int) -> Decision:
        """Return what the core decides for one node."""
        for demand, fast, decision in self._fast:
            if fast[node]:
                index = self._ledger.inventory.fabric.index
                if decision.placement is not None and index[decision.placement.node] == node:
                    return decision
                alone = np.zeros(len(fast), dtype=np.bool_)
                alone[node] = True
                return place(self._ledger.usage.fabric, self._ledger.usage, demand, self._policy, alone)
        raise AssertionError(f"node {node} is not among those decided")

    def _serves(self, node: int) -> bool:
        decision = self._decision(node)
        return decision.placement is not None and self._holds(decision)

    def _holds(self, decision: Decision) -> bool:
        """Whether the devices of a decision are free, as devices."""
        assert decision.placement is not None
        node = self._ledger.inventory.fabric.index[decision.placement.node]
        taken = [one for claim in self._taken(node, decision) for request in claim for one in request]
        return are_free(self._ledger, node, taken)

    def _taken(self, node: int, decision: Decision) -> list[list[list[Taken]]]:
        assert decision.placement is not None
        layout = self._ledger.inventory.layout(node)
        return devices_of(layout, self._way.combination, decision.demand.requests, decision.placement)
