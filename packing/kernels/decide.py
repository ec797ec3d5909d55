"""The decision: one pass over the nodes, re-scoring those that changed since this demand class was last seen."""

from __future__ import annotations

from packing.kernels.arrays import (
    NONE,
    RANDOM,
    UNDECIDED,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.choose import draw
from packing.kernels.evaluate import evaluate
from packing.kernels.jit import hot_kernel, inner_kernel


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
) -> int:
    """Bring the scores of class `c`, kept in `row`, up to date; return the first node with the highest, or NONE."""
    scores, seen = cache.scores[row], cache.seen[row]
    best = UNDECIDED
    chosen = NONE
    for node in range(usage.version.size):
        if seen[node] != usage.version[node]:
            scores[node] = evaluate(fabric, usage, policy, demands, c, node, cache, local, out_choice)
            seen[node] = usage.version[node]
        if scores[node] > best:
            best = scores[node]
            chosen = node
    return chosen


@inner_kernel
def _draw_feasible(seed: int, events: int, scores: Ints) -> int:
    """Return a uniformly drawn feasible node; there is one."""
    feasible = 0
    for node in range(scores.size):
        if scores[node] > UNDECIDED:
            feasible += 1
    skip = draw(seed, events, feasible) % feasible
    for node in range(scores.size):
        if scores[node] > UNDECIDED:
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
    any feasible node).
    """
    node = _refresh(fabric, usage, policy, demands, c, row, cache, local, out_choice)
    if node != NONE and policy.code == RANDOM:
        node = _draw_feasible(policy.seed, usage.events[0], cache.scores[row])
    if node != NONE:
        evaluate(fabric, usage, policy, demands, c, node, cache, local, out_choice)
    return node
