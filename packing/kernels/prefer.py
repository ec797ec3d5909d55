"""Which devices of one node the default policy gives to a unit: those that leave the node worth most."""

from __future__ import annotations

from packing.kernels.arrays import (
    FREE,
    MILLI,
    NONE,
    PARTITIONED,
    DemandArrays,
    FabricArrays,
    Ints,
    Local,
    PolicyArrays,
)
from packing.kernels.choose import best_set
from packing.kernels.devices import give_back, partition_starts, remainder, share_fits, take
from packing.kernels.jit import inner_kernel
from packing.kernels.worth import gpu_worth, sets_worth, shortage


@inner_kernel
def usable_worth(
    fabric: FabricArrays,
    policy: PolicyArrays,
    shape: int,
    first: int,
    local: Local,
    specs: Ints,
    open_count: int,
    out_keep: Ints,
) -> int:
    """Return the worth of the node in `local` but for shortages; `out_keep` gets the millicores and MiB its GPUs need."""
    total = sets_worth(fabric, policy, shape, local.free[0], specs, open_count)
    keep_cpu = keep_memory = 0
    for i in range(fabric.shape_gpus[shape]):
        total += gpu_worth(
            fabric,
            policy,
            shape,
            first + i,
            i,
            specs,
            open_count,
            local.use[0],
            local.milli[0],
            local.memory[0],
            local.slices[0],
            local.excl[0],
        )
        left = remainder(fabric, first + i, i, local.milli[0], local.memory[0])
        keep_cpu += policy.keep_cpu[left]
        keep_memory += policy.keep_memory[left]
    out_keep[0] = keep_cpu
    out_keep[1] = keep_memory
    return total


@inner_kernel
def prefer_whole(
    fabric: FabricArrays, policy: PolicyArrays, demands: DemandArrays, c: int, u: int, shape: int, free: int
) -> tuple[int, int]:
    """Return (set of GPUs, what the quality of its links is worth); the set is 0 where nothing fits."""
    gpus = best_set(fabric, demands, c, u, shape, free)
    if gpus == 0:
        return 0, 0
    count = demands.count[c, u]
    ideal = fabric.ideal[shape, count]
    if demands.wish[c, u] == 0 or ideal == 0:
        return gpus, policy.link_weight * count
    quality = fabric.quality[fabric.mask_start[shape] + gpus]
    return gpus, policy.link_weight // MILLI * count * (quality * MILLI // ideal)


@inner_kernel
def _same_gpu(fabric: FabricArrays, first: int, i: int, j: int, local: Local) -> bool:
    """Whether two GPUs of a node are in the same state, so that trying one is enough."""
    return bool(
        local.use[0, i] == local.use[0, j]
        and local.milli[0, i] == local.milli[0, j]
        and local.memory[0, i] == local.memory[0, j]
        and local.slices[0, i] == local.slices[0, j]
        and local.excl[0, i] == local.excl[0, j]
        and fabric.gpu_geometry[first + i] == fabric.gpu_geometry[first + j]
        and fabric.gpu_memory[first + i] == fabric.gpu_memory[first + j]
    )


@inner_kernel
def _tried(
    fabric: FabricArrays, policy: PolicyArrays, shape: int, first: int, i: int, candidates: int, local: Local
) -> bool:
    """Whether a candidate before `i` is in the same state and wanted by the same specs, so that `i` scores the same."""
    for j in range(i):
        if candidates >> j & 1 and _same_gpu(fabric, first, i, j, local):
            alike = True
            for m in range(policy.spec_weight.size):
                allowed = policy.spec_allowed[m, shape]
                alike = alike and (allowed >> i & 1) == (allowed >> j & 1)
            if alike:
                return True
    return False


@inner_kernel
def _step(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    i: int,
    profile: int,
    start: int,
    local: Local,
    specs: Ints,
    open_count: int,
    spare: Ints,
    keep: Ints,
) -> int:
    """Return how the worth of the node changes when GPU `i` serves unit `u`; leaves no trace in `local`.

    `spare` is (millicores, MiB) free on the node once the pod is there, `keep` what its idle GPUs need before this step.
    """
    g = first + i
    use, milli, memory = local.use[0], local.milli[0], local.memory[0]
    slices, excl = local.slices[0], local.excl[0]
    change = -gpu_worth(fabric, policy, shape, g, i, specs, open_count, use, milli, memory, slices, excl)
    before = remainder(fabric, g, i, milli, memory)
    take(fabric, demands, c, u, g, i, profile, start, use, milli, memory, slices, excl)
    change += gpu_worth(fabric, policy, shape, g, i, specs, open_count, use, milli, memory, slices, excl)
    after = remainder(fabric, g, i, milli, memory)
    give_back(fabric, demands, c, u, g, i, profile, start, use, milli, memory, slices, excl)
    free = local.free[0]
    if free >> i & 1:
        change += sets_worth(fabric, policy, shape, free & ~(1 << i), specs, open_count)
        change -= sets_worth(fabric, policy, shape, free, specs, open_count)
    cpu = keep[0] + policy.keep_cpu[after] - policy.keep_cpu[before]
    ram = keep[1] + policy.keep_memory[after] - policy.keep_memory[before]
    change += shortage(policy, spare[0], spare[1], keep[0], keep[1])
    change -= shortage(policy, spare[0], spare[1], cpu, ram)
    return change


@inner_kernel
def _opened(fabric: FabricArrays, shape: int, idle: int) -> int:
    """Return the free GPU whose loss hurts the links of the others least, as a one-bit mask; 0 = none is free."""
    if idle == 0:
        return 0
    return int(fabric.best_none[fabric.set_start[shape] + (1 << fabric.shape_gpus[shape]) + idle])


@inner_kernel
def prefer_share(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    local: Local,
    specs: Ints,
    open_count: int,
    spare: Ints,
    keep: Ints,
) -> tuple[int, int]:
    """Return (GPU whose use for share unit `u` leaves the node worth most, change of worth); NONE = none fits.

    Lowest index on ties. Of the free GPUs only the one whose loss costs the links least is tried.
    """
    candidates = 0
    for i in range(fabric.shape_gpus[shape]):
        if demands.allowed[c, u, shape] >> i & 1 and share_fits(
            fabric, demands, c, u, first + i, i, local.use[0], local.milli[0], local.memory[0]
        ):
            candidates |= 1 << i
    idle = candidates & local.free[0]
    candidates = (candidates & ~idle) | _opened(fabric, shape, idle)
    chosen = NONE
    best = 0
    for i in range(fabric.shape_gpus[shape]):
        if not candidates >> i & 1 or _tried(fabric, policy, shape, first, i, candidates, local):
            continue
        change = _step(
            fabric, policy, demands, c, u, shape, first, i, NONE, NONE, local, specs, open_count, spare, keep
        )
        if chosen == NONE or change > best:
            chosen = i
            best = change
    return chosen, best


@inner_kernel
def prefer_partition(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    local: Local,
    specs: Ints,
    open_count: int,
    spare: Ints,
    keep: Ints,
) -> tuple[int, int, int, int]:
    """Return (GPU, profile, start, change of worth) that leaves the node worth most; GPU NONE where nothing fits."""
    candidates = 0
    idle = 0
    for i in range(fabric.shape_gpus[shape]):
        if demands.allowed[c, u, shape] >> i & 1 and fabric.gpu_geometry[first + i] != NONE:
            if local.use[0, i] == FREE:
                idle |= 1 << i
            elif local.use[0, i] == PARTITIONED:
                candidates |= 1 << i
    # A GPU fixed in MIG mode is idle without being free for pods; it has no links to lose.
    candidates |= _opened(fabric, shape, idle & local.free[0]) | (idle & ~local.free[0])
    chosen = profile = start = NONE
    best = 0
    for i in range(fabric.shape_gpus[shape]):
        if not candidates >> i & 1 or _tried(fabric, policy, shape, first, i, candidates, local):
            continue
        z = fabric.gpu_geometry[first + i]
        for p in range(fabric.profile_size.shape[1]):
            if not demands.profiles[c, u, z] >> p & 1:
                continue
            if not partition_starts(fabric, p, first + i, i, local.use[0], local.slices[0], local.excl[0]):
                continue
            at = fabric.best_start[z, p, local.slices[0, i]]
            change = _step(fabric, policy, demands, c, u, shape, first, i, p, at, local, specs, open_count, spare, keep)
            if chosen == NONE or change > best:
                chosen = i
                profile = p
                start = at
                best = change
    return chosen, profile, start, best
