"""Finds some allocation of several units on one node whenever one exists, by depth-first search bounded in steps.

Only pods with several requests come here, and only after the policy's own choices met a dead end. Steps, not time,
bound the search, so that every machine answers alike; hitting the bound is reported, never passed off as "does not
fit".
"""

from __future__ import annotations

from typing import Final

from packing.kernels.arrays import (
    ASKED,
    COUNT,
    GPU_COLUMNS,
    KIND,
    KIND_SHARE,
    KIND_WHOLE,
    LEFT,
    MAX_GPUS,
    MILLI,
    NONE,
    UNITS,
    WISH,
    WISH_REQUIRE,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    UsageArrays,
)
from packing.kernels.choose import links_satisfy, next_subset
from packing.kernels.devices import idle_gpus, partition_starts, popcount, share_fits, take_choice
from packing.kernels.jit import inner_kernel

MAX_STEPS: Final = 20_000
FOUND: Final = 1
NOT_FOUND: Final = 0
BOUND_HIT: Final = -1


@inner_kernel
def copy_node(usage: UsageArrays, first: int, last: int, local: Ints) -> None:
    """Copy a node's GPUs into level 0 of `local`."""
    for i in range(last - first):
        for column in range(GPU_COLUMNS):
            local[0, i, column] = usage.gpus[first + i, column]


@inner_kernel
def _copy_level(local: Ints, source: int, target: int) -> None:
    """Copy one level of `local` to another."""
    for i in range(MAX_GPUS):
        for column in range(GPU_COLUMNS):
            local[target, i, column] = local[source, i, column]


@inner_kernel
def _alike(
    fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, i: int, j: int, gpus: Ints
) -> bool:
    """Whether two GPUs can stand for each other in every unit: same kind, same state, wanted by the same units."""
    for column in range(GPU_COLUMNS):
        if gpus[i, column] != gpus[j, column]:
            return False
    a, b = first + i, first + j
    if fabric.gpu_modes[a] != fabric.gpu_modes[b] or fabric.gpu_memory[a] != fabric.gpu_memory[b]:
        return False
    if fabric.gpu_geometry[a] != fabric.gpu_geometry[b]:
        return False
    for u in range(demands.pods[c, UNITS]):
        allowed = demands.allowed[c, u, shape]
        if (allowed >> i & 1) != (allowed >> j & 1):
            return False
        if demands.units[c, u, KIND] == KIND_WHOLE and demands.units[c, u, WISH] == WISH_REQUIRE:
            return False  # links tell GPUs apart
    return True


@inner_kernel
def _first_of_its_kind(
    fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, chosen: int, gpus: Ints
) -> bool:
    """Whether no GPU of `chosen` could be replaced by one alike of lower index: one of many equal options is enough.

    Of all allocations the first in order of indices passes this test and that of `_repeats` at every unit, so what they
    skip is never the only way.
    """
    for i in range(fabric.shape_gpus[shape]):
        if chosen >> i & 1:
            for j in range(i):
                if not chosen >> j & 1 and _alike(fabric, demands, c, shape, first, i, j, gpus):
                    return False
    return True


@inner_kernel
def _repeats(demands: DemandArrays, c: int, u: int) -> bool:
    """Whether a unit asks for the same as the one before, so that the two need be tried in one order only."""
    if u == 0:
        return False
    for column in range(demands.units.shape[2]):
        if demands.units[c, u, column] != demands.units[c, u - 1, column]:
            return False
    for shape in range(demands.allowed.shape[2]):
        if demands.allowed[c, u, shape] != demands.allowed[c, u - 1, shape]:
            return False
    for z in range(demands.profiles.shape[2]):
        if demands.profiles[c, u, z] != demands.profiles[c, u - 1, z]:
            return False
    return True


@inner_kernel
def _position(fabric: FabricArrays, choice: Choice, u: int) -> int:
    """Return where a partition unit's choice stands in the order of (GPU, profile, start)."""
    gpu = 0
    while not choice.gpus[u] >> gpu & 1:
        gpu += 1
    return int((gpu * fabric.profile_size.shape[1] + choice.profile[u]) * 8 + choice.start[u])


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
        at = _position(fabric, choice, u) + 1
    elif _repeats(demands, c, u):
        at = _position(fabric, choice, u - 1)
    while at < fabric.shape_gpus[shape] * profiles * 8:
        i = at // (profiles * 8)
        p = at // 8 % profiles
        z = fabric.gpu_geometry[first + i]
        asked = z != NONE and demands.allowed[c, u, shape] >> i & 1 and demands.profiles[c, u, z] >> p & 1
        if (
            asked
            and partition_starts(fabric, p, first + i, i, gpus) >> at % 8 & 1
            and _first_of_its_kind(fabric, demands, c, shape, first, 1 << i, gpus)
        ):
            choice.gpus[u] = 1 << i
            choice.profile[u] = p
            choice.start[u] = at % 8
            return True
        at += 1
    return False


@inner_kernel
def _next_whole(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, first: int, gpus: Ints, choice: Choice
) -> bool:
    """Step to the next set of GPUs of a whole unit; False when all were tried."""
    free = idle_gpus(fabric, shape, first, gpus) & demands.allowed[c, u, shape]
    count = demands.units[c, u, COUNT]
    least = choice.gpus[u - 1] if _repeats(demands, c, u) else 0
    chosen = next_subset(free, count, choice.gpus[u])
    while chosen and (
        chosen < least
        or not links_satisfy(fabric, demands, c, u, shape, chosen)
        or not _first_of_its_kind(fabric, demands, c, shape, first, chosen, gpus)
    ):
        chosen = next_subset(free, count, chosen)
    choice.gpus[u] = chosen
    return chosen != 0


@inner_kernel
def _next_share(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, first: int, gpus: Ints, choice: Choice
) -> bool:
    """Step to the next GPU of a share unit; False when all were tried."""
    least = choice.gpus[u - 1] if _repeats(demands, c, u) else 0
    for i in range(fabric.shape_gpus[shape]):
        one = 1 << i
        if one <= choice.gpus[u] or one < least or not demands.allowed[c, u, shape] >> i & 1:
            continue
        if share_fits(fabric, demands.units[c, u], first + i, i, gpus) and _first_of_its_kind(
            fabric, demands, c, shape, first, one, gpus
        ):
            choice.gpus[u] = one
            return True
    return False


@inner_kernel
def _next_option(
    fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, first: int, gpus: Ints, choice: Choice
) -> bool:
    """Step `choice` of unit `u` (gpus 0 = before the first) to its next legal option; False when all were tried."""
    kind = demands.units[c, u, KIND]
    if kind == KIND_WHOLE:
        return bool(_next_whole(fabric, demands, c, u, shape, first, gpus, choice))
    if kind == KIND_SHARE:
        return bool(_next_share(fabric, demands, c, u, shape, first, gpus, choice))
    return bool(_next_partition(fabric, demands, c, u, shape, first, gpus, choice))


@inner_kernel
def _asks_too_much(fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, gpus: Ints) -> bool:
    """Whether the units together ask for more whole GPUs or compute than is left: spares the search."""
    whole = compute = 0
    for u in range(demands.pods[c, UNITS]):
        if demands.units[c, u, KIND] == KIND_WHOLE:
            whole += demands.units[c, u, COUNT]
        compute += demands.units[c, u, ASKED]
    left = 0
    for i in range(fabric.shape_gpus[shape]):
        left += gpus[i, LEFT]
    return whole > popcount(idle_gpus(fabric, shape, first, gpus)) or compute + whole * MILLI > left


@inner_kernel
def any_allocation(
    fabric: FabricArrays, demands: DemandArrays, c: int, shape: int, first: int, local: Ints, out_choice: Choice
) -> int:
    """Fill `out_choice` with some allocation of all units, from the state in level 0; FOUND, NOT_FOUND or BOUND_HIT.

    Level u of `local` is the node before unit u; on success level 0 is the node after all of them.
    """
    if _asks_too_much(fabric, demands, c, shape, first, local[0]):
        return NOT_FOUND
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
