"""How well what is free can be used, for metrics: read off the core's arrays when somebody asks."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np

from packing.fragmentation import fragmented_share
from packing.kernels.arrays import IDLE
from packing.model import NodeShape
from packing.policy import Policy
from packing.usage import Usage
from scheduler.metrics import Capacity


def measure(usage: Usage, policy: Policy) -> Capacity:
    """Return the figures of a cluster; fragmentation by the mix that the policy knows."""
    fabric = usage.fabric
    gpus: defaultdict[str, int] = defaultdict(int)
    free: defaultdict[str, int] = defaultdict(int)
    linked: defaultdict[str, int] = defaultdict(int)
    for node, idle in zip(fabric.nodes, usage.arrays.nodes[:, IDLE].tolist(), strict=True):
        for product, mask in _products(node.shape).items():
            gpus[product] += mask.bit_count()
            free[product] += (idle & mask).bit_count()
            linked[product] = max(linked[product], _largest_linked(node.shape)[idle & mask])
    return Capacity(fragmentation=fragmented_share(usage, policy), gpus=gpus, free_gpus=free, largest_link_set=linked)


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
