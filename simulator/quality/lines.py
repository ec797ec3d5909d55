"""What the runs of a cell say together: means, their standard errors, and paired differences.

A difference is taken run by run on the same arrivals; its standard error is far smaller than that of the two means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulator.quality.runs import DIGITS, Cell, Figure, Run


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


def grouped(runs: Iterable[Run]) -> dict[Cell, dict[str, list[Run]]]:
    """Return the runs by cell and policy, in their order."""
    groups: dict[Cell, dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.case.cell, {}).setdefault(run.case.policy, []).append(run)
    return groups


def line_of(cell: Cell, policy: str, runs: Sequence[Run], versus: tuple[Difference, ...] = ()) -> Line:
    """Return the line of a policy in a cell."""
    return Line(
        suite=cell[0],
        scenario=cell[1],
        load=cell[2],
        policy=policy,
        seeds=tuple(run.case.seed for run in runs),
        figures={name: mean_of(run.figures[name] for run in runs) for name in runs[0].figures},
        versus=versus,
    )


def mean_of(values: Iterable[float]) -> Mean:
    """Return mean and standard error."""
    numbers = list(values)
    error = statistics.stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return Mean(mean=round(statistics.fmean(numbers), DIGITS), error=round(error, DIGITS))


def paired(ours: Sequence[Run], theirs: Sequence[Run]) -> bool:
    """Return whether any run of the one met one of the other's on the same arrivals."""
    return not {run.case.seed for run in ours}.isdisjoint(run.case.seed for run in theirs)


def difference(figure: str, ours: Sequence[Run], theirs: Sequence[Run], peer: str) -> Difference:
    """Return ours minus theirs over the runs both have; there is one (`paired`)."""
    other = {run.case.seed: run.figures[figure] for run in theirs}
    pairs = [run.figures[figure] - other[run.case.seed] for run in ours if run.case.seed in other]
    found = mean_of(pairs)
    return Difference(figure=figure, peer=peer, mean=found.mean, error=found.error)


def best(main: Figure, lines: Iterable[Line]) -> str:
    """Return the policy with the best main figure, of equals the first; empty where there is no line."""
    sign = -1 if main.less_is_better else 1
    found = max(lines, key=lambda line: sign * line.figures[main.key].mean, default=None)
    return found.policy if found else ""


def seeds_text(seeds: Sequence[int]) -> str:
    """Return run numbers as people write them: 0-19, or each where they do not follow one another."""
    if len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
