"""The one place that says what a GPU can serve and what serving it changes.

All functions work on one GPU at index `i` of five parallel rows (use, milli, memory, slices, excl): either a node's row of
`Local` while a demand is being tried, or the whole cluster's rows of `UsageArrays`. `g` is always the cluster-wide index.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    FREE,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    MAY_BE_PARTITIONED,
    MAY_RUN_PODS,
    MILLI,
    NONE,
    OUT,
    PARTITIONED,
    WHOLE,
    DemandArrays,
    FabricArrays,
    Ints,
)
from packing.kernels.jit import hot_kernel, inner_kernel


@inner_kernel
def popcount(mask: int) -> int:
    """Return the number of GPUs in a set."""
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@hot_kernel
def share_fits(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, g: int, i: int, use: Ints, milli: Ints, memory: Ints
) -> bool:
    """Whether the GPU can take share unit `u`: free or shared in the same way, with enough compute and memory left."""
    if not fabric.gpu_modes[g] & MAY_RUN_PODS:
        return False
    if use[i] != FREE and use[i] != demands.sharing[c, u]:
        return False
    return milli[i] >= demands.milli[c, u] and memory[i] >= demands.share_memory[c, u]


@hot_kernel
def partition_starts(fabric: FabricArrays, profile: int, g: int, i: int, use: Ints, slices: Ints, excl: Ints) -> int:
    """Return the starts (bit mask) at which MIG profile `profile` can be placed on the GPU now; 0 = none."""
    z = fabric.gpu_geometry[g]
    if z == NONE or not fabric.gpu_modes[g] & MAY_BE_PARTITIONED:
        return 0
    if use[i] != FREE and use[i] != PARTITIONED:
        return 0
    if excl[i] & fabric.excl_block[z, profile]:
        return 0
    return fabric.legal_starts[z, profile, slices[i]]


@inner_kernel
def take(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    g: int,
    i: int,
    profile: int,
    start: int,
    use: Ints,
    milli: Ints,
    memory: Ints,
    slices: Ints,
    excl: Ints,
) -> None:
    """Give the GPU (or a part of it) to unit `u`. The caller has checked that it fits."""
    kind = demands.kind[c, u]
    if kind == KIND_WHOLE:
        use[i] = WHOLE
        milli[i] = 0
        memory[i] = 0
    elif kind == KIND_SHARE:
        use[i] = demands.sharing[c, u]
        milli[i] -= demands.milli[c, u]
        memory[i] -= demands.share_memory[c, u]
    elif kind == KIND_PARTITION:
        z = fabric.gpu_geometry[g]
        use[i] = PARTITIONED
        milli[i] = 0
        memory[i] = 0
        slices[i] |= ((1 << fabric.profile_size[z, profile]) - 1) << start
        excl[i] |= fabric.excl_take[z, profile]


@inner_kernel
def give_back(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    g: int,
    i: int,
    profile: int,
    start: int,
    use: Ints,
    milli: Ints,
    memory: Ints,
    slices: Ints,
    excl: Ints,
) -> None:
    """Undo `take`. A GPU that nobody uses any more is free again, or out of use where it has become unhealthy."""
    kind = demands.kind[c, u]
    if kind == KIND_SHARE:
        milli[i] += demands.milli[c, u]
        memory[i] += demands.share_memory[c, u]
        idle = milli[i] == MILLI and memory[i] == fabric.gpu_memory[g]
    elif kind == KIND_PARTITION:
        z = fabric.gpu_geometry[g]
        slices[i] &= ~(((1 << fabric.profile_size[z, profile]) - 1) << start)
        excl[i] &= ~fabric.excl_take[z, profile]
        idle = slices[i] == 0
    else:
        idle = True
    if idle:
        healthy = fabric.gpu_modes[g] != 0
        use[i] = FREE if healthy else OUT
        milli[i] = MILLI if healthy else 0
        memory[i] = fabric.gpu_memory[g] if healthy else 0


@inner_kernel
def remainder(fabric: FabricArrays, g: int, i: int, milli: Ints, memory: Ints) -> int:
    """Return what is left of the GPU for shares, in thousandths: the scarcer of compute and memory."""
    left = milli[i]
    total = fabric.gpu_memory[g]
    if total > 0:
        left = min(left, memory[i] * MILLI // total)
    return int(left)
