"""The one place that says what a GPU can serve and what serving it changes.

All functions work on row `i` of a table of GPU states: either the whole cluster's (`UsageArrays.gpus`) or one node's
while a demand is being tried on it. `g` is always the cluster-wide index, by which the static tables are read.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    ASKED,
    ASKED_MEMORY,
    EXCLUSIVE,
    FREE,
    HELD,
    KIND,
    KIND_PARTITION,
    KIND_SHARE,
    LEFT,
    MAX_GPUS,
    MAY_BE_PARTITIONED,
    MAY_RUN_PODS,
    MEMORY_LEFT,
    MILLI,
    NONE,
    OUT,
    PARTITIONED,
    SHARING,
    SLICES,
    USE,
    WHOLE,
    Choice,
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
def share_fits(fabric: FabricArrays, unit: Ints, g: int, i: int, gpus: Ints) -> bool:
    """Whether the GPU can take a share: free or shared in the same way, with enough compute and memory left."""
    use = gpus[i, USE]
    if use != FREE and use != unit[SHARING]:
        return False
    if gpus[i, LEFT] < unit[ASKED] or gpus[i, MEMORY_LEFT] < unit[ASKED_MEMORY]:
        return False
    return fabric.gpu_modes[g] & MAY_RUN_PODS != 0


@hot_kernel
def partition_starts(fabric: FabricArrays, profile: int, g: int, i: int, gpus: Ints) -> int:
    """Return the starts (bit mask) at which MIG profile `profile` can be placed on the GPU now; 0 = none."""
    z = fabric.gpu_geometry[g]
    if z == NONE or not fabric.gpu_modes[g] & MAY_BE_PARTITIONED:
        return 0
    if gpus[i, USE] != FREE and gpus[i, USE] != PARTITIONED:
        return 0
    if gpus[i, EXCLUSIVE] & fabric.profile_excl[1, z, profile]:
        return 0
    return int(fabric.legal_starts[z, profile, gpus[i, SLICES]])


@inner_kernel
def take(fabric: FabricArrays, unit: Ints, g: int, i: int, profile: int, start: int, gpus: Ints) -> None:
    """Give the GPU (or a part of it) to a unit. The caller has checked that it fits.

    An unhealthy GPU may be held by what ran there before it fell ill; nothing of it is left for others.
    """
    kind = unit[KIND]
    gpus[i, HELD] += 1
    if kind == KIND_SHARE:
        gpus[i, USE] = unit[SHARING]
        if fabric.gpu_modes[g]:
            gpus[i, LEFT] -= unit[ASKED]
            gpus[i, MEMORY_LEFT] -= unit[ASKED_MEMORY]
        return
    gpus[i, LEFT] = 0
    gpus[i, MEMORY_LEFT] = 0
    if kind == KIND_PARTITION:
        z = fabric.gpu_geometry[g]
        gpus[i, USE] = PARTITIONED
        gpus[i, SLICES] |= ((1 << fabric.profile_size[z, profile]) - 1) << start
        gpus[i, EXCLUSIVE] |= fabric.profile_excl[0, z, profile]
    else:
        gpus[i, USE] = WHOLE


@inner_kernel
def give_back(fabric: FabricArrays, unit: Ints, g: int, i: int, profile: int, start: int, gpus: Ints) -> None:
    """Undo `take`. A GPU that nobody holds any more is free again, or out of use where it is unhealthy."""
    kind = unit[KIND]
    gpus[i, HELD] -= 1
    if gpus[i, HELD] == 0:
        set_idle(fabric, g, i, gpus)
    elif kind == KIND_SHARE:
        if fabric.gpu_modes[g]:
            gpus[i, LEFT] += unit[ASKED]
            gpus[i, MEMORY_LEFT] += unit[ASKED_MEMORY]
    elif kind == KIND_PARTITION:
        z = fabric.gpu_geometry[g]
        gpus[i, SLICES] &= ~(((1 << fabric.profile_size[z, profile]) - 1) << start)
        gpus[i, EXCLUSIVE] &= ~fabric.profile_excl[0, z, profile]


@inner_kernel
def set_idle(fabric: FabricArrays, g: int, i: int, gpus: Ints) -> None:
    """Put a GPU that nobody uses into its first state."""
    modes = fabric.gpu_modes[g]
    gpus[i, USE] = FREE if modes else OUT
    gpus[i, LEFT] = MILLI if modes & MAY_RUN_PODS else 0
    gpus[i, MEMORY_LEFT] = fabric.gpu_memory[g] if modes & MAY_RUN_PODS else 0
    gpus[i, SLICES] = 0
    gpus[i, EXCLUSIVE] = 0
    gpus[i, HELD] = 0


@hot_kernel
def set_all_idle(fabric: FabricArrays, gpus: Ints) -> None:
    """Put every GPU of a cluster into its first state."""
    for g in range(gpus.shape[0]):
        set_idle(fabric, g, g, gpus)


@inner_kernel
def take_choice(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, first: int, choice: Choice, gpus: Ints
) -> None:
    """Give the chosen devices of unit `u` away on one node's table."""
    for i in range(MAX_GPUS):
        if choice.gpus[u] >> i & 1:
            take(fabric, demands.units[c, u], first + i, i, choice.profile[u], choice.start[u], gpus)


@inner_kernel
def remainder(fabric: FabricArrays, g: int, i: int, gpus: Ints) -> int:
    """Return what is left of the GPU for shares, in thousandths: the scarcer of compute and memory."""
    left = gpus[i, LEFT]
    total = fabric.gpu_memory[g]
    if total > 0 and gpus[i, MEMORY_LEFT] < total:
        left = min(left, gpus[i, MEMORY_LEFT] * MILLI // total)
    return int(left)


@inner_kernel
def idle_gpus(fabric: FabricArrays, shape: int, first: int, gpus: Ints) -> int:
    """Return the GPUs of one node's table that nobody uses and that may run pods, bit mask."""
    idle = 0
    for i in range(fabric.shape_gpus[shape]):
        if gpus[i, USE] == FREE and fabric.gpu_modes[first + i] & MAY_RUN_PODS:
            idle |= 1 << i
    return idle
