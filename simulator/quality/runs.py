"""A case, all that one run depends on; a run, its figures; and how a figure is called and written."""

from __future__ import annotations

from dataclasses import dataclass

DIGITS = 6
"""Digits kept of a figure: more than means and differences show, few enough to compare files of two machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of `suite`. What `scenario` and `load` are, the suite says; `load` is 0 where nothing leaves.

    `seed` is the number of the run; the suite says which seed of the generator it stands for. `arrivals` 0 is the full
    count of the protocol.
    """

    suite: str
    scenario: str
    load: float
    policy: str
    seed: int
    arrivals: int = 0

    @property
    def cell(self) -> Cell:
        """Where this run meets those of other policies on the same arrivals."""
        return self.suite, self.scenario, self.load


Cell = tuple[str, str, float]
"""Suite, scenario, load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The figures of one case, by name (units end the name)."""

    case: Case
    figures: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure: its name in files, its title in tables, the digits it is shown with, and which way is better."""

    key: str
    head: str
    digits: int = 2
    less_is_better: bool = False


def cell_text(cell: Cell) -> str:
    """Return a cell as people write it."""
    suite, scenario, load = cell
    return f"{suite} {scenario} {load}" if load else f"{suite} {scenario}"
