"""Suite X1: one pool of GPUs for whole, cut and shared use, against the best split into three pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.quality.arrivals import Arrivals
from simulator.quality.churn import churn
from simulator.quality.lines import Line, best, grouped
from simulator.quality.migcluster import MIXES
from simulator.quality.mixeddemand import (
    DROPPED_OF_RUN,
    KINDS,
    LOADS,
    all_asks,
    lifetimes_of,
    mixed_arrivals,
    offered_hours,
    refused_hours,
)
from simulator.quality.mixedpeers import WholeFirst
from simulator.quality.mixedsplit import POOL_POLICIES, SPLIT_BEST, run_split, with_one_split
from simulator.quality.runs import Case, Figure, Run, cell_text
from simulator.quality.suite import OURS, Suite
from simulator.quality.verdict import Verdict, at_least, compared

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

WHOLE_FIRST = "whole-first"
PRODUCT_PEERS = ("first-fit", "best-fit", "dot-product", "gpu-packing", "gpu-clustering", "fgd")
"""Those of the product's policies that pack; the others refuse several times as much."""
DIGITS = 3
LEAST_DRAWN_PCT = 0.05


def run(case: Case) -> dict[str, float]:
    """Return the figures of one run."""
    if case.policy in POOL_POLICIES:
        return run_split(case)
    asks = all_asks(case.scenario)
    lifetimes = lifetimes_of(case.arrivals, case.scenario, case.load)
    arrivals = mixed_arrivals(case.seed, case.scenario, case.load, lifetimes)
    dropped = DROPPED_OF_RUN * lifetimes
    refused = _refused(case, arrivals)
    to_pct = 100 / offered_hours(asks, arrivals, dropped)
    lost = {key: to_pct * hours for key, hours in refused_hours(asks, arrivals, refused, dropped).items()}
    by_kind = {f"refused_{kind}_pct": sum(value for (of, _), value in lost.items() if of == kind) for kind in KINDS}
    by_size = {f"refused_{kind}_{size}_pct": value for (kind, size), value in lost.items()}
    return {"accepted_pct": 100 - sum(lost.values())} | by_kind | by_size


def _refused(case: Case, arrivals: Arrivals) -> NDArray[np.bool_]:
    """Return which jobs the mixed pool refuses under a policy of the product or the peer that is none."""
    asks = all_asks(case.scenario)
    if case.policy == WHOLE_FIRST:
        return np.array([spot is None for spot in churn(WholeFirst(asks), arrivals)], dtype=bool)
    from simulator.quality.mixedpool import ProductPool

    node, _ = ProductPool(asks, case.policy, seed=case.seed).run(arrivals)
    return node < 0


def complete(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, those of static splits with the figures of the split that is best over all runs of a cell."""
    return [
        run
        for by_policy in grouped(runs).values()
        for policy, here in by_policy.items()
        for run in (with_one_split(here) if policy in POOL_POLICIES else here)
    ]


def rivals(main: Figure, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the best static split and the best policy on the mixed pool."""
    mixed = [line for line in lines if line.policy != OURS and line.policy not in POOL_POLICIES]
    return [(main.key, SPLIT_BEST), (main.key, best(main, mixed))]


def gates(runs: Sequence[Run]) -> list[Verdict]:
    """Return the gates: in every cell the mixed pool accepts more than the best static split of the nodes."""
    found = []
    for cell, by_policy in grouped(runs).items():
        value = compared("accepted_pct", by_policy.get(OURS, ()), by_policy.get(SPLIT_BEST, ()))
        if value is not None:
            gate = f"accepted % less {SPLIT_BEST}'s at least"
            found.append(at_least(gate, cell_text(cell), value, 0.0, digits=DIGITS))
    return found


def draw(cells: Sequence[Sequence[Line]]) -> list[Drawing]:
    """Return who was refused in each cell, and the splits of each mix."""
    from simulator.quality.mixedfigures import refusals, split_curves

    mixes = dict.fromkeys(lines[0].scenario for lines in cells)
    curves = [split_curves([lines for lines in cells if lines[0].scenario == mix]) for mix in mixes]
    refused = [refusals(lines) for lines in cells if _refuses(lines)]
    return [*refused, *(drawing for drawing in curves if drawing)]


def _refuses(lines: Sequence[Line]) -> bool:
    """Whether a cell is worth a drawing: ours, or else anybody, refuses something to speak of."""
    told = [line for line in lines if line.policy == OURS] or lines
    return any(line.figures["accepted_pct"].mean < 100 - LEAST_DRAWN_PCT for line in told)


MIXED = Suite(
    name="X1",
    title="X1: one pool for whole GPUs, partitions and shares",
    method="50 nodes of 8 A100 80GB; by GPU-hours a third each of whole GPUs, MIG partitions and shares, Poisson "
    "arrivals, exponential lifetimes, tried once and dropped. Any GPU serves what comes. A static split gives some "
    "nodes to whole GPUs alone, some to partitions, the rest to shares; the best of all splits is found by trying "
    "them on these arrivals.",
    scenarios=tuple(MIXES),
    loads=LOADS,
    policies=(WHOLE_FIRST, *PRODUCT_PEERS, *POOL_POLICIES, OURS),
    seeds=range(6),
    cases_per_task=1,
    least_arrivals=100,
    figures=(
        Figure(key="accepted_pct", head="accepted %", digits=DIGITS),
        *(Figure(key=f"refused_{kind}_pct", head=f"refused: {kind} %", digits=DIGITS) for kind in KINDS),
        Figure(key="hindsight_pct", head="best split of each run %", digits=DIGITS),
        *(Figure(key=f"nodes_{kind}", head=f"nodes: {kind}", digits=0) for kind in KINDS),
    ),
    run=run,
    complete=complete,
    rivals=rivals,
    gates=gates,
    draw=draw,
)
