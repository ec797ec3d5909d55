"""The only kernels that change usage: give a choice of devices to a pod, or take it back."""

from __future__ import annotations

from packing.kernels.arrays import (
    FREE,
    HOSTED_PARTITION,
    HOSTED_SHARE,
    KIND_PARTITION,
    KIND_WHOLE,
    MAY_RUN_PODS,
    Choice,
    DemandArrays,
    FabricArrays,
    UsageArrays,
)
from packing.kernels.devices import give_back, take
from packing.kernels.jit import hot_kernel, inner_kernel


@hot_kernel
def commit(
    fabric: FabricArrays,
    usage: UsageArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    choice: Choice,
    sign: int,
) -> None:
    """Apply (`sign` 1) or release (`sign` -1) a pod of class `c` on `node` with the devices in `choice`."""
    usage.cpu_left[node] -= sign * demands.cpu[c]
    usage.memory_left[node] -= sign * demands.memory[c]
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    for u in range(demands.units[c]):
        kind = demands.kind[c, u]
        hosted = HOSTED_PARTITION if kind == KIND_PARTITION else HOSTED_SHARE
        if kind == KIND_WHOLE:
            hosted = demands.count[c, u]
        usage.hosted[node, hosted] += sign
        for g in range(first, last):
            if choice.gpus[u] >> (g - first) & 1:
                _commit_gpu(fabric, usage, demands, c, u, g, choice.profile[u], choice.start[u], sign)
    free = 0
    for g in range(first, last):
        if usage.gpu_use[g] == FREE and fabric.gpu_modes[g] & MAY_RUN_PODS:
            free |= 1 << (g - first)
    usage.free[node] = free
    usage.version[node] += 1
    usage.events[0] += 1


@inner_kernel
def _commit_gpu(
    fabric: FabricArrays,
    usage: UsageArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    g: int,
    profile: int,
    start: int,
    sign: int,
) -> None:
    """Apply or release one GPU of one unit."""
    rows = (usage.gpu_use, usage.gpu_milli, usage.gpu_memory, usage.gpu_slices, usage.gpu_excl)
    use, milli, memory, slices, excl = rows
    if sign > 0:
        take(fabric, demands, c, u, g, g, profile, start, use, milli, memory, slices, excl)
    else:
        give_back(fabric, demands, c, u, g, g, profile, start, use, milli, memory, slices, excl)
