"""What a node is still worth to the demand to come, in thousand-millionths of a whole GPU (the default policy).

The worth of a node is the idle compute that a demand drawn from the weighted mix could use, less a price for GPUs that
will be left without cores or memory, plus what its links and MIG slices keep possible. A decision costs what it takes away.
All sums are integers, so neither order nor machine changes a result. docs/decisions/0003-default-policy.md derives it.
"""

from __future__ import annotations

from packing.kernels.arrays import (
    FREE,
    KIND_PARTITION,
    KIND_SHARE,
    KIND_WHOLE,
    MILLI,
    NONE,
    PARTITIONED,
    FabricArrays,
    Ints,
    PolicyArrays,
)
from packing.kernels.devices import popcount, remainder
from packing.kernels.jit import inner_kernel


@inner_kernel
def open_specs(policy: PolicyArrays, shape: int, cpu_left: int, memory_left: int, out_specs: Ints) -> int:
    """List the specs that the node's free cores and memory and its GPU models allow; return how many."""
    found = 0
    for m in range(policy.spec_weight.size):
        if (
            policy.spec_cpu[m] <= cpu_left
            and policy.spec_memory[m] <= memory_left
            and policy.spec_allowed[m, shape] != 0
        ):
            out_specs[found] = m
            found += 1
    return found


@inner_kernel
def gpu_worth(
    fabric: FabricArrays,
    policy: PolicyArrays,
    shape: int,
    g: int,
    i: int,
    specs: Ints,
    open_count: int,
    use: Ints,
    milli: Ints,
    memory: Ints,
    slices: Ints,
    excl: Ints,
) -> int:
    """Return what one GPU's idle part is worth to specs that need one GPU or less; `i` is also its index in the node."""
    state = use[i]
    left = remainder(fabric, g, i, milli, memory)
    if state != PARTITIONED and left == 0:
        return 0
    z = fabric.gpu_geometry[g]
    usable = policy.remainder_value[left]
    for at in range(open_count):
        m = specs[at]
        if not policy.spec_allowed[m, shape] >> i & 1:
            continue
        kind = policy.spec_kind[m]
        if kind == KIND_SHARE:
            if state != PARTITIONED and left >= policy.spec_milli[m] and memory[i] >= policy.spec_share_memory[m]:
                usable += policy.spec_weight[m] * left
        elif kind == KIND_WHOLE:
            if state == FREE and policy.spec_count[m] == 1:
                usable += policy.spec_weight[m] * MILLI
        elif kind == KIND_PARTITION and z != NONE and (state == FREE or state == PARTITIONED):
            usable += policy.spec_weight[m] * _partition_use(fabric, z, policy.spec_profiles[m, z], slices[i], excl[i])
    if state == PARTITIONED:
        lost = fabric.slice_loss[z, slices[i]] * (policy.slice_weight // 1_000_000) // fabric.slice_count[z]
        usable -= lost
    return int(usable)


@inner_kernel
def _partition_use(fabric: FabricArrays, z: int, profiles: int, slices: int, excl: int) -> int:
    """Return the share of the GPU (thousandths) that the smallest of `profiles` which still fits would use; 0 = none."""
    best = 0
    for p in range(fabric.profile_size.shape[1]):
        if profiles >> p & 1 and not excl & fabric.excl_block[z, p] and fabric.legal_starts[z, p, slices]:
            size = fabric.profile_size[z, p] * MILLI // fabric.slice_count[z]
            if best == 0 or size < best:
                best = size
    return int(best)


@inner_kernel
def sets_worth(fabric: FabricArrays, policy: PolicyArrays, shape: int, free: int, specs: Ints, open_count: int) -> int:
    """Return what the free GPUs together are worth to specs of several GPUs, and what their links add."""
    usable = 0
    for at in range(open_count):
        m = specs[at]
        if policy.spec_kind[m] == KIND_WHOLE and policy.spec_count[m] > 1:
            idle = popcount(free & policy.spec_allowed[m, shape])
            if idle >= policy.spec_count[m]:
                usable += policy.spec_weight[m] * MILLI * idle
    return usable + int(fabric.link_excess[fabric.mask_start[shape] + free])


@inner_kernel
def shortage(policy: PolicyArrays, cpu_left: int, memory_left: int, keep_cpu: int, keep_memory: int) -> int:
    """Return the price of the cores and memory that the node's idle GPUs will lack."""
    price = 0
    if keep_cpu > cpu_left:
        price += policy.cpu_price * (keep_cpu - cpu_left)
    if keep_memory > memory_left:
        price += policy.memory_price * (keep_memory - memory_left)
    return price
