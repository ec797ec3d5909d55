"""The runs of the chosen suites, and running one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simulator.quality.registry import SUITES
from simulator.quality.runs import DIGITS, Case, Run
from topology.errors import InvalidInputError


def plan(
    suites: Sequence[str], seeds: int = 0, *, first_seed: int | None = None, arrivals: int = 0
) -> tuple[Case, ...]:
    """Return all cases of `suites`, in the order of the tables.

    `seeds` runs per cell from number `first_seed` on; 0 and None: as the protocol of the suite says. Raises
    InvalidInputError where some suite needs more `arrivals`.
    """
    for suite in (SUITES[name] for name in suites):
        if 0 < arrivals < suite.least_arrivals:
            problem = (
                f"is too few for suite {suite.name}; give at least {suite.least_arrivals}, or 0 for the protocol's"
            )
            raise InvalidInputError("--arrivals", repr(arrivals), problem)
    return tuple(
        Case(suite=name, scenario=scenario, load=load, policy=policy, seed=seed, arrivals=arrivals)
        for name in suites
        for scenario in SUITES[name].scenarios
        for load in SUITES[name].loads
        for policy in SUITES[name].policies
        for seed in _numbers(SUITES[name].seeds, seeds, first_seed)
    )


def run_case(case: Case, *files: Path) -> Run:
    """Run one case. The same case gives the same figures on every machine.

    `files` are copies of those that its suite names, in that order; without any, it reads those themselves.
    """
    suite = SUITES[case.suite]
    figures = suite.run(case, *(files or suite.files(case)))
    return Run(case=case, figures={name: round(value, DIGITS) for name, value in figures.items()})


def _numbers(published: range, seeds: int, first: int | None) -> range:
    start = published.start if first is None else first
    return range(start, start + (seeds or len(published)))
