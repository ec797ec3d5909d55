"""Node scores of the published policies, exactly as the FGD benchmark computes them (0..100, larger is better).

Source: hkust-adsl/kubernetes-scheduler-simulator, whose constants (128 cores, 8 GPUs) these are. The scores of the
Kubernetes default plugins (`upstream`) follow kube-scheduler's NodeResourcesFit and NodeResourcesBalancedAllocation.
"""

from __future__ import annotations

import math

from packing.kernels.arrays import (
    ASKED,
    COUNT,
    FREE,
    HOSTED_KINDS,
    HOSTED_PARTITION,
    HOSTED_SHARE,
    KIND,
    KIND_SHARE,
    KIND_WHOLE,
    LEFT,
    MILLI,
    NONE,
    UNITS,
    USE,
    DemandArrays,
    FabricArrays,
    Ints,
)
from packing.kernels.devices import popcount, share_fits
from packing.kernels.jit import inner_kernel

MAX_CPU = 128_000.0
MAX_GPU = 8_000.0


@inner_kernel
def asked_milli(fabric: FabricArrays, demands: DemandArrays, c: int) -> int:
    """Return the compute a demand asks for, in thousandths of a GPU; a partition counts as the largest it could be."""
    total = 0
    for u in range(demands.pods[c, UNITS]):
        kind = demands.units[c, u, KIND]
        if kind == KIND_WHOLE:
            total += MILLI * demands.units[c, u, COUNT]
        elif kind == KIND_SHARE:
            total += demands.units[c, u, ASKED]
        else:
            largest = 0
            for z in range(demands.profiles.shape[2]):
                for p in range(fabric.profile_size.shape[1]):
                    if demands.profiles[c, u, z] >> p & 1:
                        largest = max(largest, fabric.profile_size[z, p] * MILLI // fabric.slice_count[z])
            total += largest
    return total


@inner_kernel
def idle_milli(gpus: int, state: Ints) -> int:
    """Return the compute left on a node, in thousandths of a GPU."""
    total = 0
    for i in range(gpus):
        total += state[i, LEFT]
    return total


@inner_kernel
def dot_product(cpu_left: int, cpu: int, gpu_left: int, gpu: int) -> int:
    """Score by Tetris (SIGCOMM 2014) as published: the larger the product of what is left and asked, the lower."""
    product = (cpu_left / MAX_CPU) * (cpu / MAX_CPU) + (gpu_left / MAX_GPU) * (gpu / MAX_GPU)
    return int(100.0 * (1.0 - product / 2.0))


@inner_kernel
def best_fit(cpu_left: int, cpu: int, gpu_left: int, gpu: int) -> int:
    """Score by what would be left: little is good. Spreading scores over 0..100 would change no winner."""
    waste = 0.0
    waste += (cpu_left - cpu) / MAX_CPU * 0.5
    waste += (gpu_left - gpu) / MAX_GPU * 0.5
    return int((1.0 - waste) * 100.0)


@inner_kernel
def clustering(demands: DemandArrays, c: int, gpu_left: int, hosted: Ints) -> int:
    """Score by likeness: nodes that host only units of the same kind come first, mixed ones last."""
    if demands.pods[c, UNITS] == 0:
        return 0
    kind = demands.units[c, 0, KIND]
    wanted = HOSTED_PARTITION
    if kind == KIND_WHOLE:
        wanted = demands.units[c, 0, COUNT]
    elif kind == KIND_SHARE:
        wanted = HOSTED_SHARE
    kinds = 0
    for h in range(HOSTED_KINDS):
        if hosted[h] > 0:
            kinds += 1
    fill = int(25 * (8 * MILLI - gpu_left) / (8 * MILLI))
    if hosted[wanted] > 0:
        return fill + 75 if kinds == 1 else fill + 50
    return fill + 25 if kinds == 0 else fill


@inner_kernel
def packing(
    fabric: FabricArrays,
    demands: DemandArrays,
    c: int,
    shape: int,
    first: int,
    free: int,
    state: Ints,
) -> int:
    """Score by how few idle GPUs must be opened: shared GPUs first, then used nodes, then empty ones."""
    if demands.pods[c, UNITS] == 0:
        return 0
    gpus = fabric.shape_gpus[shape]
    idle = popcount(free)
    if idle == gpus:
        return max(33 - idle, idle)
    opened = 0
    left = 0
    for u in range(demands.pods[c, UNITS]):
        kind = demands.units[c, u, KIND]
        if kind == KIND_WHOLE:
            opened += demands.units[c, u, COUNT]
        elif kind == KIND_SHARE:
            fullest = NONE
            for i in range(gpus):
                if not demands.allowed[c, u, shape] >> i & 1:
                    continue
                if share_fits(fabric, demands.units[c, u], first + i, i, state) and (
                    fullest == NONE or state[i, LEFT] < state[fullest, LEFT]
                ):
                    fullest = i
            if fullest == NONE or state[fullest, USE] == FREE:
                opened += 1
            else:
                left += state[fullest, LEFT] * 100 // MILLI
    if opened:
        return max(50 - opened, 33)
    return max(100 - left // 10, 50)


@inner_kernel
def upstream(cpu_left: int, cpu_total: int, memory_left: int, memory_total: int) -> int:
    """Score as a default kube-scheduler does: least allocated plus balanced allocation of CPU and memory, 0..200.

    `left` is after the pod. Devices play no part: the in-tree allocator does not score them.
    """
    cpu_free = 0.0 if cpu_total == 0 else cpu_left / cpu_total
    memory_free = 0.0 if memory_total == 0 else memory_left / memory_total
    least = (int(cpu_free * 100.0) + int(memory_free * 100.0)) // 2
    mean = (cpu_free + memory_free) / 2.0
    deviation = math.sqrt(((cpu_free - mean) ** 2 + (memory_free - mean) ** 2) / 2.0)
    return least + int((1.0 - deviation) * 100.0)
