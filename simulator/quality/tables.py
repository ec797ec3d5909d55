"""What the runs of a suite say together: means, their standard errors, and paired differences against the best peer.

A difference is taken run by run on the same arrivals; its standard error is far smaller than that of the two means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulator.quality.cases import OURS, Run

PACKING_PEER = "most-used"
"""The peer of suite L that packs best; accepted work is compared with it."""
PEER_SLACK_PCT = 1.0
"""A peer of suite L that accepts less than most-used by more than this is no rival: quality bought with refusals."""

MAIN_FIGURE = {"L": "ideal_pct", "M1": "served_pct", "M2": "accepted_pct", "M3": "gpus_ratio"}
"""The figure of a suite that policies are ranked by."""
LOWER_IS_BETTER = ("gpus_ratio",)

Cell = tuple[str, str, float]
"""Suite, scenario, load: where policies meet on the same arrivals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Mean over runs and its standard error (0 for a single run)."""

    mean: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Ours minus a peer's, of one figure, mean over paired runs."""

    figure: str
    peer: str
    mean: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One policy in one cell; `versus` only for ours."""

    suite: str
    scenario: str
    load: float
    policy: str
    seeds: tuple[int, ...]
    figures: dict[str, Mean]
    versus: tuple[Difference, ...] = ()

    @property
    def cell(self) -> Cell:
        """Where this line stands."""
        return self.suite, self.scenario, self.load


def tabulate(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return a line per cell and policy, in the order of the runs."""
    groups: dict[Cell, dict[str, list[Run]]] = {}
    for run in runs:
        case = run.case
        cell = groups.setdefault((case.suite, case.scenario, case.load), {})
        cell.setdefault(case.policy, []).append(run)
    return tuple(line for cell, by_policy in groups.items() for line in _lines(cell, by_policy))


def mean_of(values: Iterable[float]) -> Mean:
    """Return mean and standard error."""
    numbers = list(values)
    error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return Mean(mean=round(statistics.fmean(numbers), 6), error=round(error, 6))


def difference(figure: str, ours: Sequence[Run], theirs: Sequence[Run], peer: str) -> Difference:
    """Return ours minus theirs over the runs both have."""
    other = {run.case.seed: run.figures[figure] for run in theirs}
    pairs = [run.figures[figure] - other[run.case.seed] for run in ours if run.case.seed in other]
    found = mean_of(pairs)
    return Difference(figure=figure, peer=peer, mean=found.mean, error=found.error)


def best_peer(lines: Iterable[Line]) -> str:
    """Return the peer with the best main figure in a cell; of suite L only peers that do not buy it with refusals."""
    peers = [line for line in lines if line.policy != OURS]
    packed = next((line.figures["accepted_pct"].mean for line in peers if line.policy == PACKING_PEER), None)
    if packed is not None:
        peers = [line for line in peers if line.figures["accepted_pct"].mean >= packed - PEER_SLACK_PCT]
    return max(peers, key=_goodness).policy if peers else ""


def seeds_text(seeds: Sequence[int]) -> str:
    """Return run numbers as people write them: 0-19, or each where they do not follow one another."""
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))


def _goodness(line: Line) -> float:
    figure = MAIN_FIGURE[line.suite]
    mean = line.figures[figure].mean
    return -mean if figure in LOWER_IS_BETTER else mean


def _lines(cell: Cell, by_policy: dict[str, list[Run]]) -> list[Line]:
    lines = [_line(cell, policy, runs, ()) for policy, runs in by_policy.items()]
    if OURS not in by_policy:
        return lines
    rivals = {MAIN_FIGURE[cell[0]]: best_peer(lines)}
    if cell[0] == "L":
        rivals["accepted_pct"] = PACKING_PEER
    versus = tuple(
        difference(figure, by_policy[OURS], by_policy[peer], peer)
        for figure, peer in rivals.items()
        if peer in by_policy
    )
    return [_line(cell, OURS, by_policy[OURS], versus) if line.policy == OURS else line for line in lines]


def _line(cell: Cell, policy: str, runs: Sequence[Run], versus: tuple[Difference, ...]) -> Line:
    return Line(
        suite=cell[0],
        scenario=cell[1],
        load=cell[2],
        policy=policy,
        seeds=tuple(run.case.seed for run in runs),
        figures={name: mean_of(run.figures[name] for run in runs) for name in runs[0].figures},
        versus=versus,
    )
