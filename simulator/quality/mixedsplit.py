"""The static splits of suite X1: some nodes for whole GPUs alone, some for partitions, the rest for shares.

The three pools never meet, so each is run once per number of nodes, and a split is judged by adding up what its pools
refuse. A pool is run under the default policy and under the strongest simple one; the better counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from packing.policy import DEFAULT_POLICY
from simulator.quality.arrivals import Arrivals
from simulator.quality.lines import mean_of
from simulator.quality.migcluster import MIXES
from simulator.quality.mixeddemand import (
    DROPPED_OF_RUN,
    KINDS,
    NODES,
    all_asks,
    asks_of,
    lifetimes_of,
    mixed_arrivals,
    offered_hours,
    only,
    refused_hours,
)
from simulator.quality.runs import Case, Run

if TYPE_CHECKING:
    from simulator.quality.mixedpool import ProductPool

STRONGEST_PEER = "fgd"
"""Refuses least of the product's other policies on pools of one kind, all three taken together."""
SPLIT_OURS = "static-split-dovetail"
SPLIT_BEST = "static-split"
POOL_POLICIES = {SPLIT_OURS: (DEFAULT_POLICY,), SPLIT_BEST: (DEFAULT_POLICY, STRONGEST_PEER)}
"""The policies a pool of a split may be run under."""
Split = tuple[int, int, int]
"""Nodes for whole GPUs, shares and partitions, in the order of `KINDS`."""
Curves = Mapping[str, Mapping[int, float]]
"""Kind and nodes of its pool: percent of all GPU-hours offered that the pool refuses."""


def splits(nodes: int = NODES) -> list[Split]:
    """Return every split of the nodes."""
    return [(w, s, nodes - w - s) for w in range(nodes + 1) for s in range(nodes + 1 - w)]


def best_split(curves: Curves, candidates: Sequence[Split]) -> Split:
    """Return the split that refuses least; of equals the first."""
    return min(candidates, key=lambda split: sum(curves[kind][n] for kind, n in zip(KINDS, split, strict=True)))


def run_split(case: Case) -> dict[str, float]:
    """Return what every pool refuses, and accepted and refused work under the best split for these very arrivals."""
    asks = all_asks(case.scenario)
    lifetimes = lifetimes_of(case.arrivals, case.scenario, case.load)
    arrivals = mixed_arrivals(case.seed, case.scenario, case.load, lifetimes)
    to_pct = 100 / offered_hours(asks, arrivals, DROPPED_OF_RUN * lifetimes)
    pools = {kind: {n: _refused_by_pool(case, kind, n, lifetimes) for n in range(NODES + 1)} for kind in KINDS}
    curves = {kind: {n: to_pct * sum(hours.values()) for n, hours in pools[kind].items()} for kind in KINDS}
    chosen = best_split(curves, splits())
    figures = {"hindsight_pct": 100 - sum(curves[kind][n] for kind, n in zip(KINDS, chosen, strict=True))}
    for kind, n in zip(KINDS, chosen, strict=True):
        figures |= {f"refused_{kind}_{size}_pct": to_pct * hours for (_, size), hours in pools[kind][n].items()}
    return figures | {pool_key(kind, n): value for kind, curve in curves.items() for n, value in curve.items()}


def pool_key(kind: str, nodes: int) -> str:
    """Return the name of the figure: what a pool of so many nodes refuses, percent of all that is offered."""
    return f"pool_{kind}_{nodes:02}_pct"


def with_one_split(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of one cell and static policy with the figures of the split that is best over all of them."""
    means = {
        kind: {n: mean_of(run.figures[pool_key(kind, n)] for run in runs).mean for n in range(NODES + 1)}
        for kind in KINDS
    }
    chosen = best_split(means, splits())
    return [Run(case=run.case, figures=run.figures | _at_split(run.figures, chosen)) for run in runs]


def _at_split(figures: Mapping[str, float], split: Split) -> dict[str, float]:
    lost = {kind: figures[pool_key(kind, n)] for kind, n in zip(KINDS, split, strict=True)}
    accepted = {"accepted_pct": round(100 - sum(lost.values()), 6)}
    refused = {f"refused_{kind}_pct": value for kind, value in lost.items()}
    return accepted | refused | {f"nodes_{kind}": float(n) for kind, n in zip(KINDS, split, strict=True)}


def _refused_by_pool(case: Case, kind: str, nodes: int, lifetimes: float) -> Mapping[tuple[str, str], float]:
    """Return the GPU-hours refused by size under the better policy for this pool and these arrivals."""
    mix = case.scenario if kind == "partition" else ""
    ways = [
        _refused(kind, mix, case.load, case.seed, lifetimes, policy, nodes) for policy in POOL_POLICIES[case.policy]
    ]
    return min(ways, key=lambda hours: sum(hours.values()))


@cache
def _refused(
    kind: str, mix: str, load: float, seed: int, lifetimes: float, policy: str, nodes: int
) -> Mapping[tuple[str, str], float]:
    """Run one pool. Kept: pools of whole GPUs and of shares (mix "") serve the splits of every mix."""
    asks = asks_of(kind, mix)
    arrivals = _of_kind(kind, mix or next(iter(MIXES)), load, seed, lifetimes)
    refused = _pool(kind, mix, policy, nodes).run(arrivals)[0] < 0 if nodes else np.ones(len(arrivals), dtype=bool)
    return refused_hours(asks, arrivals, refused, DROPPED_OF_RUN * lifetimes)


@cache
def _pool(kind: str, mix: str, policy: str, nodes: int) -> ProductPool:
    from simulator.quality.mixedpool import ProductPool

    return ProductPool(asks_of(kind, mix), policy, nodes=nodes)


@cache
def _of_kind(kind: str, mix: str, load: float, seed: int, lifetimes: float) -> Arrivals:
    return only(mixed_arrivals(seed, mix, load, lifetimes), kind, mix)
