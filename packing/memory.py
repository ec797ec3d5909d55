"""What a policy remembers of a usage between decisions: scores by node version, for the demand classes seen last.

Never an input of a decision: forgetting costs time, not sense. Bounded, since a live cluster may see any number of
demands.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from packing.kernels.arrays import NONE, Cache, new_cache, new_choice, new_local
from packing.model import MAX_REQUESTS_PER_POD
from packing.policy import Policy
from packing.usage import Usage

BUDGET_BYTES = 256 * 2**20
"""Most memory for scores of one policy on one usage."""
BYTES_PER_SCORE = 16
FEWEST_ROWS = 32
FIRST_ROWS = 8


class Memory:
    """Score rows of at most `max_rows` demand classes, the least recently used forgotten first, and work space."""

    def __init__(self, nodes: int, fgd_sizes: int, *, rows: int = FIRST_ROWS, max_rows: int = 0) -> None:
        """Start with `rows` rows; by default as many may come as the budget holds for `nodes` nodes."""
        self._nodes = nodes
        self._fgd_sizes = fgd_sizes
        self.max_rows = max_rows or max(FEWEST_ROWS, BUDGET_BYTES // (BYTES_PER_SCORE * max(1, nodes)))
        self._row_of: OrderedDict[int, int] = OrderedDict()
        self.cache = new_cache(rows, nodes, fgd_sizes)
        self.local = new_local(MAX_REQUESTS_PER_POD + 1)
        self.choice = new_choice(MAX_REQUESTS_PER_POD)

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
        grown: Cache = new_cache(min(self.max_rows, 2 * rows), self._nodes, self._fgd_sizes)
        for old, new in zip(self.cache, grown, strict=True):
            new[tuple(slice(0, size) for size in old.shape)] = old
        self.cache = grown


_memories: WeakKeyDictionary[Usage, WeakKeyDictionary[Policy, Memory]] = WeakKeyDictionary()


def memory_of(usage: Usage, policy: Policy) -> Memory:
    """Return the memory of `policy` on `usage`; it goes when either does."""
    by_policy = _memories.setdefault(usage, WeakKeyDictionary())
    memory = by_policy.get(policy)
    if memory is None:
        memory = Memory(len(usage.fabric.nodes), policy.arrays.fgd_sizes.size)
        by_policy[policy] = memory
    return memory
