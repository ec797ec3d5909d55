"""The most link-disjoint Hamiltonian cycles through a few GPUs: how many NVLink rings can run at once. Exact.

Each cycle uses one link of every pair it passes; a pair with two links can serve two cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from topology.cycleprogram import pack_by_integer_program
from topology.rings import pair_sum

Links = tuple[tuple[int, ...], ...]
Cycle = tuple[int, ...]

MAX_STEPS = 4000
"""Search steps before the integer program takes over; real machines need fewer than a hundred."""


@lru_cache(maxsize=1 << 16)
def disjoint_cycles(links: Links) -> int:
    """How many link-disjoint Hamiltonian cycles fit into the multigraph `links` ([k][k] link counts, k >= 3)."""
    if next(_orders(links, (0,)), None) is None:
        return 0
    ceiling = _ceiling(links)
    if ceiling == 1:
        return 1
    cycles = hamiltonian_cycles(links)
    counts = tuple(links[i][j] for i, j in pairs(len(links)))
    search = _Search(len(links))
    try:
        for target in range(ceiling, 1, -1):
            if search.fits(counts, cycles, target):
                return target
    except _TooManyStepsError:
        return pack_by_integer_program(counts, cycles)
    return 1


def pairs(k: int) -> list[tuple[int, int]]:
    """Return the pairs of k GPUs in the order in which their links are counted."""
    return [(i, j) for i in range(k) for j in range(i + 1, k)]


def hamiltonian_cycles(links: Links) -> tuple[Cycle, ...]:
    """Every Hamiltonian cycle over linked pairs, once, as the numbers of the pairs it uses."""
    k = len(links)
    number = {pair: at for at, pair in enumerate(pairs(k))}
    return tuple(
        tuple(number[min(a, b), max(a, b)] for a, b in zip(order, (*order[1:], order[0]), strict=True))
        for order in _orders(links, (0,))
    )


def _orders(links: Links, path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    k = len(links)
    if len(path) == k:
        # Each cycle is met in both directions; the one whose second GPU is below its last is kept.
        if path[1] < path[-1] and links[path[-1]][0]:
            yield path
        return
    for nxt in range(1, k):
        if links[path[-1]][nxt] and nxt not in path:
            yield from _orders(links, (*path, nxt))


def _ceiling(links: Links) -> int:
    """Upper bound: a Hamiltonian cycle crosses every cut at least twice (a single GPU is a cut, too)."""
    degrees = np.array([sum(row) for row in links], dtype=np.int64)
    if degrees.min() < 4:
        return int(degrees.min()) // 2
    sides = np.arange(1, (1 << len(links)) - 1)
    inside = degrees @ (sides >> np.arange(len(links))[:, None] & 1)
    cuts = inside - 2 * pair_sum(np.array(links, dtype=np.int64))[1:-1]
    return int(cuts.min()) // 2


class _TooManyStepsError(Exception):
    """The search gave up before it could decide."""


class _Search:
    """Depth-first search for `target` disjoint cycles, branching on a link of the GPU that has fewest to spare."""

    def __init__(self, k: int) -> None:
        self.pairs_of = [[at for at, pair in enumerate(pairs(k)) if gpu in pair] for gpu in range(k)]
        self.steps = 0

    def fits(self, counts: tuple[int, ...], cycles: tuple[Cycle, ...], target: int) -> bool:
        """Whether `target` of `cycles` (repeats allowed) can run over `counts` links at once."""
        if target == 0:
            return True
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _TooManyStepsError
        degrees = [sum(counts[pair] for pair in mine) for mine in self.pairs_of]
        gpu = min(range(len(degrees)), key=degrees.__getitem__)
        live = tuple(cycle for cycle in cycles if all(counts[pair] for pair in cycle))
        if degrees[gpu] < 2 * target or not live:
            return False
        through = {pair: [c for c in live if pair in c] for pair in self.pairs_of[gpu] if counts[pair]}
        pair = min(through, key=lambda p: len(through[p]))
        for cycle in sorted(through[pair], key=lambda c: -min(counts[p] for p in c)):
            if self.fits(_without(counts, cycle), live, target - 1):
                return True
            # Every packing that uses this cycle has been tried.
            live = tuple(other for other in live if other != cycle)
        # The pair's links left over serve nobody.
        spared = (*counts[:pair], 0, *counts[pair + 1 :])
        return self.fits(spared, live, target)


def _without(counts: tuple[int, ...], cycle: Cycle) -> tuple[int, ...]:
    left = list(counts)
    for pair in cycle:
        left[pair] -= 1
    return tuple(left)
