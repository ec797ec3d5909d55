"""How much GPU a pod takes: the one measure of use, for utilisation, curves and accounts."""

from __future__ import annotations

from packing.kernels.arrays import (
    ASKED,
    ASKED_MEMORY,
    KIND,
    KIND_PARTITION,
    KIND_WHOLE,
    MILLI,
    UNITS,
    Choice,
    DemandArrays,
    FabricArrays,
)
from packing.kernels.jit import hot_kernel, inner_kernel


@inner_kernel
def unit_milli(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, g: int, profile: int) -> int:
    """Return the thousandths of GPU `g` that unit `u` takes: a share its larger dimension, a partition its slices."""
    kind = demands.units[c, u, KIND]
    if kind == KIND_WHOLE:
        return MILLI
    if kind == KIND_PARTITION:
        z = fabric.gpu_geometry[g]
        return int(fabric.profile_size[z, profile] * MILLI // fabric.slice_count[z])
    milli = demands.units[c, u, ASKED]
    if fabric.gpu_memory[g] > 0:
        milli = max(milli, demands.units[c, u, ASKED_MEMORY] * MILLI // fabric.gpu_memory[g])
    return int(milli)


@hot_kernel
def choice_milli(fabric: FabricArrays, demands: DemandArrays, c: int, node: int, choice: Choice) -> int:
    """Return how much GPU a pod takes with the devices in `choice`, in thousandths."""
    total = 0
    for u in range(demands.pods[c, UNITS]):
        for g in range(fabric.gpu_start[node], fabric.gpu_start[node + 1]):
            if choice.gpus[u] >> (g - fabric.gpu_start[node]) & 1:
                total += unit_milli(fabric, demands, c, u, g, choice.profile[u])
    return total
