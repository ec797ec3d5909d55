"""What every state of a partitioned GPU allows: legal starts, fragmentation, the best place for the next partition.

Read by the mask of occupied memory slices. No compiler is needed: the node driver uses these tables, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from topology.errors import InvalidInputError
from topology.mig import MigGeometry, interval, side_by_side

Ints = np.ndarray[Any, np.dtype[np.int64]]

MILLION: Final = 1_000_000
MAX_TABLE_SLICES: Final = 8
"""Tables have 2**slices columns; no product has more than eight slices."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MigTable:
    """Read-only int64 tables of one geometry: `p` over its profiles in order, `mask` over 2**memory_slices.

    A placement also needs its exclusive bits: legal where `legal_starts[p, mask]` has the start and the GPU's exclusive
    bits have none of `excl_block[p]`; it then sets `excl_take[p]`.
    """

    geometry: MigGeometry
    weights: Ints
    """[p] share of each profile in the demand to come, ppm."""
    sizes: Ints
    """[p] memory slices of an instance."""
    legal_starts: Ints
    """[p, mask] bit s set: an instance may start at slice s."""
    free_slices: Ints
    """[mask] memory slices not occupied."""
    frag: Ints
    """[mask] sum over p of weight x (free slices - size x instances of p that still fit side by side), in slices x ppm:
    free slices that partitions of one profile, drawn by weight, cannot fill."""
    best_start: Ints
    """[p, mask] the legal start with the least `frag` afterwards, -1 where there is none. Ties: most placements left
    over all profiles, then the lowest start."""
    remaining: Ints
    """[p, mask] how many instances of p still fit side by side (its exclusive bits permitting)."""
    excl_take: Ints
    """[p] exclusive bits that an instance sets."""
    excl_block: Ints
    """[p] exclusive bits that must be clear before."""


def build_mig_table(geometry: MigGeometry, weights: Mapping[str, int] | None = None) -> MigTable:
    """Return the tables of `geometry`.

    `weights`: demand per profile name in ppm, others 0; default equal over the profiles without attributes. Raises
    InvalidInputError for a geometry without placements, an unknown profile, or weights that are negative or sum to
    over a million.
    """
    geometry.require_placements()
    assert geometry.memory_slices <= MAX_TABLE_SLICES
    shares = _default_weights(geometry) if weights is None else _given_weights(geometry, weights)
    sizes = np.array([profile.size for profile in geometry.profiles], dtype=np.int64)
    starts = _legal_starts(geometry)
    masks = np.arange(1 << geometry.memory_slices, dtype=np.int64)
    free = geometry.memory_slices - np.bitwise_count(masks).astype(np.int64)
    remaining = _remaining(geometry, starts)
    frag = shares @ (free - sizes[:, None] * remaining)
    table = MigTable(
        geometry=geometry,
        weights=shares,
        sizes=sizes,
        legal_starts=starts,
        free_slices=free,
        frag=frag,
        best_start=_best_starts(geometry, starts, frag),
        remaining=remaining,
        excl_take=np.array([profile.takes for profile in geometry.profiles], dtype=np.int64),
        excl_block=np.array([profile.blocked_by for profile in geometry.profiles], dtype=np.int64),
    )
    for name in MigTable.__slots__:
        array = getattr(table, name)
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
    return table


def _default_weights(geometry: MigGeometry) -> Ints:
    plain = [at for at, profile in enumerate(geometry.profiles) if not profile.attributes]
    weights = np.zeros(len(geometry.profiles), dtype=np.int64)
    weights[plain] = MILLION // len(plain)
    # What does not divide evenly goes to the first, so that the weights sum to a million.
    weights[plain[: MILLION % len(plain)]] += 1
    return weights


def _given_weights(geometry: MigGeometry, given: Mapping[str, int]) -> Ints:
    weights = np.zeros(len(geometry.profiles), dtype=np.int64)
    for name, weight in given.items():
        if not 0 <= weight <= MILLION:
            raise InvalidInputError("MIG table", f"weights.{name}", f"is {weight}; must be 0 to {MILLION}")
        weights[geometry.index(name)] += weight
    if weights.sum() > MILLION:
        raise InvalidInputError("MIG table", "weights", f"sum to {weights.sum()}; at most {MILLION}")
    return weights


def _legal_starts(geometry: MigGeometry) -> Ints:
    masks = np.arange(1 << geometry.memory_slices, dtype=np.int64)
    starts = np.zeros((len(geometry.profiles), len(masks)), dtype=np.int64)
    for p, profile in enumerate(geometry.profiles):
        for start in profile.starts:
            starts[p, masks & interval(profile, start) == 0] |= 1 << start
    return starts


def _best_starts(geometry: MigGeometry, starts: Ints, frag: Ints) -> Ints:
    placements_left = np.bitwise_count(starts).astype(np.int64).sum(axis=0)
    best = np.full_like(starts, -1)
    for p, profile in enumerate(geometry.profiles):
        for mask in np.flatnonzero(starts[p]):
            legal = [start for start in profile.starts if starts[p, mask] >> start & 1]
            after = {start: mask | interval(profile, start) for start in legal}
            best[p, mask] = min(legal, key=lambda s: (frag[after[s]], -placements_left[after[s]], s))
    return best


def _remaining(geometry: MigGeometry, starts: Ints) -> Ints:
    remaining = np.zeros_like(starts)
    for p, profile in enumerate(geometry.profiles):
        for mask in np.flatnonzero(starts[p]):
            free = [start for start in profile.starts if starts[p, mask] >> start & 1]
            remaining[p, mask] = side_by_side(free, profile.size)
        np.minimum(remaining[p], profile.max_instances, out=remaining[p])
    return remaining
