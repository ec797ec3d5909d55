"""How well what is free can be used, for metrics: read off the core's arrays when somebody asks."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np

from packing.kernels.arrays import CPU, IDLE, LEFT
from packing.kernels.frag import node_frag
from packing.kernels.jit import direct
from packing.model import NodeShape
from packing.policy import Policy
from packing.usage import Usage
from scheduler.metrics import Capacity

_node_frag = direct(node_frag)


def measure(usage: Usage, policy: Policy) -> Capacity:
    """Return the figures of a cluster; fragmentation by the mix that the policy knows."""
    assert policy.fabric is usage.fabric, "the policy was made for another fabric"
    fabric = usage.fabric
    gpus: defaultdict[str, int] = defaultdict(int)
    free: defaultdict[str, int] = defaultdict(int)
    linked: defaultdict[str, int] = defaultdict(int)
    for node, idle in zip(fabric.nodes, usage.arrays.nodes[:, IDLE].tolist(), strict=True):
        for product, mask in _products(node.shape).items():
            gpus[product] += mask.bit_count()
            free[product] += (idle & mask).bit_count()
            linked[product] = max(linked[product], _largest_linked(node.shape)[idle & mask])
    return Capacity(fragmentation=_fragmentation(usage, policy), gpus=gpus, free_gpus=free, largest_link_set=linked)


def _fragmentation(usage: Usage, policy: Policy) -> float:
    """Return the share of the idle compute that a pod drawn from the mix could not use (FGD, USENIX ATC 2023)."""
    arrays, fabric = usage.arrays, usage.fabric.arrays
    idle_milli = int(arrays.gpus[:, LEFT].sum())
    if not idle_milli or not policy.arrays.fgd_weight.size:
        return 0.0
    scratch = np.zeros((2, max(1, policy.arrays.fgd_sizes.size)), dtype=np.int64)
    lost_milli = 0.0
    for at, shape in enumerate(fabric.node_shape.tolist()):
        first, last = fabric.gpu_start[at : at + 2].tolist()
        state = arrays.gpus[first:last]
        lost_milli += _node_frag(policy.arrays, shape, int(arrays.nodes[at, CPU]), last - first, state, scratch)
    return lost_milli / idle_milli


@lru_cache(maxsize=256)
def _products(shape: NodeShape) -> dict[str, int]:
    """Product -> bit mask of its GPUs."""
    masks: dict[str, int] = {}
    for at, gpu in enumerate(shape.gpus):
        masks[gpu.product] = masks.get(gpu.product, 0) | 1 << at
    return masks


@lru_cache(maxsize=256)
def _largest_linked(shape: NodeShape) -> list[int]:
    """[2**n] size of the largest subset of each set of GPUs that is joined by NVLink alone; 1 for GPUs without."""
    gpus = len(shape.gpus)
    masks = np.arange(1 << gpus)
    sizes = np.array([mask.bit_count() for mask in range(1 << gpus)], dtype=np.int64)
    largest = np.where(shape.links.nvlink == 1, sizes, np.minimum(sizes, 1))
    for gpu in range(gpus):  # over all subsets: leave each GPU out in turn
        has = masks[(masks >> gpu) & 1 == 1]
        largest[has] = np.maximum(largest[has], largest[has ^ (1 << gpu)])
    found: list[int] = largest.tolist()
    return found
