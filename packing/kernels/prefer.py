"""Which devices of one node the default policy gives to a unit: those that leave the node worth most."""

from __future__ import annotations

from packing.kernels.arrays import (
    ASKED,
    ASKED_MEMORY,
    COUNT,
    CPU,
    FREE,
    GIGA,
    LEFT,
    MEMORY,
    MEMORY_LEFT,
    MILLI,
    NONE,
    PARTITIONED,
    SLICES,
    USE,
    WISH,
    WISH_NONE,
    DemandArrays,
    FabricArrays,
    Ints,
    PolicyArrays,
)
from packing.kernels.choose import best_set
from packing.kernels.devices import partition_starts, remainder, share_fits
from packing.kernels.jit import inner_kernel
from packing.kernels.worth import gpu_worth, remainder_worth, sets_worth, shortage


@inner_kernel
def link_value(fabric: FabricArrays, policy: PolicyArrays, unit: Ints, shape: int, chosen: int) -> int:
    """Return what the links of a set are worth to a whole unit: its GPUs by their share of the product's ideal quality.

    By product: of two machines with the same GPUs the better linked one is preferred. A set that NVLink does not join
    earns half, so that a wish for links prefers NVLink also between products.
    """
    count = unit[COUNT]
    if unit[WISH] == WISH_NONE or count == 1:
        return policy.link_weight * count
    at = fabric.mask_start[shape] + chosen
    ideal = fabric.product_ideal[shape, count]
    share = MILLI if ideal == 0 else fabric.quality[at] * MILLI // ideal
    if not fabric.nvlink[at]:
        share //= 2
    return policy.link_weight // MILLI * count * share


@inner_kernel
def prefer_whole(
    fabric: FabricArrays, policy: PolicyArrays, demands: DemandArrays, c: int, u: int, shape: int, idle: int
) -> tuple[int, int]:
    """Return (set of GPUs, what the quality of its links is worth); the set is 0 where nothing fits."""
    chosen = best_set(fabric, demands, c, u, shape, idle)
    if chosen == 0:
        return 0, 0
    return chosen, link_value(fabric, policy, demands.units[c, u], shape, chosen)


@inner_kernel
def _saved(policy: PolicyArrays, cpu: int, memory: int, keep: tuple[int, int], before: int, after: int) -> int:
    """Return by how much the shortage falls when one GPU's remainder goes from `before` to `after` thousandths."""
    keep_cpu = keep[0] + policy.keep[CPU, after] - policy.keep[CPU, before]
    keep_memory = keep[1] + policy.keep[MEMORY, after] - policy.keep[MEMORY, before]
    return shortage(policy, cpu, memory, keep[0], keep[1]) - shortage(policy, cpu, memory, keep_cpu, keep_memory)


@inner_kernel
def _lost_idle(fabric: FabricArrays, policy: PolicyArrays, row: int, shape: int, idle: int, before: int, i: int) -> int:
    """Return how the idle set's worth, `before`, changes when GPU `i` leaves it (0 where it is not in it)."""
    if not idle >> i & 1:
        return 0
    return sets_worth(fabric, policy, row, shape, idle & ~(1 << i)) - before


@inner_kernel
def prefer_share(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    row: int,
    shape: int,
    first: int,
    idle: int,
    cpu: int,
    memory: int,
    keep: tuple[int, int],
    gpus: Ints,
) -> tuple[int, int]:
    """Return (GPU whose use for share unit `u` leaves the node worth most, change of worth); NONE = none fits.

    Lowest index on ties.
    """
    unit = demands.units[c, u]
    allowed = demands.allowed[c, u, shape]
    idle_worth = sets_worth(fabric, policy, row, shape, idle)
    chosen = NONE
    best = 0
    for i in range(fabric.shape_gpus[shape]):
        g = first + i
        if not allowed >> i & 1 or not share_fits(fabric, unit, g, i, gpus):
            continue
        before = remainder(fabric, g, i, gpus)
        left = gpus[i, LEFT] - unit[ASKED]
        total = fabric.gpu_memory[g]
        if total > 0:
            left = min(left, (gpus[i, MEMORY_LEFT] - unit[ASKED_MEMORY]) * MILLI // total)
        change = remainder_worth(policy, row, policy.gpu_class[g], left)
        change -= gpu_worth(fabric, policy, row, g, i, gpus)
        change += _lost_idle(fabric, policy, row, shape, idle, idle_worth, i)
        change += _saved(policy, cpu, memory, keep, before, left)
        if chosen == NONE or change > best:
            chosen = i
            best = change
    return chosen, best


@inner_kernel
def partition_cost(fabric: FabricArrays, g: int, profile: int) -> int:
    """Return what a partition takes of its GPU, nano-GPU: small profiles that satisfy a demand are cheap."""
    z = fabric.gpu_geometry[g]
    return GIGA * fabric.profile_size[z, profile] // fabric.slice_count[z]


@inner_kernel
def prefer_partition(
    fabric: FabricArrays,
    policy: PolicyArrays,
    demands: DemandArrays,
    c: int,
    u: int,
    row: int,
    shape: int,
    first: int,
    idle: int,
    cpu: int,
    memory: int,
    keep: tuple[int, int],
    gpus: Ints,
) -> tuple[int, int, int, int]:
    """Return (GPU, profile, start, change of worth): the smallest part of a GPU that will do, then what leaves most.

    GPU NONE where nothing fits.
    """
    allowed = demands.allowed[c, u, shape]
    idle_worth = sets_worth(fabric, policy, row, shape, idle)
    chosen = profile = start = NONE
    best = least = 0
    for i in range(fabric.shape_gpus[shape]):
        g = first + i
        z = fabric.gpu_geometry[g]
        use = gpus[i, USE]
        if z == NONE or not allowed >> i & 1 or (use != FREE and use != PARTITIONED):
            continue
        common = _lost_idle(fabric, policy, row, shape, idle, idle_worth, i) - gpu_worth(
            fabric, policy, row, g, i, gpus
        )
        common += _saved(policy, cpu, memory, keep, remainder(fabric, g, i, gpus), 0)
        slices = gpus[i, SLICES]
        for p in range(fabric.profile_size.shape[1]):
            if not demands.profiles[c, u, z] >> p & 1 or not partition_starts(fabric, p, g, i, gpus):
                continue
            at = fabric.best_start[z, p, slices]
            taken = ((1 << fabric.profile_size[z, p]) - 1) << at
            change = common + policy.slice_worth[policy.gpu_class[g], row, slices | taken]
            cost = partition_cost(fabric, g, p)
            if chosen == NONE or cost < least or (cost == least and change > best):
                chosen = i
                profile = p
                start = at
                best = change
                least = cost
    return chosen, profile, start, best
