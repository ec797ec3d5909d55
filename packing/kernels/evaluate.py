"""Tries one demand on one node: which devices each unit would get, and how good the node is for it.

Units are served in the order of the demand, each by the policy's own preference. Where that runs into a dead end (a pod
with several requests whose first took what only the last could use), `packing.kernels.search` finds any allocation.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    BEST_FIT,
    DOT_PRODUCT,
    DOVETAIL,
    FGD,
    GPU_CLUSTERING,
    GPU_PACKING,
    INFEASIBLE,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    MILLI,
    NONE,
    SPREAD,
    UNDECIDED,
    UPSTREAM,
    WORST_FIT,
    Choice,
    DemandArrays,
    FabricArrays,
    Local,
    PolicyArrays,
    UsageArrays,
    Work,
)
from packing.kernels.choose import first_set, simple_partition, simple_share
from packing.kernels.devices import share_fits
from packing.kernels.frag import gradient_score, node_frag, prefer_gradient
from packing.kernels.jit import inner_kernel
from packing.kernels.prefer import prefer_partition, prefer_share, prefer_whole, usable_worth
from packing.kernels.score import asked_milli, best_fit, clustering, dot_product, idle_milli, packing, upstream
from packing.kernels.search import FOUND, NOT_FOUND, any_allocation, take_local
from packing.kernels.worth import open_specs, shortage


@inner_kernel
def load_node(fabric: FabricArrays, usage: UsageArrays, node: int, local: Local) -> None:
    """Copy a node's devices into row 0 of `local`."""
    first = fabric.gpu_start[node]
    for i in range(fabric.gpu_start[node + 1] - first):
        local.use[0, i] = usage.gpu_use[first + i]
        local.milli[0, i] = usage.gpu_milli[first + i]
        local.memory[0, i] = usage.gpu_memory[first + i]
        local.slices[0, i] = usage.gpu_slices[first + i]
        local.excl[0, i] = usage.gpu_excl[first + i]
    local.free[0] = usage.free[node]


@inner_kernel
def node_value(
    fabric: FabricArrays, usage: UsageArrays, policy: PolicyArrays, node: int, local: Local, work: Work
) -> int:
    """Return the worth of a node as it is (the default policy); overwrites `local`."""
    shape = fabric.node_shape[node]
    load_node(fabric, usage, node, local)
    open_count = open_specs(policy, shape, usage.cpu_left[node], usage.memory_left[node], work.specs)
    worth = usable_worth(fabric, policy, shape, fabric.gpu_start[node], local, work.specs, open_count, work.keep)
    return worth - shortage(policy, usage.cpu_left[node], usage.memory_left[node], work.keep[0], work.keep[1])


@inner_kernel
def _serve_preferred(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    shape: int,
    first: int,
    local: Local,
    work: Work,
    out_choice: Choice,
) -> int:
    """Serve all units in row 0 as the default policy prefers; return worth after plus link quality, or INFEASIBLE."""
    specs, spare, keep = work.specs, work.spare, work.keep
    open_count = open_specs(policy, shape, spare[0], spare[1], specs)
    worth = links = 0
    for u in range(demands.units[c]):
        gpu = profile = start = NONE
        gpus = change = 0
        kind = demands.kind[c, u]
        if kind == KIND_WHOLE:
            gpus, value = prefer_whole(fabric, policy, demands, c, u, shape, local.free[0])
            links += value
        else:
            worth = usable_worth(fabric, policy, shape, first, local, specs, open_count, keep)
            worth -= shortage(policy, spare[0], spare[1], keep[0], keep[1])
            if kind == KIND_SHARE:
                gpu, change = prefer_share(
                    fabric, policy, demands, c, u, shape, first, local, specs, open_count, spare, keep
                )
            else:
                gpu, profile, start, change = prefer_partition(
                    fabric, policy, demands, c, u, shape, first, local, specs, open_count, spare, keep
                )
            gpus = 1 << gpu if gpu != NONE else 0
        if gpus == 0:
            return INFEASIBLE
        out_choice.gpus[u] = gpus
        out_choice.profile[u] = profile
        out_choice.start[u] = start
        take_local(fabric, demands, c, u, first, 0, local, out_choice)
        worth += change
    if demands.units[c] == 0 or kind == KIND_WHOLE:
        worth = usable_worth(fabric, policy, shape, first, local, specs, open_count, keep)
        worth -= shortage(policy, spare[0], spare[1], keep[0], keep[1])
    return int(worth + links)


@inner_kernel
def _serve_simply(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    local: Local,
    frag: float,
    out_choice: Choice,
) -> bool:
    """Serve all units in row 0 by the policy's rule for devices; False where it meets a dead end."""
    shape = fabric.node_shape[node]
    first = fabric.gpu_start[node]
    code, seed, events = policy.code, policy.seed, usage.events[0]
    for u in range(demands.units[c]):
        gpu = profile = start = NONE
        gpus = 0
        kind = demands.kind[c, u]
        use, milli, memory = local.use[0], local.milli[0], local.memory[0]
        if kind == KIND_WHOLE:
            gpus = first_set(fabric, demands, c, u, shape, local.free[0])
        elif kind == KIND_PARTITION:
            gpu, profile, start = simple_partition(
                fabric, code, seed, events, demands, c, u, shape, first, use, local.slices[0], local.excl[0]
            )
        elif code == FGD:
            candidates = 0
            for i in range(fabric.shape_gpus[shape]):
                if demands.allowed[c, u, shape] >> i & 1 and share_fits(
                    fabric, demands, c, u, first + i, i, use, milli, memory
                ):
                    candidates |= 1 << i
            cpu_after = usage.cpu_left[node] - demands.cpu[c]
            gpu, _ = prefer_gradient(
                policy, shape, cpu_after, fabric.shape_gpus[shape], candidates, demands.milli[c, u], frag, milli
            )
        else:
            gpu = simple_share(fabric, code, seed, events, demands, c, u, shape, first, use, milli, memory)
        if gpu != NONE:
            gpus = 1 << gpu
        if gpus == 0:
            return False
        out_choice.gpus[u] = gpus
        out_choice.profile[u] = profile
        out_choice.start[u] = start
        take_local(fabric, demands, c, u, first, 0, local, out_choice)
    return True


@inner_kernel
def _simple_score(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    local: Local,
    frag: float,
) -> int:
    """Return the node score of a policy other than the default; row 0 of `local` is the node after the pod."""
    code = policy.code
    shape = fabric.node_shape[node]
    first = fabric.gpu_start[node]
    gpus = fabric.shape_gpus[shape]
    cpu_left, cpu = usage.cpu_left[node], demands.cpu[c]
    if code == FGD:
        return gradient_score(frag, node_frag(policy, shape, cpu_left - cpu, gpus, local.milli[0]))
    if code == UPSTREAM:
        memory_left = usage.memory_left[node] - demands.memory[c]
        return upstream(cpu_left - cpu, fabric.node_cpu[node], memory_left, fabric.node_memory[node])
    milli = usage.gpu_milli[first : first + gpus]
    gpu_left = idle_milli(gpus, milli)
    if code == DOT_PRODUCT:
        return dot_product(cpu_left, cpu, gpu_left, asked_milli(fabric, demands, c))
    if code == BEST_FIT or code == WORST_FIT:
        score = best_fit(cpu_left, cpu, gpu_left, asked_milli(fabric, demands, c))
        return score if code == BEST_FIT else -score
    if code == GPU_CLUSTERING:
        return clustering(demands, c, gpu_left, usage.hosted[node])
    if code == GPU_PACKING:
        use, memory = usage.gpu_use[first : first + gpus], usage.gpu_memory[first : first + gpus]
        return packing(fabric, demands, c, shape, first, usage.free[node], use, milli, memory)
    if code == SPREAD:
        return gpu_left * MILLI // (gpus * MILLI) if gpus else 0
    return 0  # first-fit and random: all feasible nodes are equal


@inner_kernel
def evaluate(
    fabric: FabricArrays,
    usage: UsageArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    worth: int,
    frag: float,
    local: Local,
    work: Work,
    out_choice: Choice,
) -> int:
    """Return the score of demand class `c` on a node and its devices in `out_choice`; INFEASIBLE or UNDECIDED if none.

    `worth` (default policy) and `frag` (FGD) are those of the node as it is.
    """
    work.spare[0] = usage.cpu_left[node] - demands.cpu[c]
    work.spare[1] = usage.memory_left[node] - demands.memory[c]
    if work.spare[0] < 0 or work.spare[1] < 0:
        return INFEASIBLE
    shape = fabric.node_shape[node]
    first = fabric.gpu_start[node]
    load_node(fabric, usage, node, local)
    if policy.code == DOVETAIL:
        score = _serve_preferred(fabric, policy, demands, c, shape, first, local, work, out_choice)
        served = score != INFEASIBLE
    else:
        served = _serve_simply(fabric, usage, policy, demands, c, node, local, frag, out_choice)
        score = INFEASIBLE
    if not served:
        if demands.units[c] < 2:
            return INFEASIBLE
        load_node(fabric, usage, node, local)
        found = any_allocation(fabric, demands, c, shape, first, local, out_choice)
        if found != FOUND:
            return INFEASIBLE if found == NOT_FOUND else UNDECIDED
        if policy.code == DOVETAIL:
            open_count = open_specs(policy, shape, work.spare[0], work.spare[1], work.specs)
            score = usable_worth(fabric, policy, shape, first, local, work.specs, open_count, work.keep)
            score -= shortage(policy, work.spare[0], work.spare[1], work.keep[0], work.keep[1])
    if policy.code == DOVETAIL:
        return int(score - worth - policy.rank_weight * node // fabric.node_shape.size)
    return int(_simple_score(fabric, usage, policy, demands, c, node, local, frag))
