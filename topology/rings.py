"""Rings through every set of GPUs at once. Arrays are indexed by set mask (bit i = GPU i), 2**n long.

Dynamic programme of Held and Karp, one layer of set sizes at a time: `ends[S]` holds the GPUs at which a path that
starts at the lowest GPU of S and visits all of S can end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


def sizes(n: int) -> Int64:
    """[2**n] number of GPUs in each set."""
    count = np.zeros(1, dtype=np.int64)
    for _ in range(n):
        count = np.concatenate([count, count + 1])
    return count


def has_ring(linked: Bools) -> Bools:
    """[2**n] whether a ring over pairs of `linked` ([n, n], symmetric) visits all of the set; False below 3 GPUs."""
    n = len(linked)
    masks = np.arange(1 << n, dtype=np.int64)
    neighbours = (linked.astype(np.int64) << np.arange(n, dtype=np.int64)).sum(axis=1)
    lowest = masks & -masks
    ends = np.where(masks == lowest, masks, 0)
    size = sizes(n)
    order = np.argsort(size, kind="stable")
    first = np.searchsorted(size[order], np.arange(n + 2))
    for k in range(2, n + 1):
        layer = order[first[k] : first[k + 1]]
        for gpu in range(n):
            bit = np.int64(1 << gpu)
            sets = layer[(layer & bit != 0) & (lowest[layer] != bit)]
            reached = sets[ends[sets ^ bit] & neighbours[gpu] != 0]
            ends[reached] |= bit
    start = np.zeros(1 << n, dtype=np.int64)
    for gpu in range(n):
        start[lowest == 1 << gpu] = neighbours[gpu]
    result: Bools = (size >= 3) & (ends & start != 0)
    return result


def widest_ring(mbps: Int64) -> Int64:
    """[2**n] rate of the weakest edge of the best ring through each set, 0 below 3 GPUs or where there is none.

    `mbps` ([n, n], symmetric) is the rate of each edge.
    """
    best = np.zeros(1 << len(mbps), dtype=np.int64)
    # From the widest edges down: the first threshold at which a ring exists is its weakest edge.
    for threshold in np.unique(mbps[mbps > 0])[::-1]:
        found = has_ring(mbps >= threshold)
        best[found & (best == 0)] = threshold
    return best


def least_pair(values: Int64) -> Int64:
    """[2**n] smallest entry of `values` ([n, n], symmetric) over the pairs of each set, 0 below 2 GPUs."""
    n = len(values)
    top = np.iinfo(np.int64).max
    least = np.full(1, top, dtype=np.int64)
    for gpu in range(n):
        # Sets that have `gpu` as highest: its least rate to each of the lower sets, built up bit by bit.
        towards = np.full(1, top, dtype=np.int64)
        for peer in range(gpu):
            towards = np.concatenate([towards, np.minimum(towards, values[gpu, peer])])
        least = np.concatenate([least, np.minimum(least, towards)])
    least[least == top] = 0
    return least


def pair_sum(values: Int64) -> Int64:
    """[2**n] sum of `values` ([n, n], symmetric) over the pairs of each set."""
    total = np.zeros(1, dtype=np.int64)
    for gpu in range(len(values)):
        towards = np.zeros(1, dtype=np.int64)
        for peer in range(gpu):
            towards = np.concatenate([towards, towards + values[gpu, peer]])
        total = np.concatenate([total, total + towards])
    return total
