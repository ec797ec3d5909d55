"""Arrivals and departures around an allocator: each job is tried once, when it arrives, and dropped if refused.

Times are compared as drawn; a departure at the instant of an arrival comes first.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Protocol

from simulator.quality.arrivals import Arrivals, Ints

Spot = tuple[int, int]
"""Where a job went: the number of its machine and what of it, a GPU mask or the first memory slice."""


class Allocator(Protocol):
    """Whoever decides, ours or a peer. Machines are numbered in the order of their names."""

    def take(self, job: int, kind: int) -> Spot | None:
        """Place `job` and remember it; None where it is refused."""

    def release(self, job: int) -> None:
        """Give back what `job` holds."""


def churn(allocator: Allocator, arrivals: Arrivals) -> list[Spot | None]:
    """Return where each job went."""
    spots: list[Spot | None] = []
    leaving: list[tuple[float, int]] = []
    rows = zip(arrivals.time.tolist(), arrivals.kind.tolist(), arrivals.life.tolist(), strict=True)
    for job, (now, kind, life) in enumerate(rows):
        while leaving and leaving[0][0] <= now:
            allocator.release(heappop(leaving)[1])
        spot = allocator.take(job, kind)
        spots.append(spot)
        if spot is not None:
            heappush(leaving, (now + life, job))
    return spots


def fill(allocator: Allocator, kinds: Ints) -> list[Spot | None]:
    """Return where each request went when none ever leaves."""
    return [allocator.take(job, kind) for job, kind in enumerate(kinds.tolist())]
