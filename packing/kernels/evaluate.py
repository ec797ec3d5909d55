"""Tries one demand on one node: which devices each unit would get, and how good the node is for it.

Units are served in the order of the demand, each by the policy's own preference. Where that runs into a dead end (a pod
with several requests whose first took what only the last could use), `packing.kernels.search` finds any allocation.
A pod of one unit, the common case, is tried on the cluster's own rows without changing them; others on a copy.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    ASKED,
    BEST_FIT,
    COUNT,
    CPU,
    DOT_PRODUCT,
    DOVETAIL,
    FGD,
    GPU_CLUSTERING,
    GPU_PACKING,
    IDLE,
    INFEASIBLE,
    KIND,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    LEFT,
    MEMORY,
    NONE,
    SPREAD,
    UNDECIDED,
    UNITS,
    UPSTREAM,
    WORST_FIT,
    Cache,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    PolicyArrays,
    UsageArrays,
)
from packing.kernels.choose import first_set, simple_partition, simple_share
from packing.kernels.devices import popcount, share_fits, take_choice
from packing.kernels.frag import gradient_score, node_frag, prefer_gradient
from packing.kernels.jit import inner_kernel
from packing.kernels.prefer import link_value, partition_cost, prefer_partition, prefer_share, prefer_whole
from packing.kernels.score import asked_milli, best_fit, clustering, dot_product, idle_milli, packing, upstream
from packing.kernels.search import FOUND, NOT_FOUND, any_allocation, copy_node
from packing.kernels.worth import node_worth, spare_row


@inner_kernel
def _record(out_choice: Choice, u: int, gpus: int, profile: int, start: int) -> None:
    """Write down the devices of a unit."""
    out_choice.gpus[u] = gpus
    out_choice.profile[u] = profile
    out_choice.start[u] = start


@inner_kernel
def _shares(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, first: int, gpus: Ints) -> int:
    """Return the GPUs of a node on which share unit `u` fits, bit mask."""
    allowed = demands.allowed[c, u, shape]
    fitting = 0
    for i in range(fabric.shape_gpus[shape]):
        if allowed >> i & 1 and share_fits(fabric, demands.units[c, u], first + i, i, gpus):
            fitting |= 1 << i
    return fitting


@inner_kernel
def _before(fabric: FabricArrays, usage: UsageArrays, policy: PolicyArrays, node: int, cache: Cache) -> None:
    """Bring what the cache holds of the node itself up to date."""
    if cache.node_seen[node] == usage.version[node]:
        return
    cpu, memory, idle = usage.nodes[node, CPU], usage.nodes[node, MEMORY], usage.nodes[node, IDLE]
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    shape, gpus = fabric.node_shape[node], usage.gpus[first:last]
    if policy.code == DOVETAIL:
        row = spare_row(policy, cpu, memory)
        worth, _, _ = node_worth(fabric, policy, row, shape, first, idle, 0, cpu, memory, gpus)
        cache.worth[node] = worth
    elif policy.code == FGD:
        cache.frag[node] = node_frag(policy, shape, cpu, last - first, gpus, cache.frag_scratch)
    cache.node_seen[node] = usage.version[node]


@inner_kernel
def _serve_preferred(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    shape: int,
    first: int,
    idle: int,
    cpu: int,
    memory: int,
    gpus: Ints,
    out_choice: Choice,
) -> int:
    """Serve all units as the default policy prefers; return worth after plus links less partitions, or INFEASIBLE.

    `cpu` and `memory` are to spare once the pod is there. With several units `gpus` is changed.
    """
    row = spare_row(policy, cpu, memory)
    units = demands.pods[c, UNITS]
    worth = extra = 0
    if units == 0:
        worth, _, _ = node_worth(fabric, policy, row, shape, first, idle, 0, cpu, memory, gpus)
    for u in range(units):
        kind = demands.units[c, u, KIND]
        taken = 0
        profile = start = NONE
        if kind == KIND_WHOLE:
            taken, value = prefer_whole(fabric, policy, demands, c, u, shape, idle)
            if taken:
                worth, _, _ = node_worth(fabric, policy, row, shape, first, idle, taken, cpu, memory, gpus)
                extra += value
        elif kind == KIND_PARTITION or _shares(fabric, demands, c, u, shape, first, gpus):
            worth, kept_cpu, kept_memory = node_worth(fabric, policy, row, shape, first, idle, 0, cpu, memory, gpus)
            keep = (kept_cpu, kept_memory)
            if kind == KIND_SHARE:
                gpu, change = prefer_share(
                    fabric, policy, demands, c, u, row, shape, first, idle, cpu, memory, keep, gpus
                )
            else:
                gpu, profile, start, change = prefer_partition(
                    fabric, policy, demands, c, u, row, shape, first, idle, cpu, memory, keep, gpus
                )
                if gpu != NONE:
                    extra -= partition_cost(fabric, first + gpu, profile)
            taken = 1 << gpu if gpu != NONE else 0
            worth += change
        if taken == 0:
            return INFEASIBLE
        _record(out_choice, u, taken, profile, start)
        if units > 1:
            take_choice(fabric, demands, c, u, first, out_choice, gpus)
        idle &= ~taken
    return int(worth + extra)


@inner_kernel
def _serve_simply(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    idle: int,
    cache: Cache,
    gpus: Ints,
    out_choice: Choice,
) -> bool:
    """Serve all units by the policy's rule for devices; False where it meets a dead end. May change `gpus`."""
    shape = fabric.node_shape[node]
    first = fabric.gpu_start[node]
    code, seed, events = policy.code, policy.seed, usage.events[0]
    units = demands.pods[c, UNITS]
    for u in range(units):
        gpu = profile = start = NONE
        taken = 0
        kind = demands.units[c, u, KIND]
        if kind == KIND_WHOLE:
            taken = first_set(fabric, demands, c, u, shape, idle)
        elif kind == KIND_PARTITION:
            gpu, profile, start = simple_partition(fabric, code, seed, events, demands, c, u, shape, first, gpus)
        elif code == FGD:
            candidates = _shares(fabric, demands, c, u, shape, first, gpus)
            if candidates:
                _before(fabric, usage, policy, node, cache)
                cpu = usage.nodes[node, CPU] - demands.pods[c, CPU]
                asked = demands.units[c, u, ASKED]
                count = fabric.shape_gpus[shape]
                before = cache.frag[node]
                gpu, _ = prefer_gradient(policy, shape, cpu, count, candidates, asked, before, gpus, cache.frag_scratch)
        else:
            gpu = simple_share(fabric, code, seed, events, demands, c, u, shape, first, gpus)
        if gpu != NONE:
            taken = 1 << gpu
        if taken == 0:
            return False
        _record(out_choice, u, taken, profile, start)
        idle &= ~taken
        if units > 1 or code == FGD:
            take_choice(fabric, demands, c, u, first, out_choice, gpus)
    return True


@inner_kernel
def _simple_score(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    cache: Cache,
    after: Ints,
) -> int:
    """Return the node score of a policy other than the default; `after` are the node's GPUs after the pod (FGD)."""
    code = policy.code
    shape = fabric.node_shape[node]
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    gpus = usage.gpus[first:last]
    cpu_left, cpu = usage.nodes[node, CPU], demands.pods[c, CPU]
    if code == FGD:
        _before(fabric, usage, policy, node, cache)
        frag = node_frag(policy, shape, cpu_left - cpu, last - first, after, cache.frag_scratch)
        return gradient_score(cache.frag[node], frag)
    if code == UPSTREAM:
        memory_left = usage.nodes[node, MEMORY] - demands.pods[c, MEMORY]
        return upstream(cpu_left - cpu, fabric.node_size[node, CPU], memory_left, fabric.node_size[node, MEMORY])
    gpu_left = idle_milli(last - first, gpus)
    if code == DOT_PRODUCT:
        return dot_product(cpu_left, cpu, gpu_left, asked_milli(fabric, demands, c))
    if code in (BEST_FIT, WORST_FIT):
        score = best_fit(cpu_left, cpu, gpu_left, asked_milli(fabric, demands, c))
        return score if code == BEST_FIT else -score
    if code == GPU_CLUSTERING:
        return clustering(demands, c, gpu_left, usage.hosted[node])
    if code == GPU_PACKING:
        return packing(fabric, demands, c, shape, first, usage.nodes[node, IDLE], gpus)
    if code == SPREAD and last > first:
        return gpu_left // (last - first)
    return 0  # first-fit and random: all feasible nodes are equal


@inner_kernel
def _lacks_room(fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, node: int) -> bool:
    """Whether the node surely cannot serve the first unit: the cheap test that most full nodes end with."""
    if demands.pods[c, UNITS] == 0:
        return False
    if demands.units[c, 0, KIND] == KIND_WHOLE:
        allowed = demands.allowed[c, 0, fabric.node_shape[node]]
        return popcount(usage.nodes[node, IDLE] & allowed) < demands.units[c, 0, COUNT]
    if demands.units[c, 0, KIND] == KIND_SHARE:
        asked = demands.units[c, 0, ASKED]
        for g in range(fabric.gpu_start[node], fabric.gpu_start[node + 1]):
            if usage.gpus[g, LEFT] >= asked:
                return False
        return True
    return False


@inner_kernel
def worth_with(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    shape: int,
    first: int,
    idle: int,
    cpu: int,
    memory: int,
    after: Ints,
    choice: Choice,
) -> int:
    """Return worth plus links less partitions (default policy) of a node where all units have their devices.

    `idle` is before the pod, `after` the node's GPUs with it; `cpu` and `memory` are to spare beside it.
    """
    for u in range(demands.pods[c, UNITS]):
        idle &= ~choice.gpus[u]
    row = spare_row(policy, cpu, memory)
    worth, _, _ = node_worth(fabric, policy, row, shape, first, idle, 0, cpu, memory, after)
    for u in range(demands.pods[c, UNITS]):
        if demands.units[c, u, KIND] == KIND_WHOLE:
            worth += link_value(fabric, policy, demands.units[c, u], shape, choice.gpus[u])
        elif demands.units[c, u, KIND] == KIND_PARTITION:
            gpu = 0
            while not choice.gpus[u] >> gpu & 1:
                gpu += 1
            worth -= partition_cost(fabric, first + gpu, choice.profile[u])
    return int(worth)


@inner_kernel
def score_of(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    worth: int,
    cache: Cache,
    after: Ints,
) -> int:
    """Return the score of a node; `worth` is that of `worth_with` (default policy), `after` its GPUs with the pod."""
    if policy.code == DOVETAIL:
        _before(fabric, usage, policy, node, cache)
        return int(worth - cache.worth[node] - policy.rank_weight * node)
    return int(_simple_score(fabric, usage, policy, demands, c, node, cache, after))


@inner_kernel
def _search(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    cpu: int,
    memory: int,
    local: Ints,
    out_choice: Choice,
) -> int:
    """Look for any allocation of several units; return worth with links (default policy), 0 (others) or why not."""
    shape = fabric.node_shape[node]
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    copy_node(usage, first, last, local)
    found = any_allocation(fabric, demands, c, shape, first, local, out_choice)
    if found != FOUND:
        return INFEASIBLE if found == NOT_FOUND else UNDECIDED
    if policy.code != DOVETAIL:
        return 0
    idle = usage.nodes[node, IDLE]
    return worth_with(fabric, policy, demands, c, shape, first, idle, cpu, memory, local[0], out_choice)


@inner_kernel
def evaluate(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    cache: Cache,
    local: Ints,
    out_choice: Choice,
) -> int:
    """Return the score of class `c` on a node and its devices in `out_choice`; INFEASIBLE or UNDECIDED if none."""
    cpu = usage.nodes[node, CPU] - demands.pods[c, CPU]
    memory = usage.nodes[node, MEMORY] - demands.pods[c, MEMORY]
    if cpu < 0 or memory < 0 or _lacks_room(fabric, usage, demands, c, node):
        return INFEASIBLE
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    shape, idle = fabric.node_shape[node], usage.nodes[node, IDLE]
    gpus = usage.gpus[first:last]
    units = demands.pods[c, UNITS]
    if units > 1 or policy.code == FGD:
        copy_node(usage, first, last, local)
        gpus = local[0]
    if policy.code == DOVETAIL:
        score = _serve_preferred(fabric, policy, demands, c, shape, first, idle, cpu, memory, gpus, out_choice)
    else:
        served = _serve_simply(fabric, usage, policy, demands, c, node, idle, cache, gpus, out_choice)
        score = 0 if served else INFEASIBLE
    if score == INFEASIBLE and units > 1:
        score = _search(fabric, usage, policy, demands, c, node, cpu, memory, local, out_choice)
    if score <= UNDECIDED:
        return score
    return score_of(fabric, usage, policy, demands, c, node, score, cache, gpus)
