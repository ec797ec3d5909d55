"""The score of devices that were chosen elsewhere: what `evaluate` would say of a node had it chosen them itself."""

from __future__ import annotations

from packing.kernels.arrays import (
    CPU,
    DOVETAIL,
    IDLE,
    INFEASIBLE,
    KIND,
    KIND_PARTITION,
    KIND_WHOLE,
    MAX_GPUS,
    MEMORY,
    UNITS,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.choose import links_satisfy
from packing.kernels.devices import idle_gpus, partition_starts, share_fits, take_choice
from packing.kernels.evaluate import score_of, worth_with
from packing.kernels.jit import hot_kernel, inner_kernel
from packing.kernels.search import copy_node


@inner_kernel
def _can_take(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, first: int, choice: Choice, gpus: Ints
) -> bool:
    """Whether the devices chosen for unit `u` are free on a node's table and linked as the unit requires."""
    chosen = choice.gpus[u]
    if demands.units[c, u, KIND] == KIND_WHOLE:
        free = idle_gpus(fabric, shape, first, gpus)
        return chosen & ~free == 0 and links_satisfy(fabric, demands, c, u, shape, chosen)
    for i in range(MAX_GPUS):
        if not chosen >> i & 1:
            continue
        if demands.units[c, u, KIND] == KIND_PARTITION:
            if not partition_starts(fabric, choice.profile[u], first + i, i, gpus) >> choice.start[u] & 1:
                return False
        elif not share_fits(fabric, demands.units[c, u], first + i, i, gpus):
            return False
    return True


@inner_kernel
def _judge(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    choice: Choice,
    cache: Cache,
    local: Ints,
) -> int:
    """Return the score of class `c` on a node with the devices in `choice`; INFEASIBLE where they are not free."""
    cpu = usage.nodes[node, CPU] - demands.pods[c, CPU]
    memory = usage.nodes[node, MEMORY] - demands.pods[c, MEMORY]
    if cpu < 0 or memory < 0:
        return INFEASIBLE
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    shape, idle = fabric.node_shape[node], usage.nodes[node, IDLE]
    copy_node(usage, first, last, local)
    after = local[0]
    for u in range(demands.pods[c, UNITS]):
        if not _can_take(fabric, demands, c, u, shape, first, choice, after):
            return INFEASIBLE
        take_choice(fabric, demands, c, u, first, choice, after)
    worth = 0
    if policy.code == DOVETAIL:
        worth = worth_with(fabric, policy, demands, c, shape, first, idle, cpu, memory, after, choice)
    return score_of(fabric, usage, policy, demands, c, node, worth, cache, after)


@hot_kernel
def judge_choices(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    at: Ints,
    choices: Ints,
    cache: Cache,
    local: Ints,
    choice: Choice,
    out_scores: Ints,
) -> None:
    """Score each choice: `at` [K, 2] demand class and node, `choices` [K, 3, U] GPUs, profile and start per unit."""
    for k in range(at.shape[0]):
        for u in range(choices.shape[2]):
            choice.gpus[u] = choices[k, 0, u]
            choice.profile[u] = choices[k, 1, u]
            choice.start[u] = choices[k, 2, u]
        out_scores[k] = _judge(fabric, usage, policy, demands, at[k, 0], at[k, 1], choice, cache, local)
