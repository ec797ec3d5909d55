"""What suite X1 asks one pool of 400 GPUs for, and how a run is judged.

By GPU-hours a third each of whole GPUs, MIG partitions and shares. All three streams come from one generator, whole
GPUs and shares first, so that they are the same for every mix of partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from packing.mix import DemandMix
from packing.model import Demand, PartitionRequest, ShareRequest, WholeRequest
from simulator.quality.arrivals import Arrivals
from simulator.quality.linkclusters import SHARES, SIZES
from simulator.quality.migcluster import COMPUTE, MIXES, PROFILES, SLICES_PER_GPU

MACHINE = "dgx-a100-80"
NODES = 50
GPUS_PER_NODE = 8
GPU_MEMORY_MIB = 81_920
KINDS = ("whole", "share", "partition")
"""In the order of the draws. Each offers a third of the GPU-hours."""
TENTHS = range(1, 10)
"""A share asks for 0.1 to 0.9 of a GPU's compute and, drawn apart, of its memory."""
LOADS = (0.7, 0.85, 1.0)
LIFETIMES = 24.0
"""Length of a run in mean lifetimes."""
DROPPED_OF_RUN = 1 / 6
"""What arrives in this first part of a run does not count: the pool is still filling."""
HISTORY_SCALE = 10_000
"""Rates of arrival become whole counts of a history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One thing asked for."""

    kind: str
    size: str
    """As the tables of refusals group it."""
    demand: Demand
    gpus: float
    """GPU-hours per hour: GPUs, compute slices / 7 of a partition, the larger dimension of a share."""
    rate: float
    """Arrivals per mean lifetime where its kind offers one GPU."""


@cache
def asks_of(kind: str, mix: str) -> tuple[Ask, ...]:
    """Return what a kind asks for; `mix` is of the partitions, and the others are the same in all."""
    match kind:
        case "whole":
            rows = [
                (f"{size}", Demand(requests=(WholeRequest(count=size),)), float(size), share)
                for size, share in zip(SIZES, SHARES, strict=True)
            ]
        case "share":
            rows = [
                (_band(max(c, m)), _share(c, m), max(c, m) / 10, 1 / len(TENTHS) ** 2) for c in TENTHS for m in TENTHS
            ]
        case _:
            rows = [
                (name, Demand(requests=(PartitionRequest(profile=name),)), compute / SLICES_PER_GPU, share)
                for name, compute, share in zip(PROFILES, COMPUTE, MIXES[mix], strict=True)
            ]
    mean = sum(gpus * share for _, _, gpus, share in rows)
    return tuple(
        Ask(kind=kind, size=size, demand=demand, gpus=gpus, rate=share / mean) for size, demand, gpus, share in rows
    )


def all_asks(mix: str) -> tuple[Ask, ...]:
    """Return what all kinds ask for, in the order of `KINDS`."""
    return tuple(ask for kind in KINDS for ask in asks_of(kind, mix))


def sizes_of(kind: str) -> tuple[str, ...]:
    """Return the sizes that refusals of a kind are told by, small to large."""
    return tuple(dict.fromkeys(ask.size for ask in sorted(asks_of(kind, next(iter(MIXES))), key=lambda ask: ask.gpus)))


def history(asks: Iterable[Ask]) -> DemandMix:
    """Return the demand mix that a policy knows."""
    return DemandMix.from_demands((ask.demand, round(HISTORY_SCALE * ask.rate)) for ask in asks)


def mixed_arrivals(seed: int, mix: str, load: float, lifetimes: float = LIFETIMES) -> Arrivals:
    """Return Poisson arrivals that offer `load` of all GPUs; `kind` is a place in `all_asks(mix)`.

    Drawn per kind: how many come, when (uniform), what each asks for, lives.
    """
    rng = np.random.default_rng(seed)
    times, what, lives = [], [], []
    before = 0
    for kind in KINDS:
        asks = asks_of(kind, mix)
        rates = np.array([ask.rate for ask in asks])
        offered = load * NODES * GPUS_PER_NODE / len(KINDS)
        count = int(rng.poisson(offered * rates.sum() * lifetimes))
        times.append(np.sort(rng.uniform(0.0, lifetimes, count)))
        what.append(before + rng.choice(len(asks), count, p=rates / rates.sum()))
        lives.append(rng.exponential(size=count))
        before += len(asks)
    order = np.argsort(np.concatenate(times), kind="stable")
    return Arrivals(
        time=np.concatenate(times)[order],
        kind=np.concatenate(what)[order].astype(np.int64),
        life=np.concatenate(lives)[order],
    )


def only(arrivals: Arrivals, kind: str, mix: str) -> Arrivals:
    """Return the arrivals of one kind; their `kind` becomes a place in `asks_of(kind, mix)`."""
    first = sum(len(asks_of(other, mix)) for other in KINDS[: KINDS.index(kind)])
    here = (arrivals.kind >= first) & (arrivals.kind < first + len(asks_of(kind, mix)))
    return Arrivals(time=arrivals.time[here], kind=arrivals.kind[here] - first, life=arrivals.life[here])


def offered_hours(asks: Sequence[Ask], arrivals: Arrivals, dropped: float) -> float:
    """Return the GPU-hours of what arrives from time `dropped` on (an hour is a mean lifetime)."""
    work = np.array([ask.gpus for ask in asks])[arrivals.kind] * arrivals.life
    return float(work[arrivals.time >= dropped].sum())


def refused_hours(
    asks: Sequence[Ask], arrivals: Arrivals, refused: NDArray[np.bool_], dropped: float
) -> dict[tuple[str, str], float]:
    """Return the GPU-hours refused from time `dropped` on, by kind and size."""
    work = np.array([ask.gpus for ask in asks])[arrivals.kind] * arrivals.life
    counted = refused & (arrivals.time >= dropped)
    by_ask = np.bincount(arrivals.kind[counted], weights=work[counted], minlength=len(asks))
    hours: dict[tuple[str, str], float] = {(ask.kind, ask.size): 0.0 for ask in asks}
    for ask, lost in zip(asks, by_ask.tolist(), strict=True):
        hours[ask.kind, ask.size] += lost
    return hours


def lifetimes_of(arrivals: int, mix: str, load: float) -> float:
    """Return how long it takes until about so many arrive; 0: the length of the protocol."""
    if not arrivals:
        return LIFETIMES
    per_lifetime = load * NODES * GPUS_PER_NODE / len(KINDS) * sum(ask.rate for ask in all_asks(mix))
    return arrivals / per_lifetime


def _share(compute: int, memory: int) -> Demand:
    request = ShareRequest(compute_milli=100 * compute, memory_mib=GPU_MEMORY_MIB // 10 * memory)
    return Demand(requests=(request,))


def _band(tenths: int) -> str:
    """Return the band of sizes that a share falls into by its larger dimension."""
    least = (tenths - 1) // 3 * 3 + 1
    return f"0.{least}-0.{least + 2}"
