"""What a suite of the quality benchmark is: one value that names its runs, figures, gates and drawings.

A new suite is a module that makes such a value, and a line in `simulator.quality.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate

from packing.policy import DEFAULT_POLICY, WAIT_POLICY
from simulator.quality.lines import Line
from simulator.quality.runs import Case, Figure, Run
from simulator.quality.verdict import Verdict

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

OURS = DEFAULT_POLICY
OWN = (WAIT_POLICY, OURS)
"""Settings of ours: none is a rival of another."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suite:
    """One suite. Every policy meets the others in a cell, a scenario at a load (0: nothing leaves)."""

    name: str
    """As on the command line; the first letter stands for all suites that begin with it."""
    title: str
    method: str
    """How it is measured, for the page; suites of one letter may share it."""
    scenarios: tuple[str, ...]
    loads: tuple[float, ...] = (0.0,)
    policies: tuple[str, ...]
    """In the order of the tables, ours last."""
    seeds: range
    """Numbers of the runs of the published protocol."""
    figures: tuple[Figure, ...]
    """In the order of the tables. The first that a cell has is its main one: policies are ranked by it."""
    run: Callable[Concatenate[Case, ...], dict[str, float]]
    """(case, its files, wherever they are now) -> figures."""
    rivals: Callable[[Figure, Sequence[Line]], Sequence[tuple[str, str]]]
    """(main figure, lines of a cell) -> figure and peer of every paired difference that is told."""
    gates: Callable[[Sequence[Run]], Sequence[Verdict]]
    """Runs of this suite -> its gates, of those whose cells were run."""
    draw: Callable[[Sequence[Sequence[Line]]], Sequence[Drawing]]
    """Lines by cell -> drawings for the page."""
    cases_per_task: int = 4
    """Cases sent to a worker at once: most take a tenth of a second. One where a run takes seconds."""
    least_arrivals: int = 1
    """Fewer may leave a run without any that counts."""
    files: Callable[[Case], Sequence[Path]] = lambda _case: ()
    """What a case reads on this machine. Raises InvalidInputError where it is missing."""
    complete: Callable[[Sequence[Run]], Sequence[Run]] = list
    """Runs of this suite -> the same with the figures that only all of them together tell."""

    @property
    def letter(self) -> str:
        """The word of the command line for this suite and its likes."""
        return self.name[0]

    def main_figure(self, line: Line) -> Figure:
        """Return the figure that ranks the policies of a cell."""
        return next(figure for figure in self.figures if figure.key in line.figures)
