"""One combination of an ask on every node that the core cannot speak for: what was found, kept until a node changes.

Nodes alike in all that matters are searched once: the same layout, what is in use, taints, and the attributes that
constraints look at.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from packing.dra.gpus import Judge, is_choice, is_set, nodes_alike
from packing.dra.ledger import Ledger
from packing.dra.model import Ask, Given
from packing.dra.problem import Item, Node, items_of
from packing.dra.search import BoundHitError, Plan, Solution, exists, preferred
from packing.dra.taking import consumed_by
from packing.dra.translate import Combination, bits_of, selected
from packing.kernels.arrays import CPU, INFEASIBLE, MEMORY, NONE, UNDECIDED, Flags, Ints
from packing.model import LinkWish
from packing.policy import Policy


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

    def refresh(self, nodes: Flags) -> None:
        """Bring the scores of `nodes` [N] up to date. Raises SelectorError."""
        changed = np.flatnonzero(nodes & (self._ledger.version > self._seen)).tolist()
        known: dict[Hashable, Found | int] = {}
        good: list[int] = []
        for node in changed:
            self.found.pop(node, None)
            key = self._key(node)
            if key not in known:
                known[key] = self._search(node)
            answer = known[key]
            if isinstance(answer, Found):
                self.found[node] = answer
                good.append(node)
            else:
                self.scores[node] = answer
        self._score(good)
        self._seen[changed] = self._ledger.version[changed]

    def _score(self, nodes: list[int]) -> None:
        by_items: dict[int, list[int]] = {}
        for node in nodes:
            by_items.setdefault(id(self.found[node].items), []).append(node)
        for some in by_items.values():
            choices = [(node, self.found[node].solution) for node in some]
            self.scores[some] = self._judge.solutions(self.found[some[0]].items, choices)

    def _key(self, node: int) -> Hashable:
        """Return what tells a node from others as far as this ask goes."""
        inventory = self._ledger.inventory
        reach, layout = inventory.reach[node], inventory.layout(node)
        attributes = {constraint.attribute for claim in self._ask.claims for constraint in claim.constraints}
        pools = tuple(
            (
                self._ledger.in_use.pool(one.pool).content(),
                tuple(sorted(one.pool.tainted.items())),
                tuple(own.get(name) for name in attributes for own in one.pool.identity) if attributes else (),
            )
            for one in reach
        )
        chosen = tuple(
            None if sub.selection.by_shape else selected(layout, reach, sub)
            for claim in self._combination
            for sub in claim
        )
        return nodes_alike(inventory, self._ledger, node), bool(inventory.unready[node]), pools, chosen

    def _search(self, n: int) -> Found | int:
        """Return the devices that the policy prefers on a node, or why there are none."""
        inventory = self._ledger.inventory
        layout = inventory.layout(n)
        free = self._ledger.usage.arrays.nodes[n]
        if free[CPU] < self._ask.cpu_milli or free[MEMORY] < self._ask.memory_mib:
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
        try:
            first = exists(node, self._ask.claims, items, linked)
        except BoundHitError:
            return UNDECIDED
        if first is None:
            return INFEASIBLE
        return Found(items, self._best(n, node, items, first))

    def _best(self, n: int, node: Node, items: list[Item], first: Solution) -> Solution:
        """Return the best by the policy of what is found within bounds; `first` is known to do."""
        choosing = [i for i, item in enumerate(items) if is_choice(node.layout, item)]
        if not choosing:
            return first
        plans = [
            self._judge.plan(n, item) if i in choosing else Plan([(bit,) for bit in bits_of(item.candidates)])
            for i, item in enumerate(items)
        ]
        found = [*preferred(node, self._ask.claims, items, plans, choosing), first]
        if len(found) == 1:
            return first
        scores = self._judge.solutions(items, [(n, solution) for solution in found])
        return found[int(np.argmax(scores))]

    def givens(self, node: int, names: Sequence[Sequence[str]]) -> tuple[tuple[Given, ...], ...]:
        """Return the devices found for a node, per claim in the order of its requests, which `names` names."""
        found = self.found[node]
        claims: list[list[Given]] = [[] for _ in self._ask.claims]
        for item, bits in zip(found.items, found.solution, strict=True):
            for bit in sorted(bits):
                device = self._ledger.inventory.device(node, bit)
                name = names[item.claim][item.position]
                given = Given(name, device, item.sub.admin, consumed_by(item, bit))
                claims[item.claim].append(given)
        return tuple(tuple(results) for results in claims)
