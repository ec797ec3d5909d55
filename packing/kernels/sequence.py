"""A row of arrivals, decided and applied one by one: the loop of `place()` and `Usage.apply` without Python between.

Uses the same `decide` and `commit`; a test proves that both ways give the same placements.
"""

from __future__ import annotations

from packing.kernels.amounts import choice_milli
from packing.kernels.arrays import (
    CPU,
    NONE,
    UNITS,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Floats,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.commit import commit
from packing.kernels.decide import decide
from packing.kernels.frag import node_frag
from packing.kernels.jit import hot_kernel, inner_kernel


@inner_kernel
def node_fragmentation(
    fabric: FabricArrays, usage: UsageArrays, policy: PolicyArrays, node: int, scratch: Ints
) -> float:
    """Return FGD's fragmentation of one node, thousandths of a GPU."""
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    gpus = usage.gpus[first:last]
    return node_frag(policy, fabric.node_shape[node], usage.nodes[node, CPU], last - first, gpus, scratch)


@hot_kernel
def place_all(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    classes: Ints,
    order: Ints,
    cache: Cache,
    local: Ints,
    choice: Choice,
    node_frags: Floats,
    out_node: Ints,
    out_gpus: Ints,
    out_used: Ints,
    out_frag: Floats,
) -> None:
    """Decide and apply every arrival of `order` (positions in `classes`); what does not fit is dropped.

    `node_frags` [N] is scratch. Per arrival: node or NONE, GPUs of all units as one set, compute in use (thousandths,
    running total) and FGD's fragmentation of the whole cluster (thousandths).
    """
    total_frag = 0.0
    for node in range(node_frags.size):
        node_frags[node] = node_fragmentation(fabric, usage, policy, node, cache.frag_scratch)
        total_frag += node_frags[node]
    used = 0
    for at in range(order.size):
        row = order[at]
        c = classes[row]
        node = decide(fabric, usage, policy, demands, c, row, cache, local, choice)
        gpus = 0
        if node != NONE:
            commit(fabric, usage, demands, c, node, choice, 1)
            used += choice_milli(fabric, demands, c, node, choice)
            for u in range(demands.pods[c, UNITS]):
                gpus |= choice.gpus[u]
            frag = node_fragmentation(fabric, usage, policy, node, cache.frag_scratch)
            total_frag += frag - node_frags[node]
            node_frags[node] = frag
        out_node[at] = node
        out_gpus[at] = gpus
        out_used[at] = used
        out_frag[at] = total_frag
