"""Objectives: a figure every policy of a simulation has to reach, so that a planner can gate a change on it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulator.summary import ALL_VARIANTS, Row
from topology.errors import InvalidInputError

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FIGURES: dict[str, Callable[[Row], float | None]] = {
    "unallocated_pct_at_100": lambda row: row.at_100.mean if row.at_100 else None,
    "unallocated_pct_at_130": lambda row: row.at_130.mean if row.at_130 else None,
    "placed": lambda row: row.placed,
    "failed": lambda row: row.failed,
}
_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """`figure` (a mean over seeds) compared with `limit`, for every policy and pod list of the simulation."""

    figure: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure} {self.comparison} {self.limit:g}"

    def misses(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return the rows of single pod lists that miss it; a figure that could not be measured is a miss."""
        lists = (row for row in rows if row.variant != ALL_VARIANTS)
        return tuple(row for row in lists if not self._met(_FIGURES[self.figure](row)))

    def miss(self, row: Row) -> str:
        """Return how `row`, one of the misses, misses it: `missed`, or `not measured` where there is no figure."""
        return "not measured" if _FIGURES[self.figure](row) is None else "missed"

    def _met(self, value: float | None) -> bool:
        return value is not None and _COMPARISONS[self.comparison](value, self.limit)


def parse_objective(text: str) -> Objective:
    """Return the objective written as e.g. `unallocated_pct_at_100<=5`. Raises InvalidInputError."""
    match = _FORM.fullmatch(text)
    if not match or match[1] not in _FIGURES:
        wanted = f"write FIGURE<=NUMBER with one of {', '.join(_FIGURES)} and <=, <, >= or >"
        raise InvalidInputError("objective", repr(text), wanted)
    return Objective(match[1], match[2], float(match[3]))
