"""The decision: one pass over the nodes, re-scoring those that changed since this demand class was last seen."""

from __future__ import annotations

from packing.kernels.arrays import (
    DOVETAIL,
    FGD,
    NONE,
    RANDOM,
    UNDECIDED,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    Local,
    PolicyArrays,
    UsageArrays,
    Work,
)
from packing.kernels.choose import draw
from packing.kernels.evaluate import evaluate, node_value
from packing.kernels.frag import node_frag
from packing.kernels.jit import hot_kernel, inner_kernel


@inner_kernel
def _refresh_node(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    node: int,
    cache: Cache,
    local: Local,
    work: Work,
) -> None:
    """Bring what the cache holds of the node itself up to date."""
    if policy.code == DOVETAIL:
        cache.worth[node] = node_value(fabric, usage, policy, node, local, work)
    elif policy.code == FGD:
        first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
        shape = fabric.node_shape[node]
        cache.frag[node] = node_frag(policy, shape, usage.cpu_left[node], last - first, usage.gpu_milli[first:last])
    cache.node_seen[node] = usage.version[node]


@inner_kernel
def refresh(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    cache: Cache,
    local: Local,
    work: Work,
    out_choice: Choice,
) -> int:
    """Bring the scores of demand class `c` up to date; return the first node with the highest, or NONE."""
    scores, seen = cache.scores[c], cache.seen[c]
    best = UNDECIDED
    chosen = NONE
    for node in range(scores.size):
        if seen[node] != usage.version[node]:
            if cache.node_seen[node] != usage.version[node]:
                _refresh_node(fabric, usage, policy, node, cache, local, work)
            scores[node] = evaluate(
                fabric, usage, policy, demands, c, node, cache.worth[node], cache.frag[node], local, work, out_choice
            )
            seen[node] = usage.version[node]
        if scores[node] > best:
            best = scores[node]
            chosen = node
    return chosen


@inner_kernel
def _choose_random(seed: int, events: int, scores: Ints) -> int:
    """Return a uniformly drawn feasible node, or NONE."""
    chosen = NONE
    best = NONE
    for node in range(scores.size):
        if scores[node] > UNDECIDED:
            key = draw(seed, events, node)
            if key > best:
                best = key
                chosen = node
    return chosen


@hot_kernel
def decide(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    cache: Cache,
    local: Local,
    work: Work,
    out_choice: Choice,
) -> int:
    """Return the node for demand class `c` and, in `out_choice`, its devices; NONE where no node can serve it.

    Read-only but for the cache and scratch. The best score wins, the lowest node index among equals (policy `random`:
    any feasible node).
    """
    node = refresh(fabric, usage, policy, demands, c, cache, local, work, out_choice)
    if node != NONE and policy.code == RANDOM:
        node = _choose_random(policy.seed, usage.events[0], cache.scores[c])
    if node != NONE:
        evaluate(fabric, usage, policy, demands, c, node, cache.worth[node], cache.frag[node], local, work, out_choice)
    return node
