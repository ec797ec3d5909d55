"""The best node of a row of scores without a pass over the row: a tree of maxima, eight children to a parent.

Level 0 holds a score per node, an entry of a higher level the highest of its eight children, which share a cache line.
A new score climbs only as far as it changes a maximum; the best node is found by going down from the top, always to the
first child that has the maximum. Both cost O(log nodes), and of equal nodes the one of lowest index is found.
"""

from __future__ import annotations

import numpy as np

from packing.kernels.arrays import INFEASIBLE, NONE, UNDECIDED, Flags, Ints
from packing.kernels.jit import inner_kernel

FAN_BITS = 3
FAN = 1 << FAN_BITS


def level_starts(nodes: int) -> Ints:
    """[L] where each level of a tree over `nodes` scores starts in its row; the last level is its last entry."""
    starts = [0]
    size = max(1, nodes)
    while size > 1 or len(starts) == 1:
        parents = -(-size // FAN)
        starts.append(starts[-1] + parents * FAN)
        size = parents
    return np.array(starts, dtype=np.int64)


def empty_trees(rows: int, starts: Ints) -> Ints:
    """[rows, T] trees in which no node is feasible. Beyond the last node of a level nothing ever is."""
    return np.full((rows, int(starts[-1]) + 1), INFEASIBLE, dtype=np.int64)


@inner_kernel
def update_maxima(tree: Ints, starts: Ints, node: int) -> None:
    """Bring the maxima above a node up to date with its score."""
    at = node
    for level in range(1, starts.size):
        at >>= FAN_BITS
        first = starts[level - 1] + (at << FAN_BITS)
        best = tree[first]
        for child in range(first + 1, first + FAN):
            best = max(best, tree[child])
        if tree[starts[level] + at] == best:
            return
        tree[starts[level] + at] = best


@inner_kernel
def best_node(tree: Ints, starts: Ints) -> int:
    """Return the first node with the highest score, NONE where no node is feasible."""
    best = tree[tree.size - 1]
    if best <= UNDECIDED:
        return NONE
    at = 0
    for level in range(starts.size - 2, -1, -1):
        at <<= FAN_BITS
        while tree[starts[level] + at] != best:
            at += 1
    return at


@inner_kernel
def best_among(tree: Ints, among: Flags) -> int:
    """Return the first node of `among` with the highest score of these, NONE where none of them is feasible."""
    best = UNDECIDED
    found = NONE
    for node in range(among.size):
        if among[node] and tree[node] > best:
            best = tree[node]
            found = node
    return found
