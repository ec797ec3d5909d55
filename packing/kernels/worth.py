"""What a node is still worth to the demand to come, in thousand-millionths of a whole GPU (the default policy).

The worth of a node is the idle compute that a demand drawn from the weighted mix could use, less a price for GPUs that
will be left without cores or memory, plus what its links and MIG slices keep possible. A decision costs what it takes
away. The sums over the mix stand in tables (`packing.worthtables`); all are integers, so neither order nor machine
changes a result. docs/decisions/0003-default-policy.md derives it.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    CPU,
    FREE,
    MEMORY,
    MILLI,
    PARTITIONED,
    SLICES,
    USE,
    FabricArrays,
    Ints,
    PolicyArrays,
)
from packing.kernels.devices import popcount, remainder
from packing.kernels.jit import inner_kernel


@inner_kernel
def _steps_up_to(steps: Ints, amount: int) -> int:
    """Return how many of the rising `steps` are at most `amount`."""
    low = 0
    high = steps.size
    while low < high:
        middle = (low + high) >> 1
        if steps[middle] <= amount:
            low = middle + 1
        else:
            high = middle
    return low


@inner_kernel
def spare_row(policy: PolicyArrays, cpu: int, memory: int) -> int:
    """Return the table row for a node with so many millicores and MiB to spare."""
    t = _steps_up_to(policy.cpu_steps, cpu)
    return t * (policy.memory_steps.size + 1) + _steps_up_to(policy.memory_steps, memory)


@inner_kernel
def remainder_worth(policy: PolicyArrays, row: int, a: int, left: int) -> int:
    """Return what `left` thousandths of a GPU of class `a` are worth to specs that need a share."""
    return int(policy.remainder_value[left] + policy.share_weight[a, row, policy.size_rank[left]] * left)


@inner_kernel
def gpu_worth(fabric: FabricArrays, policy: PolicyArrays, row: int, g: int, i: int, gpus: Ints) -> int:
    """Return what one GPU's idle part is worth to specs that need a share or a partition; 0 if it is unhealthy."""
    if fabric.gpu_modes[g] == 0:
        return 0
    a = policy.gpu_class[g]
    use = gpus[i, USE]
    if use == PARTITIONED:
        return int(policy.slice_worth[a, row, gpus[i, SLICES]])
    worth = remainder_worth(policy, row, a, remainder(fabric, g, i, gpus))
    if use == FREE:
        worth += policy.slice_worth[a, row, 0]
    return int(worth)


@inner_kernel
def sets_worth(fabric: FabricArrays, policy: PolicyArrays, row: int, shape: int, idle: int) -> int:
    """Return what the idle GPUs are worth to specs of whole GPUs, and what their links add."""
    worth = fabric.link_excess[fabric.mask_start[shape] + idle] * policy.link_room // MILLI
    for b in range(policy.set_masks.shape[1]):
        count = popcount(idle & policy.set_masks[shape, b])
        worth += policy.set_worth[policy.set_table[shape, b], row, count]
    return int(worth)


@inner_kernel
def shortage(policy: PolicyArrays, cpu: int, memory: int, keep_cpu: int, keep_memory: int) -> int:
    """Return the price of the cores and memory that the node's idle GPUs will lack."""
    price = 0
    if keep_cpu > cpu:
        price += policy.cpu_price * (keep_cpu - cpu)
    if keep_memory > memory:
        price += policy.memory_price * (keep_memory - memory)
    return price


@inner_kernel
def node_worth(
    fabric: FabricArrays,
    policy: PolicyArrays,
    row: int,
    shape: int,
    first: int,
    idle: int,
    taken: int,
    cpu: int,
    memory: int,
    gpus: Ints,
) -> tuple[int, int, int]:
    """Return (worth, millicores, MiB): what the node is worth without `taken`, and what its idle GPUs will need.

    `cpu` and `memory` are the millicores and MiB to spare, `taken` idle GPUs given away whole.
    """
    worth = sets_worth(fabric, policy, row, shape, idle & ~taken)
    keep_cpu = keep_memory = 0
    for i in range(fabric.shape_gpus[shape]):
        if taken >> i & 1:
            continue
        worth += gpu_worth(fabric, policy, row, first + i, i, gpus)
        left = remainder(fabric, first + i, i, gpus)
        keep_cpu += policy.keep[CPU, left]
        keep_memory += policy.keep[MEMORY, left]
    return worth - shortage(policy, cpu, memory, keep_cpu, keep_memory), keep_cpu, keep_memory
