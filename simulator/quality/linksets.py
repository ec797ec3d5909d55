"""Which GPUs of a node peers take for a job of k: lowest indices, best pair sum, best partition, best quality.

Pair scores are those of NVIDIA/go-gpuallocator, which HAMi uses too: PCIe level (SYS 10, NODE 20, PHB 30, PXB 40, PIX
50) plus 100 per NVLink. Machines of the catalogue have no two GPUs on one board (60 there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import numpy as np

from simulator.quality.arrivals import Floats, Ints
from topology.facts import Machine

SetChooser = Callable[[int, int], int]
"""(mask of free GPUs, k) to the mask of the k GPUs taken; there are k free GPUs."""

LEVEL_SCORE = {"X": 0, "SYS": 10, "NODE": 20, "PHB": 30, "PXB": 40, "PIX": 50}
NVLINK_SCORE = 100
_PADDING = 99
"""Stands for a missing GPU in a set that is filled up; after every GPU, as in go-gpuallocator's enumeration."""


def lowest_indices(item: Machine) -> SetChooser:
    """Return a chooser of the lowest free indices."""
    del item

    def choose(free: int, k: int) -> int:
        taken = 0
        for _ in range(k):
            low = free & -free
            taken |= low
            free ^= low
        return taken

    return choose


def best_pair_sum(item: Machine) -> SetChooser:
    """Return HAMi's rule: the set with the largest sum over pairs, for one GPU the one with the smallest total.

    The total of a GPU is over all GPUs of the machine, free or not; ties fall to the lowest indices.
    """
    score = pair_scores(item)
    sums = pair_sums(score)
    totals = score.sum(axis=1).tolist()

    @cache
    def choose(free: int, k: int) -> int:
        if k == 1:
            return 1 << min(_gpus(free), key=lambda gpu: (totals[gpu], gpu))
        return max(_sets(free, k), key=sums.__getitem__)

    return choose


def best_of_partition(item: Machine) -> SetChooser:
    """Return go-gpuallocator's best effort: split all free GPUs into k-sets, one filled up with nothing.

    The split with the largest total wins, of it the best full set; ties fall to the first in its enumeration.
    """
    sums = pair_sums(pair_scores(item))

    @cache
    def split(free: int, k: int, padding: int) -> tuple[int, tuple[int, ...]]:
        if not free:
            return 0, ()
        best: tuple[int, tuple[int, ...]] = (-1, ())
        for part in _parts(free, k, padding):
            rest, sets = split(free & ~part, k, padding if part.bit_count() == k else 0)
            if rest + sums[part] > best[0]:
                best = (rest + sums[part], (part, *sets))
        return best

    @cache
    def choose(free: int, k: int) -> int:
        _, sets = split(free, k, -free.bit_count() % k)
        return max((part for part in sets if part.bit_count() == k), key=sums.__getitem__)

    return choose


def best_ratio(ratio: Floats) -> SetChooser:
    """Return a chooser of the set with the highest quality, of equals the lowest indices."""

    @cache
    def choose(free: int, k: int) -> int:
        return max(_sets(free, k), key=ratio.__getitem__)

    return choose


def pair_scores(item: Machine) -> Ints:
    """[n, n] score of each pair of GPUs."""
    levels = np.array([[LEVEL_SCORE[level] for level in row] for row in item.pcie.levels], dtype=np.int64)
    scores: Ints = levels + NVLINK_SCORE * np.array(item.nvlink.matrix, dtype=np.int64)
    return scores


def pair_sums(score: Ints) -> list[int]:
    """[2**n] sum of the scores of all pairs in each set."""
    sums = [0]
    for gpu in range(len(score)):
        to_lower = [0]
        for other in range(gpu):
            to_lower += [value + int(score[gpu, other]) for value in to_lower]
        sums += [value + added for value, added in zip(sums, to_lower, strict=True)]
    return sums


def _gpus(mask: int) -> list[int]:
    return [gpu for gpu in range(mask.bit_length()) if mask >> gpu & 1]


def _sets(free: int, k: int) -> Iterator[int]:
    """Yield all k-sets of `free`, in lexical order of their indices."""
    for chosen in combinations(_gpus(free), k):
        yield sum(1 << gpu for gpu in chosen)


def _parts(free: int, k: int, padding: int) -> list[int]:
    """Return the sets that may hold the lowest free GPU, in go-gpuallocator's order: all padding in one set or none."""
    first, *others = _gpus(free)
    wanted: list[tuple[int, ...]] = []
    if free.bit_count() >= k:
        wanted += combinations(others, k - 1)
    if padding:
        wanted += [(*chosen, *[_PADDING] * padding) for chosen in combinations(others, k - padding - 1)]
    return [1 << first | sum(1 << gpu for gpu in chosen if gpu != _PADDING) for chosen in sorted(wanted)]
