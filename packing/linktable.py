"""What every set of free GPUs of a machine is worth for jobs to come, and which set a job should take.

Computed once per kind of machine and read by mask (bit i = GPU i). U(mask), the value of free GPUs, counts how many
jobs of each size still fit *disjointly* and how well linked they would be; valuing only the best next job leaves no
room for the one after. All integers, so every machine computes the same tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from packing.kernels.arrays import GIGA, Ints, Sets
from packing.kernels.linksets import choose_sets, pack_disjoint
from topology.errors import InvalidInputError
from topology.quality import SetQuality
from topology.rings import sizes as set_sizes

MILLION: Final = 1_000_000
"""Ratios, worths and weights are in millionths."""
SIZES: Final = (1, 2, 4, 8, 16)
"""Job sizes whose future room is valued."""
DEFAULT_WEIGHTS: Final = (590_449, 231_950, 131_211, 46_390, 0)
"""Weight per size: share of demand x size**-0.5, with shares .45 .25 .20 .10 and none at 16, scaled to a million."""
LINKED_PPM: Final = 950_000
"""How much of a set's worth depends on its links; the rest is for being a set at all."""
LINK_BONUS_NANO: Final = 4 * GIGA
"""Worth, per GPU, of full link quality against free GPUs kept: `prefer` gives up four GPUs' value for it."""


@dataclass(frozen=True, slots=True, eq=False)
class LinkTable:
    """Read-only tables of one machine of n GPUs; int64 unless said otherwise, `mask` of 2**n, `s` over `sizes`.

    ideal[k]: best Q of any k GPUs of the whole machine, MB/s. ratio[mask]: Q over the ideal of that size, ppm (a
    million where the ideal is 0). sizes[s]: the job sizes counted, those of 1, 2, 4, 8, 16 that the machine has.
    packed[s, mask]: largest total worth (ppm per set) of disjoint sets of that size inside mask. count[s, mask]: how
    many disjoint sets *of ideal quality* fit; this, not the number of sets of any quality, is what reports call
    remaining.
    value[mask]: U, in thousand-millionths of a GPU.
    best_*[k, mask] (uint16): the k GPUs to take of mask, 0 where it has fewer: best_prefer weighs links against what is
    left, best_none only what is left, best_quality first Q and then what is left. Ties: higher locality, then lowest
    GPU indices.
    """

    ideal: Ints
    ratio: Ints
    sizes: Ints
    packed: Ints
    count: Ints
    value: Ints
    best_prefer: Sets
    best_none: Sets
    best_quality: Sets


def build_link_table(quality: SetQuality, size_weights: tuple[int, ...] = DEFAULT_WEIGHTS) -> LinkTable:
    """Return the table of a machine with set quality `quality`.

    `size_weights`: one per entry of `SIZES`, ppm, not negative, together at most a million (they need not be rescaled
    for small machines: nodes of all sizes share one scale). Raises InvalidInputError otherwise.
    """
    _check_weights(size_weights)
    n = quality.gpu_count
    size = set_sizes(n)
    ideal = np.zeros(n + 1, dtype=np.int64)
    np.maximum.at(ideal, size, quality.quality_mbps)
    best = ideal[size]
    ratio = np.where(best == 0, MILLION, quality.quality_mbps * MILLION // np.maximum(best, 1))
    sizes = np.array([k for k in SIZES if k <= n], dtype=np.int64)
    packed, count = _packings(n, sizes, ratio)
    weights = np.array(size_weights[: len(sizes)], dtype=np.int64)
    value = (weights * sizes) @ packed // (MILLION * MILLION // GIGA)
    choices = _choices(quality, size, ratio, value)
    table = LinkTable(ideal, ratio, sizes, packed, count, value, choices[0], choices[1], choices[2])
    for name in LinkTable.__slots__:
        getattr(table, name).setflags(write=False)
    return table


def set_worth(k: int, ratio: Any) -> Any:  # noqa: ANN401 - a number or an array of them
    """Return the worth in ppm of k GPUs linked at `ratio` ppm of the ideal. One GPU alone is worth a million."""
    return MILLION + 0 * ratio if k == 1 else MILLION - LINKED_PPM + LINKED_PPM * ratio // MILLION


def _check_weights(weights: tuple[int, ...]) -> None:
    if len(weights) != len(SIZES):
        raise InvalidInputError("link table", "size_weights", f"{len(weights)} weights; one for each of {SIZES}")
    if min(weights) < 0 or sum(weights) > MILLION:
        raise InvalidInputError("link table", "size_weights", "must not be negative nor sum to over a million")


def _packings(n: int, sizes: Ints, ratio: Ints) -> tuple[Ints, Ints]:
    """`packed` and `count` of the table."""
    packed = np.zeros((len(sizes), 1 << n), dtype=np.int64)
    count = np.zeros((len(sizes), 1 << n), dtype=np.int64)
    for s, k in enumerate(sizes.tolist()):
        sets = k_sets(n, k)
        pack_disjoint(sets, set_worth(k, ratio[sets]), packed[s])
        ideal_sets = sets[ratio[sets] == MILLION]
        pack_disjoint(ideal_sets, np.ones(len(ideal_sets), dtype=np.int64), count[s])
    return packed, count


def k_sets(n: int, k: int) -> Ints:
    """Return the masks of all sets of k of n GPUs, those with the highest lowest GPU first."""
    sets = np.flatnonzero(set_sizes(n) == k)
    return np.ascontiguousarray(sets[np.argsort(-(sets & -sets), kind="stable")])


def _choices(quality: SetQuality, size: Ints, ratio: Ints, value: Ints) -> Sets:
    """[3, n + 1, 2**n] best_prefer, best_none and best_quality.

    Whatever decides is folded into one integer per set, most significant first, so that the loop over all pairs of set
    and subset only adds and compares. The lowest 16 bits are the place of the set in the order of ties.
    """
    n = quality.gpu_count
    order = np.lexsort((_reversed_bits(n), quality.locality))
    rank = np.empty(1 << n, dtype=np.int64)
    rank[order] = np.arange(1 << n, dtype=np.int64)
    bonus = LINK_BONUS_NANO // MILLION * size * ratio
    kept = value << 16
    gains = np.stack([bonus << 16 | rank, rank, _dense_rank(quality.quality_mbps) << 32 | rank], axis=1)
    keeps = np.stack([kept, kept, _dense_rank(value) << 16], axis=1)
    out = np.zeros((3, n + 1, 1 << n), dtype=np.uint16)
    choose_sets(size, gains, keeps, order, out)
    return out


def _reversed_bits(n: int) -> Ints:
    """[2**n] each mask with its bits in reverse: of two sets of equal size the larger has the lower GPU indices."""
    reverse = np.zeros(1, dtype=np.int64)
    for gpu in range(n):
        reverse = np.concatenate([reverse, reverse | 1 << (n - 1 - gpu)])
    return reverse


def _dense_rank(values: Ints) -> Ints:
    """Place of each value among the distinct ones, 0 for the least: 16 bits suffice for 2**16 sets."""
    place: Ints = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return place
