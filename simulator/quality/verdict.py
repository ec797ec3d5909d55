"""A gate in one cell and whether it is reached; the rules by which every suite judges.

A plain threshold is held against a mean. Where a gate compares with a peer on the same arrivals, a difference less than
two standard errors on the wrong side is called noise, and is no miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packing.policy import DEFAULT_POLICY
from simulator.quality.lines import Mean, difference, mean_of, paired
from simulator.quality.runs import Run

NOISE_ERRORS = 2.0

YES, NOISE, NO = "yes", "within noise", "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A gate in one cell. `measured` is a mean, or a difference with its standard error; target None: there is none.

    `digits` are those it is shown with; `policy` is the setting of ours that is judged.
    """

    gate: str
    cell: str
    measured: float
    error: float
    gate_at: float
    gate_reached: str
    target_at: float | None
    target_reached: str
    digits: int = 2
    policy: str = DEFAULT_POLICY


def threshold(
    gate: str, cell: str, value: Mean, at: float, target: float | None = None, *, most: bool = False, digits: int = 2
) -> Verdict:
    """Return the verdict on a mean that is to be at least (`most`: at most) `at`."""
    sign = -1 if most else 1

    def holds(bound: float) -> str:
        return YES if sign * value.mean >= sign * bound else NO

    return Verdict(
        gate=gate,
        cell=cell,
        measured=value.mean,
        error=value.error,
        gate_at=at,
        gate_reached=holds(at),
        target_at=target,
        target_reached="" if target is None else holds(target),
        digits=digits,
    )


def reached(value: Mean, bound: float) -> str:
    """Return whether a mean paired difference is at least `bound`."""
    if value.mean >= bound:
        return YES
    return NOISE if value.mean + NOISE_ERRORS * value.error >= bound else NO


def at_least(
    gate: str,
    cell: str,
    value: Mean,
    at: float,
    target: float | None = None,
    *,
    digits: int = 2,
    policy: str = DEFAULT_POLICY,
) -> Verdict:
    """Return the verdict on a mean paired difference of `policy` that is to be at least `at`."""
    return Verdict(
        gate=gate,
        cell=cell,
        measured=value.mean,
        error=value.error,
        gate_at=at,
        gate_reached=reached(value, at),
        target_at=target,
        target_reached="" if target is None else reached(value, target),
        digits=digits,
        policy=policy,
    )


def compared(figure: str, ours: Sequence[Run], theirs: Sequence[Run]) -> Mean | None:
    """Return ours less theirs, paired; None where no run of the one met the other's."""
    if not paired(ours, theirs):
        return None
    found = difference(figure, ours, theirs, theirs[0].case.policy)
    return Mean(mean=found.mean, error=found.error)


def mean_figure(figure: str, runs: Sequence[Run]) -> Mean:
    """Return the mean of a figure over runs."""
    return mean_of(run.figures[figure] for run in runs)
