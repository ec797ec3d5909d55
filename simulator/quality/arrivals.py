"""The arrivals of every suite, drawn from a seed in a fixed order: changing an order of draws changes every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

REQUESTS_DRAWN = 2000
"""Requests drawn for a static fill; as many of them are kept as ask for the whole cluster."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Arrivals:
    """Jobs in order of arrival. Times in mean lifetimes; `kind` is what each asks for (GPUs, or a profile)."""

    time: Floats
    kind: Ints
    life: Floats

    def __len__(self) -> int:
        return len(self.kind)


def gang_arrivals(
    seed: int, *, sizes: Sequence[int], shares: Sequence[float], gpus: int, load: float, count: int
) -> Arrivals:
    """Return Poisson arrivals of jobs of `sizes` GPUs that offer `load` of `gpus` GPUs. Drawn: gaps, sizes, lives."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(size=count)
    kinds = rng.choice(np.array(sizes, dtype=np.int64), count, p=shares)
    lives = rng.exponential(size=count)
    return Arrivals(time=np.cumsum(gaps / (load * gpus / float(np.dot(sizes, shares)))), kind=kinds, life=lives)


def partition_arrivals(
    seed: int, *, compute: Sequence[int], shares: Sequence[float], slices: int, load: float, count: int
) -> Arrivals:
    """Return Poisson arrivals of MIG profiles that offer `load` of `slices` compute slices.

    Drawn: profiles, lives, gaps.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.choice(len(compute), count, p=shares).astype(np.int64)
    lives = rng.exponential(size=count)
    gaps = rng.exponential(size=count)
    return Arrivals(time=np.cumsum(gaps / (load * slices / float(np.dot(compute, shares)))), kind=kinds, life=lives)


def filling_requests(seed: int, *, compute: Sequence[int], shares: Sequence[float], slices: int) -> Ints:
    """Return the profiles asked for until the next would pass `slices` compute slices in all."""
    kinds = np.random.default_rng(seed).choice(len(compute), REQUESTS_DRAWN, p=shares).astype(np.int64)
    asked = np.cumsum(np.array(compute, dtype=np.int64)[kinds])
    return kinds[: int(np.searchsorted(asked, slices))]


def request_list(seed: int, *, shares: Sequence[float], count: int) -> Ints:
    """Return `count` profiles in order of arrival."""
    return np.random.default_rng(seed).choice(len(shares), count, p=shares).astype(np.int64)
