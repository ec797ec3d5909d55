"""Which devices of one node a policy other than the default gives to a unit."""

from __future__ import annotations

from typing import Final

from packing.kernels.arrays import (
    COUNT,
    FGD,
    FIRST_FIT,
    LEFT,
    MIN_QUALITY,
    NONE,
    RANDOM,
    SLICES,
    SPREAD,
    UPSTREAM,
    WISH,
    WISH_PREFER,
    WISH_REQUIRE,
    WORST_FIT,
    DemandArrays,
    FabricArrays,
    Ints,
)
from packing.kernels.devices import partition_starts, popcount, share_fits
from packing.kernels.jit import inner_kernel

MASK_31: Final = 0x7FFFFFFF


@inner_kernel
def draw(seed: int, events: int, item: int) -> int:
    """Return a repeatable pseudo-random number below 2^31 for one item of one decision.

    Three rounds of a multiplicative hash on 31 bits, so that compiled and plain Python arithmetic agree (no overflow).
    """
    x = (seed * 40503 + 12345) & MASK_31
    for word in (events & MASK_31, item):
        x = ((x ^ word) * 1664525 + 1013904223) & MASK_31
        x ^= x >> 15
        x = (x * 742938285) & MASK_31
        x ^= x >> 14
    return x


@inner_kernel
def lowest_bits(mask: int, count: int) -> int:
    """Return the `count` lowest GPUs of a set that has at least as many."""
    chosen = 0
    for _ in range(count):
        low = mask & -mask
        chosen |= low
        mask ^= low
    return chosen


@inner_kernel
def links_satisfy(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, gpus: int) -> bool:
    """Whether a set meets the link requirement of a whole unit: its minimum quality, or NVLink alone."""
    if demands.units[c, u, WISH] != WISH_REQUIRE:
        return True
    at = fabric.mask_start[shape] + gpus
    if demands.units[c, u, MIN_QUALITY] > 0:
        return fabric.quality[at] >= demands.units[c, u, MIN_QUALITY]
    return demands.units[c, u, COUNT] == 1 or fabric.nvlink[at] == 1


@inner_kernel
def next_subset(mask: int, count: int, after: int) -> int:
    """Return the smallest `count`-subset of `mask` that is numerically larger than `after` (0 = the first), or 0."""
    if after == 0:
        return lowest_bits(mask, count) if popcount(mask) >= count else 0
    # In numerical order, the subsets of `mask` are 0..2^p spread over its bits; step to the next of equal size.
    packed = 0
    bit = 0
    rest = mask
    while rest:
        low = rest & -rest
        if after & low:
            packed |= 1 << bit
        rest ^= low
        bit += 1
    low = packed & -packed
    ripple = packed + low
    packed = (((ripple ^ packed) >> 2) // low) | ripple
    if packed >> bit:
        return 0
    chosen = 0
    rest = mask
    while packed:
        low = rest & -rest
        if packed & 1:
            chosen |= low
        packed >>= 1
        rest ^= low
    return chosen


@inner_kernel
def first_set(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, free: int) -> int:
    """Return the first set of free GPUs, lowest indices first, that serves a whole unit; 0 = none."""
    eligible = free & demands.allowed[c, u, shape]
    count = demands.units[c, u, COUNT]
    if popcount(eligible) < count:
        return 0
    if demands.units[c, u, WISH] == WISH_REQUIRE:
        if not _can_be_linked(fabric, demands, c, u, shape):
            return 0
        gpus = next_subset(eligible, count, 0)
        while gpus and not links_satisfy(fabric, demands, c, u, shape, gpus):
            gpus = next_subset(eligible, count, gpus)
        return gpus
    return lowest_bits(eligible, count)


@inner_kernel
def _can_be_linked(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int) -> bool:
    """Whether the empty node has any set that meets the requirement; saves the search on nodes that never will."""
    count = demands.units[c, u, COUNT]
    if demands.units[c, u, MIN_QUALITY] > 0:
        return fabric.ideal[shape, count] >= demands.units[c, u, MIN_QUALITY]
    return count == 1 or fabric.island[shape, count] == 1


@inner_kernel
def best_set(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, free: int) -> int:
    """Return the set that the link tables name for a whole unit and its wish; 0 = none."""
    eligible = free & demands.allowed[c, u, shape]
    count = demands.units[c, u, COUNT]
    if popcount(eligible) < count:
        return 0
    at = fabric.set_start[shape] + (count << fabric.shape_gpus[shape]) + eligible
    wish = demands.units[c, u, WISH]
    if wish == WISH_REQUIRE:
        for table in (WISH_PREFER, WISH_REQUIRE):
            gpus = int(fabric.best_sets[table, at])
            if links_satisfy(fabric, demands, c, u, shape, gpus):
                return gpus
        return first_set(fabric, demands, c, u, shape, free)
    return int(fabric.best_sets[wish, at])


@inner_kernel
def simple_share(
    fabric: FabricArrays,
    code: int,
    seed: int,
    events: int,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    gpus: Ints,
) -> int:
    """Return the GPU of the node that a simple policy gives to a share unit: first, fullest, emptiest or random."""
    allowed = demands.allowed[c, u, shape]
    chosen = NONE
    best = 0
    for i in range(fabric.shape_gpus[shape]):
        if not allowed >> i & 1 or not share_fits(fabric, demands.units[c, u], first + i, i, gpus):
            continue
        if code in (FIRST_FIT, UPSTREAM):
            return i
        if code == RANDOM:
            key = draw(seed, events, first + i)
        elif code in (WORST_FIT, SPREAD):
            key = -gpus[i, LEFT]
        else:
            key = gpus[i, LEFT]
        if chosen == NONE or key < best:
            chosen = i
            best = key
    return chosen


@inner_kernel
def simple_partition(
    fabric: FabricArrays,
    code: int,
    seed: int,
    events: int,
    demands: DemandArrays,
    c: int,
    u: int,
    shape: int,
    first: int,
    gpus: Ints,
) -> tuple[int, int, int]:
    """Return (GPU, profile, start) that a simple policy gives to a partition unit; the GPU is NONE where nothing fits.

    Smallest profile first. Best-fit, FGD and their kin take the best start of the table, the others the lowest.
    """
    chosen = profile = start = NONE
    best = best_size = 0
    for i in range(fabric.shape_gpus[shape]):
        g = first + i
        z = fabric.gpu_geometry[g]
        if z == NONE or not demands.allowed[c, u, shape] >> i & 1:
            continue
        for p in range(fabric.profile_size.shape[1]):
            if not demands.profiles[c, u, z] >> p & 1:
                continue
            starts = partition_starts(fabric, p, g, i, gpus)
            if starts == 0:
                continue
            at = _simple_start(fabric, code, z, p, gpus[i, SLICES], starts)
            key = _partition_key(fabric, code, seed, events, z, p, g, gpus[i, SLICES], at)
            size = fabric.profile_size[z, p]
            if chosen == NONE or size < best_size or (size == best_size and key < best):
                chosen = i
                profile = p
                start = at
                best = key
                best_size = size
    return chosen, profile, start


@inner_kernel
def _simple_start(fabric: FabricArrays, code: int, z: int, p: int, slices: int, starts: int) -> int:
    """Return the start a simple policy takes among the legal ones."""
    if code in (FIRST_FIT, UPSTREAM, WORST_FIT, SPREAD, RANDOM):
        lowest = 0
        while not starts >> lowest & 1:
            lowest += 1
        return lowest
    return int(fabric.best_start[z, p, slices])


@inner_kernel
def _partition_key(
    fabric: FabricArrays, code: int, seed: int, events: int, z: int, p: int, g: int, slices: int, start: int
) -> int:
    """Return what a simple policy minimises among GPUs for a partition: free slices, stranded slices or chance."""
    if code == RANDOM:
        return draw(seed, events, g)
    if code == FGD:
        after = slices | ((1 << fabric.profile_size[z, p]) - 1) << start
        return int(fabric.slice_loss[z, after] - fabric.slice_loss[z, slices])
    free = fabric.slice_count[z] - popcount(slices)
    if code in (WORST_FIT, SPREAD):
        return -int(free)
    if code in (FIRST_FIT, UPSTREAM):
        return 0
    return int(free)
