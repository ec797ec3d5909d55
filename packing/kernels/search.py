"""Finds some allocation of several units on one node whenever one exists, by depth-first search bounded in steps.

Only pods with several requests come here, and only after the policy's own choices met a dead end. Steps, not time, bound
the search, so that every machine answers alike; hitting the bound is reported, never passed off as "does not fit".
"""

from __future__ import annotations

from typing import Final

from packing.kernels.arrays import (
    FREE,
    KIND_SHARE,
    KIND_WHOLE,
    MAX_GPUS,
    NONE,
    PARTITIONED,
    Choice,
    DemandArrays,
    FabricArrays,
    Local,
)
from packing.kernels.choose import links_satisfy, next_subset
from packing.kernels.devices import partition_starts, share_fits, take
from packing.kernels.jit import inner_kernel

MAX_STEPS: Final = 20_000
FOUND: Final = 1
NOT_FOUND: Final = 0
BOUND_HIT: Final = -1


@inner_kernel
def take_local(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, first: int, level: int, local: Local, choice: Choice
) -> None:
    """Give the chosen devices of unit `u` away in one row of `local`."""
    gpus = choice.gpus[u]
    for i in range(MAX_GPUS):
        if gpus >> i & 1:
            take(
                fabric,
                demands,
                c,
                u,
                first + i,
                i,
                choice.profile[u],
                choice.start[u],
                local.use[level],
                local.milli[level],
                local.memory[level],
                local.slices[level],
                local.excl[level],
            )
    local.free[level] &= ~gpus


@inner_kernel
def _copy_row(local: Local, source: int, target: int) -> None:
    """Copy one row of `local` to another."""
    for i in range(MAX_GPUS):
        local.use[target, i] = local.use[source, i]
        local.milli[target, i] = local.milli[source, i]
        local.memory[target, i] = local.memory[source, i]
        local.slices[target, i] = local.slices[source, i]
        local.excl[target, i] = local.excl[source, i]
    local.free[target] = local.free[source]


@inner_kernel
def _next_partition(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    level: int,
    local: Local,
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
        if z != NONE and demands.allowed[c, u, shape] >> i & 1 and demands.profiles[c, u, z] >> p & 1:
            use = local.use[level, i]
            if use == FREE or use == PARTITIONED:
                starts = partition_starts(
                    fabric, p, first + i, i, local.use[level], local.slices[level], local.excl[level]
                )
                if starts >> at % 8 & 1:
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
    level: int,
    local: Local,
    choice: Choice,
) -> bool:
    """Step `choice` of unit `u` (gpus 0 = before the first) to its next legal option; False when all were tried."""
    allowed = demands.allowed[c, u, shape]
    kind = demands.kind[c, u]
    if kind == KIND_WHOLE:
        free = local.free[level] & allowed
        gpus = next_subset(free, demands.count[c, u], choice.gpus[u])
        while gpus and not links_satisfy(fabric, demands, c, u, shape, gpus):
            gpus = next_subset(free, demands.count[c, u], gpus)
        choice.gpus[u] = gpus
        return bool(gpus != 0)
    if kind == KIND_SHARE:
        for i in range(fabric.shape_gpus[shape]):
            fits = share_fits(
                fabric, demands, c, u, first + i, i, local.use[level], local.milli[level], local.memory[level]
            )
            if 1 << i > choice.gpus[u] and allowed >> i & 1 and fits:
                choice.gpus[u] = 1 << i
                return True
        return False
    return bool(_next_partition(fabric, demands, c, u, shape, first, level, local, choice))


@inner_kernel
def any_allocation(
    fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, local: Local, out_choice: Choice
) -> int:
    """Fill `out_choice` with some allocation of all units, from the state in row 0; FOUND, NOT_FOUND or BOUND_HIT.

    Row u of `local` is the node before unit u; on success row 0 is the node after all of them.
    """
    units = demands.units[c]
    u = 0
    out_choice.gpus[0] = 0
    for _ in range(MAX_STEPS):
        if _next_option(fabric, demands, c, u, shape, first, u, local, out_choice):
            _copy_row(local, u, u + 1)
            take_local(fabric, demands, c, u, first, u + 1, local, out_choice)
            u += 1
            if u == units:
                _copy_row(local, u, 0)
                return FOUND
            out_choice.gpus[u] = 0
            out_choice.profile[u] = NONE
            out_choice.start[u] = NONE
        else:
            u -= 1
            if u < 0:
                return NOT_FOUND
    return BOUND_HIT
