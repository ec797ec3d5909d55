"""One combination of an ask on every node that the core cannot speak for: what was found, kept until a node changes.

Nodes alike in all that matters are searched once: the same layout, what is in use, taints, and the attributes that
constraints look at.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from packing.dra.amounts import consumed
from packing.dra.firstfit import first_fit
from packing.dra.gpus import Judge, is_choice, is_set, nodes_alike, slices_of
from packing.dra.layout import Layout
from packing.dra.ledger import Ledger
from packing.dra.model import Ask, Given, SubRequest
from packing.dra.placed import Names
from packing.dra.problem import Item, Node, items_of
from packing.dra.search import BoundHitError, Effort, Plan, Solution, exists, preferred
from packing.dra.taking import consumed_by
from packing.dra.translate import Combination, bits_of, selected
from packing.kernels.arrays import CPU, INFEASIBLE, MEMORY, NONE, UNDECIDED, Flags, Ints
from packing.model import LinkWish
from packing.policy import Policy

LOOK_STEPS = 50
"""What it costs to look at a node for one more combination, in steps of a search: measured, and rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Devices per request of a combination, good on every node alike."""

    items: list[Item]
    solution: Solution


class General:
    """Scores of one combination by node: `INFEASIBLE`, `UNDECIDED`, or that of what `found` has for the node."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask, combination: Combination) -> None:
        """Start knowing nothing."""
        nodes = len(ledger.inventory.reach)
        self._ledger = ledger
        self._judge = Judge(ledger, policy, ask)
        self._ask = ask
        self._combination = combination
        self._seen: Ints = np.full(nodes, NONE, dtype=np.int64)
        self.scores: Ints = np.full(nodes, INFEASIBLE, dtype=np.int64)
        self.found: dict[int, Found] = {}

    def refresh(self, nodes: Flags, effort: Effort, *, look: int = 0) -> bool:
        """Bring the scores of `nodes` [N] up to date; False where the effort did not suffice for all. SelectorError.

        The others are `UNDECIDED`, and the next to be looked at. `look` steps are counted for each node.
        """
        changed = np.flatnonzero(nodes & (self._ledger.version > self._seen)).tolist()
        known: dict[Hashable, Found | int | None] = {}
        good: list[int] = []
        late: list[int] = []
        for node in changed:
            self.found.pop(node, None)
            key = state_of(self._ledger, self._ask, self._combination, node)
            if key not in known:
                known[key] = self._within(node, effort, look)
            answer = known[key]
            if answer is None:
                self.scores[node] = UNDECIDED
                late.append(node)
            elif isinstance(answer, Found):
                self.found[node] = answer
                good.append(node)
            else:
                self.scores[node] = answer
        self._score(good)
        self._seen[changed] = self._ledger.version[changed]
        self._seen[late] = NONE
        return not late

    def _within(self, node: int, effort: Effort, look: int) -> Found | int | None:
        """Search a node; None where the effort of the whole decision is used up."""
        try:
            effort.find.spend(look)
            return self._search(node, effort) if effort.find.left else None
        except BoundHitError:
            return UNDECIDED if effort.find.left else None

    def _score(self, nodes: list[int]) -> None:
        by_items: dict[int, list[int]] = {}
        for node in nodes:
            by_items.setdefault(id(self.found[node].items), []).append(node)
        for some in by_items.values():
            choices = [(node, self.found[node].solution) for node in some]
            self.scores[some] = self._judge.solutions(self.found[some[0]].items, choices)

    def _search(self, n: int, effort: Effort) -> Found | int:
        """Return the devices that the policy prefers on a node, or why there are none. Raises BoundHitError."""
        inventory = self._ledger.inventory
        layout = inventory.layout(n)
        if not self._has_host(n):
            return INFEASIBLE
        node = Node.of(layout, inventory.reach[n], self._ledger.in_use)
        items = items_of(node, self._ask.claims, self._combination)
        if inventory.unready[n] and any(item.every for item in items):
            return INFEASIBLE
        linked = {
            i: self._judge.plan(n, item).options
            for i, item in enumerate(items)
            if item.sub.link is LinkWish.REQUIRE and is_set(layout, item)
        }
        first = exists(node, self._ask.claims, items, linked, effort.find)
        if first is None:
            return INFEASIBLE
        return Found(items, self._best(n, node, items, first, effort))

    def _has_host(self, n: int) -> bool:
        """Whether cores and memory are left."""
        free = self._ledger.usage.arrays.nodes[n]
        return bool(free[CPU] >= self._ask.cpu_milli and free[MEMORY] >= self._ask.memory_mib)

    def _best(self, n: int, node: Node, items: list[Item], first: Solution, effort: Effort) -> Solution:
        """Return the best by the policy of what is found within bounds; `first` is known to do."""
        choosing = [i for i, item in enumerate(items) if is_choice(node.layout, item)]
        if not choosing:
            return first
        plans = [
            self._judge.plan(n, item) if i in choosing else Plan([(bit,) for bit in bits_of(item.candidates)])
            for i, item in enumerate(items)
        ]
        found = [*preferred(node, self._ask.claims, items, plans, choosing, effort.better), first]
        if len(found) == 1:
            return first
        scores = self._judge.solutions(items, [(n, solution) for solution in found])
        slices = [slices_of(node.layout, [bit for bits in solution for bit in bits]) for solution in found]
        return found[max(range(len(found)), key=lambda at: (-slices[at], scores[at], -at))]

    def givens(self, node: int, names: Names) -> tuple[tuple[Given, ...], ...]:
        """Return the devices found for a node, per claim in the order of its requests."""
        found = self.found[node]
        claims: list[list[Given]] = [[] for _ in self._ask.claims]
        for item, bits in zip(found.items, found.solution, strict=True):
            for bit in self._listed(bits):
                device = self._ledger.inventory.device(node, bit)
                name = names.of(item.claim, item.position, item.sub)
                given = Given(name, device, item.sub.admin, consumed_by(item, bit))
                claims[item.claim].append(given)
        return tuple(tuple(results) for results in claims)

    def _listed(self, bits: tuple[int, ...]) -> Sequence[int]:
        """Return the devices of a request in the order in which an allocation lists them."""
        return sorted(bits)


def state_of(ledger: Ledger, ask: Ask, combination: Combination, node: int) -> Hashable:
    """Return all of a node that matters to an ask: equal for nodes on which the same devices can be had."""
    inventory = ledger.inventory
    reach, layout = inventory.reach[node], inventory.layout(node)
    attributes = {constraint.attribute for claim in ask.claims for constraint in claim.constraints}
    pools = tuple(
        (
            ledger.in_use.pool(one.pool).content(),
            tuple(sorted(one.pool.tainted.items())),
            tuple(own.get(name) for name in attributes & one.pool.shape.own for own in one.pool.identity),
        )
        for one in reach
    )
    chosen = tuple(
        None if sub.selection.by_shape else selected(layout, reach, sub) for claim in combination for sub in claim
    )
    return nodes_alike(inventory, ledger, node), bool(inventory.unready[node]), pools, chosen


class Predicted(General):
    """The same for what the in-tree allocator picks on each node, the first that fits, alternatives included."""

    def __init__(self, ledger: Ledger, policy: Policy, ask: Ask) -> None:
        """Start knowing nothing."""
        subs = tuple(tuple(sub for each in claim.requests for sub in each.alternatives) for claim in ask.claims)
        super().__init__(ledger, policy, ask, subs)

    def _search(self, n: int, effort: Effort) -> Found | int:
        """Return what the in-tree allocator picks; cores and memory are not its business. Raises BoundHitError."""
        found = first_fit(self._ledger, n, self._ask, effort.find)
        if found is None:
            return INFEASIBLE
        layout = self._ledger.inventory.layout(n)
        items: list[Item] = []
        solution: list[tuple[int, ...]] = []
        for claim, results in enumerate(found):
            for position, request in enumerate(self._ask.claims[claim].requests):
                for sub in request.alternatives:
                    bits = tuple(bit for taken, bit in results if taken is sub)
                    if bits:
                        items.append(_picked(layout, claim, position, sub, bits))
                        solution.append(bits)
        return Found(items, tuple(solution))

    def _listed(self, bits: tuple[int, ...]) -> Sequence[int]:
        """Return them as they were picked."""
        return bits


def _picked(layout: Layout, claim: int, position: int, sub: SubRequest, bits: tuple[int, ...]) -> Item:
    """Return a request with the devices picked for it as its only candidates."""
    mask = sum(1 << bit for bit in bits)
    item = Item(claim, position, sub, mask, mask, len(bits))
    for bit in bits:
        device = layout.devices[bit]
        amounts = consumed(device, sub.capacity) if device.multiple else None
        if amounts is not None:
            item.takes[bit] = amounts
    return item
