"""The MIG GPUs of suites M1 to M3: their six profiles, the mixes of requests, and how a run is judged.

One GPU per node, so that a policy decides over all GPUs at once as the peers do. With several per node, a product
policy first compares nodes by their sums and the order of nodes would enter the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from packing.migtable import build_mig_table
from simulator.quality.arrivals import Arrivals, Ints
from simulator.quality.churn import Spot
from topology.catalog import mig_for_product
from topology.mig import MigGeometry

PRODUCT = "NVIDIA A100-SXM4-80GB"
GPUS = 100
SLICES_PER_GPU = 7
"""Compute slices; there are eight memory slices."""

PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
COMPUTE = (1, 1, 2, 3, 4, 7)
MIXES = {
    "uniform": (1 / 6,) * 6,
    "small": (0.35, 0.10, 0.25, 0.15, 0.10, 0.05),
    "big": (0.10, 0.05, 0.15, 0.20, 0.20, 0.30),
    "bimodal": (0.35, 0.05, 0.10, 0.05, 0.10, 0.35),
}
"""Share of each profile in the requests."""

DYNAMIC_LOADS = (0.85, 1.0)
DYNAMIC_ARRIVALS = 30_000
DYNAMIC_DROPPED = 5_000
DYNAMIC_SEED_BASE = 100
"""The seed of run s of the dynamic suite is this plus s."""
REQUESTS = 500
"""Requests of suite M3, and the GPUs at hand for them: no policy can run out."""
REQUESTS_SEED_BASE = 1000
"""The seed of run s of suite M3 is this plus s."""


def geometry() -> MigGeometry:
    """Return the MIG geometry of the GPUs."""
    found = mig_for_product(PRODUCT)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """The geometry cut down to `PROFILES`, by mask of occupied memory slices (256 of them)."""

    size: Ints
    """[6] memory slices of a profile."""
    starts: tuple[tuple[int, ...], ...]
    """Per profile the allowed starts."""
    fits: Ints
    """[6, 256] how many starts are free."""
    room: Ints
    """[6, 256] how many instances still fit side by side."""

    def after(self, mask: int, kind: int, start: int) -> int:
        """Return the mask with an instance of `kind` added."""
        return mask | ((1 << int(self.size[kind])) - 1) << start

    def free_starts(self, mask: int, kind: int) -> list[int]:
        """Return the starts of `kind` that are free, ascending."""
        return [start for start in self.starts[kind] if not mask & ((1 << int(self.size[kind])) - 1) << start]


@cache
def slots() -> Slots:
    """Return the tables of the six profiles."""
    table = build_mig_table(geometry())
    rows = [geometry().index(name) for name in PROFILES]
    return Slots(
        size=table.sizes[rows],
        starts=tuple(tuple(sorted(geometry().profiles[row].starts)) for row in rows),
        fits=np.bitwise_count(table.legal_starts[rows]).astype(np.int64),
        room=table.remaining[rows],
    )


def compute_of(kinds: Ints) -> Ints:
    """Return the compute slices of each request."""
    return np.array(COMPUTE, dtype=np.int64)[kinds]


def judge_fill(kinds: Ints, spots: Sequence[Spot | None]) -> dict[str, float]:
    """Return the served share of the compute asked for, in percent."""
    work = compute_of(kinds)
    taken = np.array([spot is not None for spot in spots])
    return {"served_pct": 100 * float(work[taken].sum() / work.sum())}


def judge_churn(arrivals: Arrivals, spots: Sequence[Spot | None], dropped: int = DYNAMIC_DROPPED) -> dict[str, float]:
    """Return accepted compute and accepted requests, in percent of what came. Every request counts, however long."""
    work = compute_of(arrivals.kind)[dropped:]
    taken = np.array([spot is not None for spot in spots[dropped:]])
    return {"accepted_pct": 100 * float(work[taken].sum() / work.sum()), "requests_pct": 100 * float(taken.mean())}


def gpus_used(spots: Sequence[Spot | None]) -> int:
    """Return how many GPUs were opened; every request must have been placed."""
    assert None not in spots, "suite M3 has more GPUs than requests"
    return len({spot[0] for spot in spots if spot is not None})
