"""Why a node refuses a demand: its first failing constraint, in one fixed order.

The order is that of the codes below: what no work on the node can change comes first, then what is full, then what only
the requests of one pod do to each other. CPU and memory are the pod's; every other constraint is tried for each unit on
the node as it is now, as if the pod had no other, and the lowest code of all is the answer (the first unit on ties).
"""

from __future__ import annotations

from typing import Final

from packing.kernels.arrays import (
    ASKED,
    ASKED_MEMORY,
    COUNT,
    CPU,
    EXCLUSIVE,
    GPU_COLUMNS,
    IDLE,
    KIND,
    KIND_PARTITION,
    KIND_WHOLE,
    LEFT,
    MAX_GPUS,
    MAY_BE_PARTITIONED,
    MAY_RUN_PODS,
    MEMORY,
    MEMORY_LEFT,
    MIN_QUALITY,
    NONE,
    SLICES,
    UNITS,
    WISH_REQUIRE,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    UsageArrays,
)
from packing.kernels.choose import first_set, next_subset
from packing.kernels.devices import partition_starts, popcount, set_idle, share_fits
from packing.kernels.jit import hot_kernel, inner_kernel
from packing.kernels.search import BOUND_HIT, FOUND, any_allocation, copy_node

# The order of the constraints. `detail` is what the node has at best, in the unit named here.
FITS: Final = 0
NO_GPU: Final = 1
NOT_SELECTED: Final = 2
"""No GPU of the node has what the selector asks."""
SMALL_CPU: Final = 3
"""Too little even on the empty node; detail: its millicores."""
SMALL_MEMORY: Final = 4
"""Detail: its MiB."""
SMALL_COUNT: Final = 5
"""Detail: GPUs that the selector admits."""
NEVER_LINKED: Final = 6
"""No set of the machine meets the link requirement; detail: largest island (GPUs), or best quality (MB/s)."""
UNKNOWN_PROFILE: Final = 7
SMALL_GPU_MEMORY: Final = 8
"""A share larger than the GPU; detail: MiB of the largest."""
UNHEALTHY: Final = 9
"""Detail: healthy GPUs that would do."""
MIG_ON: Final = 10
"""Too few GPUs outside fixed MIG mode; detail: how many."""
MIG_OFF: Final = 11
NO_CPU: Final = 12
"""Detail: millicores left."""
NO_MEMORY: Final = 13
"""Detail: MiB left."""
BUSY: Final = 14
"""Too few free GPUs; detail: how many."""
NOT_LINKED: Final = 15
"""No free set meets the link requirement; detail as for NEVER_LINKED."""
SHARE_MODE: Final = 16
"""Every GPU is used whole, partitioned or shared in the other way."""
SHARE_COMPUTE: Final = 17
"""Detail: most thousandths left on one GPU in the right mode that is large enough."""
SHARE_MEMORY: Final = 18
"""Detail: most MiB left on one GPU with enough compute, however small it is."""
PARTITION_MODE: Final = 19
"""Every GPU is used whole or shared."""
PARTITION_ENGINES: Final = 20
"""A start is free, but another partition holds the engines."""
PARTITION_ROOM: Final = 21
"""No start is free; detail: largest profile that fits (`pack_profile`), 0 = none."""
TOGETHER: Final = 22
"""Each request fits, all of them do not."""
BOUND: Final = 23
"""The bounded search for several requests ended without an answer."""

PROFILE_BITS: Final = 8


@inner_kernel
def pack_profile(size: int, z: int, p: int) -> int:
    """Return profile `p` of geometry `z` as one number > 0 that grows with its size; of equals the first."""
    return (size << PROFILE_BITS | z) << PROFILE_BITS | (1 << PROFILE_BITS) - 1 - p


@inner_kernel
def _probe(usage: UsageArrays, g: int, local: Ints) -> None:
    """Copy the GPU into row 0 of level 0."""
    for column in range(GPU_COLUMNS):
        local[0, 0, column] = usage.gpus[g, column]


@inner_kernel
def _with_modes(fabric: FabricArrays, first: int, gpus: int, modes: int) -> int:
    """Return those of a node's GPUs (bit mask) that are healthy and may be used in one of `modes`."""
    kept = 0
    for i in range(MAX_GPUS):
        if gpus >> i & 1 and fabric.gpu_modes[first + i] & modes:
            kept |= 1 << i
    return kept


@inner_kernel
def _link_detail(fabric: FabricArrays, demands: DemandArrays, c: int, u: int, shape: int, gpus: int) -> int:
    """Return the best quality (MB/s) of any set of the asked size, or the size of the largest smaller NVLink island."""
    count = demands.units[c, u, COUNT]
    start = fabric.mask_start[shape]
    if demands.units[c, u, MIN_QUALITY] > 0:
        at = fabric.set_start[shape] + (count << fabric.shape_gpus[shape]) + gpus
        return int(fabric.quality[start + fabric.best_sets[WISH_REQUIRE, at]])
    size = count - 1
    while size > 1:
        chosen = next_subset(gpus, size, 0)
        while chosen and not fabric.nvlink[start + chosen]:
            chosen = next_subset(gpus, size, chosen)
        if chosen:
            return int(size)
        size -= 1
    return 1


@inner_kernel
def _whole(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, u: int, node: int
) -> tuple[int, int]:
    """Return (code, detail) of a unit of whole GPUs."""
    shape, first = fabric.node_shape[node], fabric.gpu_start[node]
    allowed, count = demands.allowed[c, u, shape], demands.units[c, u, COUNT]
    if popcount(allowed) < count:
        return SMALL_COUNT, popcount(allowed)
    idle = usage.nodes[node, IDLE] & allowed
    if first_set(fabric, demands, c, u, shape, idle):
        return FITS, 0
    if first_set(fabric, demands, c, u, shape, allowed) == 0:
        return NEVER_LINKED, _link_detail(fabric, demands, c, u, shape, allowed)
    healthy = _with_modes(fabric, first, allowed, MAY_RUN_PODS | MAY_BE_PARTITIONED)
    if popcount(healthy) < count:
        return UNHEALTHY, popcount(healthy)
    usable = _with_modes(fabric, first, healthy, MAY_RUN_PODS)
    if popcount(usable) < count:
        return MIG_ON, popcount(usable)
    if popcount(idle) < count:
        return BUSY, popcount(idle)
    return NOT_LINKED, _link_detail(fabric, demands, c, u, shape, idle)


@inner_kernel
def _share(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, u: int, node: int, unit: Ints, local: Ints
) -> tuple[int, int]:
    """Return (code, detail) of a share unit. `unit` is scratch for a unit that asks for less, `local` for a GPU."""
    shape, first = fabric.node_shape[node], fabric.gpu_start[node]
    allowed = demands.allowed[c, u, shape]
    size = healthy = usable = in_mode = with_compute = compute = memory = NONE
    for i in range(fabric.shape_gpus[shape]):
        g = first + i
        if not allowed >> i & 1:
            continue
        if share_fits(fabric, demands.units[c, u], g, g, usage.gpus):
            return FITS, 0
        for column in range(unit.size):
            unit[column] = demands.units[c, u, column]
        size = max(size, fabric.gpu_memory[g])
        unit[ASKED_MEMORY] = 0
        enough = share_fits(fabric, unit, g, g, usage.gpus)
        if enough:
            memory = max(memory, usage.gpus[g, MEMORY_LEFT])
        unit[ASKED_MEMORY] = demands.units[c, u, ASKED_MEMORY]
        if fabric.gpu_memory[g] < unit[ASKED_MEMORY]:
            continue
        healthy = max(healthy, 1 if fabric.gpu_modes[g] else 0)
        set_idle(fabric, g, 0, local[0])
        usable = max(usable, 1 if share_fits(fabric, unit, g, 0, local[0]) else 0)
        with_compute = max(with_compute, 1 if enough else 0)
        unit[ASKED_MEMORY] = 0
        unit[ASKED] = 0
        if share_fits(fabric, unit, g, g, usage.gpus):
            in_mode = 1
            compute = max(compute, usage.gpus[g, LEFT])
    if size < demands.units[c, u, ASKED_MEMORY]:
        return SMALL_GPU_MEMORY, size
    if healthy != 1:
        return UNHEALTHY, 0
    if usable != 1:
        return MIG_ON, 0
    if in_mode != 1:
        return SHARE_MODE, 0
    if with_compute != 1:
        return SHARE_COMPUTE, compute
    return SHARE_MEMORY, memory


@inner_kernel
def _largest_profile(fabric: FabricArrays, z: int, g: int, i: int, gpus: Ints) -> int:
    """Return the largest profile that the GPU could still host, packed; 0 = none."""
    largest = 0
    for p in range(fabric.profile_size.shape[1]):
        if partition_starts(fabric, p, g, i, gpus):
            largest = max(largest, pack_profile(fabric.profile_size[z, p], z, p))
    return largest


@inner_kernel
def _partition(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, u: int, node: int, local: Ints
) -> tuple[int, int]:
    """Return (code, detail) of a partition unit. Level 0 of `local` is scratch for a GPU with less on it."""
    shape, first = fabric.node_shape[node], fabric.gpu_start[node]
    allowed = demands.allowed[c, u, shape]
    code = UNKNOWN_PROFILE
    largest = 0
    gpus = local[0]
    for i in range(fabric.shape_gpus[shape]):
        g = first + i
        z = fabric.gpu_geometry[g]
        if not allowed >> i & 1 or z == NONE:
            continue
        for p in range(fabric.profile_size.shape[1]):
            if not demands.profiles[c, u, z] >> p & 1 or fabric.legal_starts[z, p, 0] == 0:
                continue
            if partition_starts(fabric, p, g, g, usage.gpus):
                return FITS, 0
            if fabric.gpu_modes[g] == 0:
                code = max(code, UNHEALTHY)
                continue
            if not fabric.gpu_modes[g] & MAY_BE_PARTITIONED:
                code = max(code, MIG_OFF)
                continue
            _probe(usage, g, local)
            gpus[0, EXCLUSIVE] = 0
            if partition_starts(fabric, p, g, 0, gpus):
                code = max(code, PARTITION_ENGINES)
                continue
            gpus[0, SLICES] = 0
            code = max(code, PARTITION_ROOM if partition_starts(fabric, p, g, 0, gpus) else PARTITION_MODE)
        largest = max(largest, _largest_profile(fabric, z, g, g, usage.gpus))
    return code, largest if code == PARTITION_ROOM else 0


@inner_kernel
def _together(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, node: int, local: Ints, choice: Choice
) -> int:
    """Return what the search says of several units, each of which fits alone."""
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    copy_node(usage, first, last, local)
    found = any_allocation(fabric, demands, c, fabric.node_shape[node], first, local, choice)
    if found == FOUND:
        return FITS
    return BOUND if found == BOUND_HIT else TOGETHER


@inner_kernel
def explain_node(
    fabric: FabricArrays,
    usage: UsageArrays,
    demands: DemandArrays,
    c: int,
    node: int,
    unit: Ints,
    local: Ints,
    choice: Choice,
) -> tuple[int, int, int]:
    """Return (code, unit, detail) of one node; the unit is NONE where the constraint is the pod's."""
    at = NONE
    code, detail = TOGETHER, 0
    for column in (CPU, MEMORY):
        asked, size, left = demands.pods[c, column], fabric.node_size[node, column], usage.nodes[node, column]
        if asked > size and SMALL_CPU + column < code:
            code, detail = SMALL_CPU + column, size
        elif asked > left and NO_CPU + column < code:
            code, detail = NO_CPU + column, left
    shape = fabric.node_shape[node]
    units = demands.pods[c, UNITS]
    for u in range(units):
        if fabric.shape_gpus[shape] == 0:
            return NO_GPU, u, 0
        if demands.allowed[c, u, shape] == 0:
            found, have = NOT_SELECTED, 0
        elif demands.units[c, u, KIND] == KIND_WHOLE:
            found, have = _whole(fabric, usage, demands, c, u, node)
        elif demands.units[c, u, KIND] == KIND_PARTITION:
            found, have = _partition(fabric, usage, demands, c, u, node, local)
        else:
            found, have = _share(fabric, usage, demands, c, u, node, unit, local)
        if found != FITS and found < code:
            code, at, detail = found, u, have
    if code != TOGETHER:
        return code, at, detail
    if units <= 1:
        return FITS, NONE, 0
    return _together(fabric, usage, demands, c, node, local, choice), NONE, 0


@hot_kernel
def explain_nodes(
    fabric: FabricArrays,
    usage: UsageArrays,
    demands: DemandArrays,
    c: int,
    unit: Ints,
    local: Ints,
    choice: Choice,
    out: Ints,
) -> None:
    """Fill `out` [N, 3] with code, unit and detail of every node. Read-only but for the scratch.

    `unit` is [7], `local` and `choice` as `place()` has them.
    """
    for node in range(usage.version.size):
        code, u, detail = explain_node(fabric, usage, demands, c, node, unit, local, choice)
        out[node, 0] = code
        out[node, 1] = u
        out[node, 2] = detail
