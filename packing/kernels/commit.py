"""The only kernel that changes usage: give a choice of devices to a pod, or take it back."""

from __future__ import annotations

from packing.kernels.arrays import (
    COUNT,
    CPU,
    HOSTED_PARTITION,
    HOSTED_SHARE,
    IDLE,
    KIND,
    KIND_PARTITION,
    KIND_WHOLE,
    MEMORY,
    NEWER,
    OLDER,
    UNITS,
    Choice,
    DemandArrays,
    FabricArrays,
    Ints,
    UsageArrays,
)
from packing.kernels.devices import give_back, idle_gpus, take
from packing.kernels.jit import hot_kernel, inner_kernel


@inner_kernel
def _changed_last(recent: Ints, node: int) -> None:
    """Move a node to the front of the ring of changes."""
    ring = recent.shape[0] - 1
    newer, older = recent[node, NEWER], recent[node, OLDER]
    recent[newer, OLDER] = older
    recent[older, NEWER] = newer
    first = recent[ring, OLDER]
    recent[node, NEWER] = ring
    recent[node, OLDER] = first
    recent[first, NEWER] = node
    recent[ring, OLDER] = node


@hot_kernel
def commit(
    fabric: FabricArrays, usage: UsageArrays, demands: DemandArrays, c: int, node: int, choice: Choice, sign: int
) -> None:
    """Apply (`sign` 1) or release (`sign` -1) a pod of class `c` on `node` with the devices in `choice`."""
    usage.nodes[node, CPU] -= sign * demands.pods[c, CPU]
    usage.nodes[node, MEMORY] -= sign * demands.pods[c, MEMORY]
    first, last = fabric.gpu_start[node], fabric.gpu_start[node + 1]
    for u in range(demands.pods[c, UNITS]):
        unit = demands.units[c, u]
        hosted = HOSTED_PARTITION if unit[KIND] == KIND_PARTITION else HOSTED_SHARE
        if unit[KIND] == KIND_WHOLE:
            hosted = unit[COUNT]
        usage.hosted[node, hosted] += sign
        profile, start = choice.profile[u], choice.start[u]
        for g in range(first, last):
            if choice.gpus[u] >> (g - first) & 1:
                if sign > 0:
                    take(fabric, unit, g, g, profile, start, usage.gpus)
                else:
                    give_back(fabric, unit, g, g, profile, start, usage.gpus)
    usage.nodes[node, IDLE] = idle_gpus(fabric, fabric.node_shape[node], first, usage.gpus[first:last])
    usage.events[0] += 1
    usage.version[node] = usage.events[0]
    _changed_last(usage.recent, node)
