"""Finds some allocation of several units on one node whenever one exists, by depth-first search bounded in steps.

Only pods with several requests come here, and only after the policy's own choices met a dead end. Steps, not time,
bound the search, so that every machine answers alike; hitting the bound is reported, never passed off as "does not
fit".
"""

from __future__ import annotations

from typing import Final

from packing.kernels.arrays import (
    COUNT,
    GPU_COLUMNS,
    KIND,
    KIND_SHARE,
    KIND_WHOLE,
    MAX_GPUS,
    NONE,
    UNITS,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
)
from packing.kernels.choose import links_satisfy, next_subset
from packing.kernels.devices import idle_gpus, partition_starts, share_fits, take_choice
from packing.kernels.jit import inner_kernel

MAX_STEPS: Final = 20_000
FOUND: Final = 1
NOT_FOUND: Final = 0
BOUND_HIT: Final = -1


@inner_kernel
def _copy_level(local: Ints, source: int, target: int) -> None:
    """Copy one level of `local` to another."""
    for i in range(MAX_GPUS):
        for column in range(GPU_COLUMNS):
            local[target, i, column] = local[source, i, column]


@inner_kernel
def _next_partition(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    gpus: Ints,
    choice: Choice,
) -> bool:
    """Step to the next (GPU, profile, start) of a partition unit; False when all were tried."""
    profiles = fabric.profile_size.shape[1]
    at = 0
    if choice.gpus[u] != 0:
        gpu = 0
        while not choice.gpus[u] >> gpu & 1:
            gpu += 1
        at = (gpu * profiles + choice.profile[u]) * 8 + choice.start[u] + 1
    while at < fabric.shape_gpus[shape] * profiles * 8:
        i = at // (profiles * 8)
        p = at // 8 % profiles
        z = fabric.gpu_geometry[first + i]
        asked = z != NONE and demands.allowed[c, u, shape] >> i & 1 and demands.profiles[c, u, z] >> p & 1
        if asked and partition_starts(fabric, p, first + i, i, gpus) >> at % 8 & 1:
            choice.gpus[u] = 1 << i
            choice.profile[u] = p
            choice.start[u] = at % 8
            return True
        at += 1
    return False


@inner_kernel
def _next_option(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    gpus: Ints,
    choice: Choice,
) -> bool:
    """Step `choice` of unit `u` (gpus 0 = before the first) to its next legal option; False when all were tried."""
    allowed = demands.allowed[c, u, shape]
    kind = demands.units[c, u, KIND]
    count = demands.units[c, u, COUNT]
    if kind == KIND_WHOLE:
        free = idle_gpus(fabric, shape, first, gpus) & allowed
        chosen = next_subset(free, count, choice.gpus[u])
        while chosen and not links_satisfy(fabric, demands, c, u, shape, chosen):
            chosen = next_subset(free, count, chosen)
        choice.gpus[u] = chosen
        return chosen != 0
    if kind == KIND_SHARE:
        for i in range(fabric.shape_gpus[shape]):
            fits = share_fits(fabric, demands.units[c, u], first + i, i, gpus)
            if 1 << i > choice.gpus[u] and allowed >> i & 1 and fits:
                choice.gpus[u] = 1 << i
                return True
        return False
    return bool(_next_partition(fabric, demands, c, u, shape, first, gpus, choice))


@inner_kernel
def any_allocation(
    fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, local: Ints, out_choice: Choice
) -> int:
    """Fill `out_choice` with some allocation of all units, from the state in level 0; FOUND, NOT_FOUND or BOUND_HIT.

    Level u of `local` is the node before unit u; on success level 0 is the node after all of them.
    """
    units = demands.pods[c, UNITS]
    u = 0
    out_choice.gpus[0] = 0
    for _ in range(MAX_STEPS):
        if _next_option(fabric, demands, c, u, shape, first, local[u], out_choice):
            _copy_level(local, u, u + 1)
            take_choice(fabric, demands, c, u, first, out_choice, local[u + 1])
            u += 1
            if u == units:
                _copy_level(local, u, 0)
                return FOUND
            out_choice.gpus[u] = 0
            out_choice.profile[u] = NONE
            out_choice.start[u] = NONE
        else:
            u -= 1
            if u < 0:
                return NOT_FOUND
    return BOUND_HIT
