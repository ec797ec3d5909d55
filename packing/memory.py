"""What a policy remembers of a usage between decisions: the scores of all nodes, for the demand classes seen last.

Never an input of a decision: forgetting costs time, not sense. Bounded, since a live cluster may see any number of
demands.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

import numpy as np

from packing.kernels.arrays import NONE, Cache, new_choice, new_local
from packing.kernels.maxima import empty_trees, level_starts
from packing.model import MAX_REQUESTS_PER_POD
from packing.policy import Policy
from packing.usage import Usage

BUDGET_BYTES = 256 * 2**20
"""Most memory for scores of one policy on one usage."""
BYTES_PER_SCORE = 10
"""A score, and its part of the maxima above it, a seventh of a score; rounded up."""
FEWEST_ROWS = 32
FIRST_ROWS = 8


class Memory:
    """Score rows of at most `max_rows` demand classes, the least recently used forgotten first, and work space."""

    def __init__(self, nodes: int, fgd_sizes: int, *, rows: int = FIRST_ROWS, max_rows: int = 0) -> None:
        """Start with `rows` rows; by default as many may come as the budget holds for `nodes` nodes."""
        self.max_rows = max_rows or max(FEWEST_ROWS, BUDGET_BYTES // (BYTES_PER_SCORE * max(1, nodes)))
        self._row_of: OrderedDict[int, int] = OrderedDict()
        levels = level_starts(nodes)
        self.cache = Cache(
            scores=empty_trees(rows, levels),
            levels=levels,
            seen=np.full(rows, NONE, dtype=np.int64),
            changed=np.zeros(nodes, dtype=np.int64),
            worth=np.zeros(nodes, dtype=np.int64),
            frag=np.zeros(nodes, dtype=np.float64),
            node_seen=np.full(nodes, NONE, dtype=np.int64),
            frag_scratch=np.zeros((2, fgd_sizes), dtype=np.int64),
            among=np.zeros(0, dtype=np.bool_),
        )
        self.local = new_local(MAX_REQUESTS_PER_POD + 1)
        self.choice = new_choice(MAX_REQUESTS_PER_POD)

    @classmethod
    def of_rows(cls, policy: Policy, rows: int) -> Memory:
        """Return the memory of a loop that keeps its own rows, `rows` of them and never more."""
        rows = max(1, rows)
        return cls(len(policy.fabric.nodes), policy.arrays.fgd_sizes.size, rows=rows, max_rows=rows)

    def row(self, demand_class: int) -> int:
        """Return the row of a demand class, taking that of the class not asked for longest where all are in use."""
        row = self._row_of.get(demand_class)
        if row is None:
            if len(self._row_of) < self.max_rows:
                row = len(self._row_of)
                self._grow(row + 1)
            else:
                _, row = self._row_of.popitem(last=False)
                self.cache.seen[row] = NONE
            self._row_of[demand_class] = row
        self._row_of.move_to_end(demand_class)
        return row

    def _grow(self, rows: int) -> None:
        """Make room for at least `rows` rows."""
        if rows <= len(self.cache.scores):
            return
        old = self.cache
        more = min(self.max_rows, 2 * rows) - len(old.seen)
        scores = np.concatenate([old.scores, empty_trees(more, old.levels)])
        seen = np.concatenate([old.seen, np.full(more, NONE, dtype=np.int64)])
        self.cache = old._replace(scores=scores, seen=seen)


_memories: WeakKeyDictionary[Usage, WeakKeyDictionary[Policy, Memory]] = WeakKeyDictionary()


def memory_of(usage: Usage, policy: Policy) -> Memory:
    """Return the memory of `policy` on `usage`; it goes when either does."""
    by_policy = _memories.setdefault(usage, WeakKeyDictionary())
    memory = by_policy.get(policy)
    if memory is None:
        memory = Memory(len(usage.fabric.nodes), policy.arrays.fgd_sizes.size)
        by_policy[policy] = memory
    return memory
