"""A line per cell and policy, ours with its paired differences against the rivals its suite names."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.quality.lines import Line, difference, grouped, line_of, paired
from simulator.quality.registry import SUITES
from simulator.quality.runs import Cell, Run
from simulator.quality.suite import OURS
from simulator.quality.verdict import Verdict


def completed(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs with the figures that follow from all of their suite."""
    found: list[Run] = []
    for suite in SUITES.values():
        found.extend(suite.complete([run for run in runs if run.case.suite == suite.name]))
    return tuple(found)


def tabulate(runs: Sequence[Run]) -> tuple[Line, ...]:
    """Return a line per cell and policy, in the order of the runs."""
    return tuple(line for cell, by_policy in grouped(runs).items() for line in _lines(cell, by_policy))


def verdicts(runs: Sequence[Run]) -> tuple[Verdict, ...]:
    """Return every gate whose cells were run by ours and by the peers it names."""
    found: list[Verdict] = []
    for suite in SUITES.values():
        found.extend(suite.gates([run for run in runs if run.case.suite == suite.name]))
    return tuple(found)


def _lines(cell: Cell, by_policy: dict[str, list[Run]]) -> list[Line]:
    lines = [line_of(cell, policy, runs) for policy, runs in by_policy.items()]
    if OURS not in by_policy:
        return lines
    suite = SUITES[cell[0]]
    versus = tuple(
        difference(figure, by_policy[OURS], by_policy[peer], peer)
        for figure, peer in suite.rivals(suite.main_figure(lines[0]), lines)
        if paired(by_policy[OURS], by_policy.get(peer, ()))
    )
    return [line_of(cell, OURS, by_policy[OURS], versus) if line.policy == OURS else line for line in lines]
