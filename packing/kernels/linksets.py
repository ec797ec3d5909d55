"""Loops over all GPU sets of one machine (bit i of a set mask = GPU i): best disjoint sets, and best choice of a set.

Both walk every (set, subset) pair that matters exactly once; at 16 GPUs that is 3**16 = 43 million for `choose`.
"""

from __future__ import annotations

import numpy as np

from packing.kernels.arrays import Ints, Sets
from packing.kernels.jit import kernel


@kernel
def pack_disjoint(sets: Ints, worth: Ints, out: Ints) -> None:
    """Fill `out[mask]` with the largest total worth of disjoint `sets` inside `mask`.

    `sets` are set masks of one size, by lowest GPU, highest first; `worth[i]` >= 0 belongs to `sets[i]`; `out` is
    [2**n]. Either no set of the best packing has the mask's lowest GPU, or one has and the others pack the rest best.
    """
    out[0] = 0
    at = 0
    low = out.size >> 1
    while low > 0:
        # Masks whose lowest GPU is `low`; all masks of higher GPUs only are final.
        above = (out.size - 1) & ~(2 * low - 1)
        rest = above
        while True:
            out[rest | low] = out[rest]
            if rest == 0:
                break
            rest = (rest - 1) & above
        while at < sets.size and sets[at] & -sets[at] == low:
            chosen = sets[at]
            gain = worth[at]
            free = above & ~chosen
            rest = free
            while True:
                value = gain + out[rest]
                mask = rest | chosen
                out[mask] = max(out[mask], value)
                if rest == 0:
                    break
                rest = (rest - 1) & free
            at += 1
        low >>= 1


@kernel
def choose_sets(size: Ints, gains: Ints, keeps: Ints, unranked: Ints, out: Sets) -> None:
    """Fill `out[c, k, mask]` with the k-set S inside `mask` that criterion c likes best; 0 where `mask` has fewer GPUs.

    Criterion c maximises `gains[S, c] + keeps[mask - S, c]`. The low 16 bits of a gain are the tie-break rank of S,
    unique among sets, and `keeps` has none there; so sums never tie and `unranked[rank]` gives S back. `size[S]` counts
    GPUs. Three criteria; `out` is [3, n + 1, 2**n].
    """
    n = out.shape[1] - 1
    best_0 = np.empty(n + 1, np.int64)
    best_1 = np.empty(n + 1, np.int64)
    best_2 = np.empty(n + 1, np.int64)
    for mask in range(size.size):
        for k in range(n + 1):
            best_0[k] = -1
            best_1[k] = -1
            best_2[k] = -1
        chosen = mask
        while True:
            k = size[chosen]
            rest = mask ^ chosen
            best_0[k] = max(best_0[k], gains[chosen, 0] + keeps[rest, 0])
            best_1[k] = max(best_1[k], gains[chosen, 1] + keeps[rest, 1])
            best_2[k] = max(best_2[k], gains[chosen, 2] + keeps[rest, 2])
            if chosen == 0:
                break
            chosen = (chosen - 1) & mask
        for k in range(n + 1):
            out[0, k, mask] = unranked[best_0[k] & 0xFFFF] if best_0[k] >= 0 else 0
            out[1, k, mask] = unranked[best_1[k] & 0xFFFF] if best_1[k] >= 0 else 0
            out[2, k, mask] = unranked[best_2[k] & 0xFFFF] if best_2[k] >= 0 else 0
