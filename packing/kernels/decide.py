"""The decision: re-score the nodes that changed since this demand class was last seen, then take the best.

Usage keeps its nodes in the order of their last change, so the changed ones are the first of that order; the best one
is at the top of a tree of maxima. Neither costs a pass over the nodes (docs/decisions/0006-scale.md).
"""

from __future__ import annotations

from packing.kernels.arrays import (
    NONE,
    OLDER,
    RANDOM,
    UNDECIDED,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Flags,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.choose import draw
from packing.kernels.evaluate import evaluate
from packing.kernels.jit import hot_kernel, inner_kernel
from packing.kernels.maxima import best_among, best_node, update_maxima

MANY_BITS = 3
"""From 2^-3 of the nodes on, the changed are taken as they lie in memory: passing others is cheaper than jumping."""


@inner_kernel
def changed_nodes(usage: UsageArrays, seen: int, out: Ints) -> int:
    """Fill `out` with the nodes that changed after event `seen` and return how many there are."""
    nodes = usage.version.size
    count = 0
    node = usage.recent[nodes, OLDER]
    while count < nodes >> MANY_BITS and usage.version[node] > seen:
        out[count] = node
        count += 1
        node = usage.recent[node, OLDER]
    if count < nodes >> MANY_BITS:
        return count
    count = 0
    for node in range(nodes):
        if usage.version[node] > seen:
            out[count] = node
            count += 1
    return count


@inner_kernel
def _refresh(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    row: int,
    cache: Cache,
    local: Ints,
    out_choice: Choice,
) -> None:
    """Bring the scores of class `c`, kept in `row`, up to date."""
    tree, changed = cache.scores[row], cache.changed
    count = changed_nodes(usage, cache.seen[row], changed)
    for at in range(count):
        tree[changed[at]] = evaluate(fabric, usage, policy, demands, c, changed[at], cache, local, out_choice)
    # A loop of its own: climbing in the one above makes the machine code of `evaluate` half as fast.
    for at in range(count):
        update_maxima(tree, cache.levels, changed[at])
    cache.seen[row] = usage.events[0]


@inner_kernel
def _draw_feasible(seed: int, events: int, scores: Ints, among: Flags, nodes: int) -> int:
    """Return a uniformly drawn feasible node; there is one."""
    feasible = 0
    for node in range(nodes):
        if scores[node] > UNDECIDED and (among.size == 0 or among[node]):
            feasible += 1
    skip = draw(seed, events, feasible) % feasible
    for node in range(nodes):
        if scores[node] > UNDECIDED and (among.size == 0 or among[node]):
            if skip == 0:
                return node
            skip -= 1
    return NONE


@hot_kernel
def decide(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    row: int,
    cache: Cache,
    local: Ints,
    out_choice: Choice,
) -> int:
    """Return the node for demand class `c` and, in `out_choice`, its devices; NONE where no node can serve it.

    Read-only but for the cache and scratch. The best score wins, the lowest node index among equals (policy `random`:
    any feasible node). With `cache.among`, of those nodes alone.
    """
    _refresh(fabric, usage, policy, demands, c, row, cache, local, out_choice)
    scores = cache.scores[row]
    node = best_among(scores, cache.among) if cache.among.size else best_node(scores, cache.levels)
    if node != NONE and policy.code == RANDOM:
        node = _draw_feasible(policy.seed, usage.events[0], scores, cache.among, usage.version.size)
    if node != NONE:
        evaluate(fabric, usage, policy, demands, c, node, cache, local, out_choice)
    return node
