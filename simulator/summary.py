"""What the runs of a sweep say together: per pod list and policy the mean over seeds, its spread, and wins."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from simulator.result import Result, RunResult

BASELINE = "fgd"
"""The policy wins are counted against: the best published one."""

OURS = "dovetail"

DIGITS = 4
"""Digits kept of a mean over seeds."""

_REMEDY = "try more nodes, smaller pods or other seeds"

ALL_VARIANTS = "all"
"""Name of the row that averages over the pod lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """A figure over seeds: mean, sample standard deviation (0 for one seed), least and greatest."""

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy on one pod list, or on all of them. Figures are None where demand skipped that point in some run.

    `measured` of `runs` runs have a figure at 100 %.
    `wins` of `duels` pairs of runs (same pod list, same seed) left less unallocated at 100 % than `fgd`.
    """

    variant: str
    policy: str
    seeds: int
    at_100: Stat | None
    at_130: Stat | None
    placed: float
    failed: float
    runs: int
    measured: int
    wins: int | None
    duels: int


def summarise(result: Result) -> tuple[Row, ...]:
    """Return a row per pod list and policy, in the order of the runs; with several pod lists, averages come first."""
    rows = [_row(variant, policy, runs, result.runs) for (variant, policy), runs in _groups(result.runs).items()]
    if len({row.variant for row in rows}) > 1:
        policies = dict.fromkeys(row.policy for row in rows)
        rows = [_overall(policy, result.runs) for policy in policies] + rows
    return tuple(rows)


def unmeasured(rows: Sequence[Row]) -> str:
    """Return why figures of `rows` are missing, in a sentence; empty where none is.

    Demand grows by whole pods: where few GPUs make a pod a large share of the cluster, no arrival may fall between
    100 % and 130 %, or on 130 % itself.
    """
    lists = [row for row in rows if row.variant != ALL_VARIANTS]
    worst = max(lists, key=lambda row: row.runs - row.measured, default=None)
    if worst is not None and worst.measured < worst.runs:
        return (
            f"not measured at 100 %: in {worst.runs - worst.measured} of {worst.runs} runs on {worst.variant} no pod "
            f"arrived while demand was between 100 and 130 % of the GPUs; {_REMEDY}"
        )
    if any(row.at_130 is None for row in lists):
        return f"not measured at 130 %: in some runs no pod arrived while demand was at 130 % of the GPUs; {_REMEDY}"
    return ""


def headline(rows: Sequence[Row]) -> Row | None:
    """Return the row a verdict speaks of: ours where it ran, else the one that leaves least unallocated."""
    first = [row for row in rows if row.variant == rows[0].variant and row.at_100 is not None]
    ours = [row for row in first if row.policy == OURS]
    return ours[0] if ours else min(first, key=lambda row: row.at_100.mean if row.at_100 else 0.0, default=None)


def rival(rows: Sequence[Row], chosen: Row) -> Row | None:
    """Return the row the verdict compares `chosen` with: the baseline, else the best of the others."""
    others = [row for row in rows if row.variant == chosen.variant and row.policy != chosen.policy and row.at_100]
    named = [row for row in others if row.policy == BASELINE]
    return named[0] if named else min(others, key=lambda row: row.at_100.mean if row.at_100 else 0.0, default=None)


def stat(values: Iterable[float | None]) -> Stat | None:
    """Return mean and spread of `values`; None if one of them is missing or there are none."""
    known = list(values)
    if not known or None in known:
        return None
    numbers = [value for value in known if value is not None]
    sd = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    # Rounded once, here: terminal, files and report then agree on the digits they show.
    return Stat(
        mean=round(statistics.fmean(numbers), DIGITS), sd=round(sd, DIGITS), low=min(numbers), high=max(numbers)
    )


def _groups(runs: Iterable[RunResult]) -> dict[tuple[str, str], list[RunResult]]:
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.variant, run.policy), []).append(run)
    return groups


def _row(variant: str, policy: str, runs: Sequence[RunResult], everything: Sequence[RunResult]) -> Row:
    wins, duels = _wins(policy, runs, everything)
    return Row(
        variant=variant,
        policy=policy,
        seeds=len({run.seed for run in runs}),
        at_100=stat(run.unallocated_pct_at_100 for run in runs),
        at_130=stat(run.unallocated_pct_at_130 for run in runs),
        placed=statistics.fmean(run.placed for run in runs),
        failed=statistics.fmean(run.failed for run in runs),
        runs=len(runs),
        measured=sum(run.unallocated_pct_at_100 is not None for run in runs),
        wins=wins if duels else None,
        duels=duels,
    )


def _overall(policy: str, everything: Sequence[RunResult]) -> Row:
    """Average over the pod lists seed by seed, so that the spread stays one over seeds."""
    runs = [run for run in everything if run.policy == policy]
    wins, duels = _wins(policy, runs, everything)
    return Row(
        variant=ALL_VARIANTS,
        policy=policy,
        seeds=len({run.seed for run in runs}),
        at_100=_by_seed(runs, lambda run: run.unallocated_pct_at_100),
        at_130=_by_seed(runs, lambda run: run.unallocated_pct_at_130),
        placed=statistics.fmean(run.placed for run in runs),
        failed=statistics.fmean(run.failed for run in runs),
        runs=len(runs),
        measured=sum(run.unallocated_pct_at_100 is not None for run in runs),
        wins=wins if duels else None,
        duels=duels,
    )


def _by_seed(runs: Sequence[RunResult], figure: Callable[[RunResult], float | None]) -> Stat | None:
    seeds = sorted({run.seed for run in runs})
    means = [stat(figure(run) for run in runs if run.seed == seed) for seed in seeds]
    return stat(mean.mean if mean else None for mean in means)


def _wins(policy: str, runs: Sequence[RunResult], everything: Sequence[RunResult]) -> tuple[int, int]:
    if policy == BASELINE:
        return 0, 0
    base = {(run.variant, run.seed): run.unallocated_pct_at_100 for run in everything if run.policy == BASELINE}
    pairs = [(run.unallocated_pct_at_100, base.get((run.variant, run.seed))) for run in runs]
    duels = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    return sum(ours < theirs for ours, theirs in duels), len(duels)
