"""Curves of a fill run: one value per percent of GPU demand that has arrived, as the published benchmark defines them.

Every arrival, placed or not, is an event. It belongs to bin round(arrived demand / capacity in %); the value of a bin
is the mean over its events, each rounded to two digits first. Bins reach from 0 to `LAST_BIN`; later events are left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LAST_BIN = 130
"""Demand is drawn until it passes this many percent of the capacity."""

BinValues = tuple[float | None, ...]
"""One value per bin 0 to `LAST_BIN`; None where no event fell into the bin."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a run looked like as demand grew; entry i of each list belongs to `arrived_pct[i]`.

    `allocated_pct` and `fragmented_pct` are in percent of the GPU capacity, `frag_ratio_pct` in percent of idle GPUs.
    """

    arrived_pct: tuple[int, ...]
    allocated_pct: BinValues
    fragmented_pct: BinValues
    frag_ratio_pct: BinValues


def event_bins(arrived_milli: Ints, capacity_milli: int) -> Ints:
    """Return the bin of every event: percent of demand arrived, halves to the even bin, in exact integers."""
    below, rest = np.divmod(100 * arrived_milli, capacity_milli)
    bins: Ints = below + (2 * rest + (below & 1) > capacity_milli)
    return bins


def percent(amount: Ints | Floats, whole: int | Ints) -> Floats:
    """Return `amount` in percent of `whole`, rounded to two digits; where `whole` is 0 nothing is lost: 0."""
    whole_of = np.broadcast_to(np.asarray(whole, dtype=np.float64), amount.shape)
    share = np.divide(amount, whole_of, out=np.zeros(amount.shape), where=whole_of > 0)
    rounded: Floats = np.round(share * 100, 2)
    return rounded


def bin_means(bins: Ints, values: Floats, digits: int) -> BinValues:
    """Return the mean of `values` per bin, rounded to `digits`; `bins` never falls, since demand only grows.

    numpy's own mean and rounding: with any other order of summation a last digit differs from the published one.
    """
    edges = np.searchsorted(bins, np.arange(LAST_BIN + 2))
    parts = (values[start:end] for start, end in pairwise(edges))
    return tuple(float(np.round(part.mean(), digits)) if part.size else None for part in parts)


def fill_curve(bins: Ints, used_milli: Ints, fragmented_milli: Floats, capacity_milli: int) -> Curve:
    """Return the curve of a run: per arrival its bin, and GPUs in use and fragmented after it, in thousandths."""
    idle = capacity_milli - used_milli
    return Curve(
        arrived_pct=tuple(range(LAST_BIN + 1)),
        allocated_pct=bin_means(bins, percent(used_milli, capacity_milli), 2),
        fragmented_pct=bin_means(bins, percent(fragmented_milli, capacity_milli), 2),
        frag_ratio_pct=bin_means(bins, percent(fragmented_milli, idle), 4),
    )


def value_at(values: Sequence[float | None], arrived_pct: int) -> float | None:
    """Return the value once `arrived_pct` percent of demand had arrived; None if it never did.

    A large pod on a small cluster may jump over a bin; the state before it is then the answer.
    """
    if all(value is None for value in values[arrived_pct:]):
        return None
    return next((value for value in reversed(values[: arrived_pct + 1]) if value is not None), None)
