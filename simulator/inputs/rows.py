"""CSV tables with a header: typed cells, and bad rows gathered instead of stopping at the first.

Columns are found by name, in any order; columns nobody asked for are ignored.
A `Row` hands out a harmless value for a bad cell and remembers the fault, so that one pass finds every fault of a
row; `Faults.settle` raises them together, or returns them when the caller chose to skip bad rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulator.inputs.source import MAX_INPUT_BYTES, read_bytes
from topology.errors import InvalidInputError, InvalidInputsError

MAX_FAULTS_KEPT = 100
"""Faults told in full; the rest are only counted, so that a wholly wrong file gives a readable message."""

MAX_INTEGER = 2**53
"""Largest whole number taken from a cell: it is still exact as a 64-bit float."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Rows that were left out: how many, and the faults of the first ones (at most `MAX_FAULTS_KEPT`)."""

    count: int = 0
    faults: tuple[InvalidInputError, ...] = ()


@dataclass(slots=True)
class Row:
    """One row: typed access to its cells. After reading, the row is good if `faults` is empty."""

    where: str
    cells: Mapping[str, str]
    faults: list[InvalidInputError] = field(default_factory=list)

    def fault(self, name: str, problem: str) -> None:
        """Remember that the cell `name` is wrong; `problem` says why and what would be right."""
        self.faults.append(InvalidInputError(self.where, name, f"{self.cells.get(name, '')!r} {problem}"))

    def text(self, name: str) -> str:
        """Return the cell without surrounding blanks; empty where the column is missing."""
        return self.cells.get(name, "").strip()

    def integer(self, name: str, *, low: int = 0, high: int = MAX_INTEGER, default: int | None = None) -> int:
        """Return a whole number from `low` to `high`; an empty cell gives `default`, or is a fault without one."""
        raw = self.text(name)
        if not raw and default is not None:
            return default
        try:
            # int() alone would also take 1_000, +1 and digits of other scripts.
            value = int(raw) if raw.isascii() and raw.removeprefix("-").isdigit() else None
        except ValueError:
            value = None
        if value is None:
            self.fault(name, f"is not a whole number; write one from {low} to {high}")
        elif not low <= value <= high:
            self.fault(name, f"is out of range; write {low} to {high}")
        else:
            return value
        return low

    def number(self, name: str, *, low: float = 0, default: float | None = None) -> float:
        """Return a finite number of at least `low`; an empty cell gives `default`, or is a fault without one."""
        raw = self.text(name)
        if not raw and default is not None:
            return default
        try:
            value = float(raw) if raw.isascii() and "_" not in raw else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fault(name, f"is not a finite number; write one of at least {low:g}")
        elif value < low:
            self.fault(name, f"is out of range; write at least {low:g}")
        elif value > MAX_INTEGER:
            self.fault(name, f"is out of range; write at most {MAX_INTEGER}")
        else:
            return value
        return low

    def choice(self, name: str, allowed: Sequence[str], *, default: str | None = None) -> str:
        """Return one of `allowed`; an empty cell gives `default`, or is a fault without one."""
        raw = self.text(name) or default or ""
        if raw not in allowed:
            self.fault(name, f"is unknown; write {', '.join(allowed)}")
            return allowed[0]
        return raw


@dataclass(slots=True)
class Faults:
    """Collects the bad rows of one table."""

    source: str
    count: int = 0
    kept: list[InvalidInputError] = field(default_factory=list)

    def add(self, faults: Sequence[InvalidInputError]) -> None:
        """Count one bad row and keep its `faults` while there is room."""
        self.count += 1
        self.kept.extend(faults[: MAX_FAULTS_KEPT - len(self.kept)])

    def settle(self, *, skip_bad: bool) -> Rejected:
        """Return what was rejected; unless `skip_bad`, raise InvalidInputsError if that is anything."""
        if self.count and not skip_bad:
            kept = tuple(self.kept)
            if len(kept) >= MAX_FAULTS_KEPT:
                told = f"{self.count} bad rows in all; only the first {len(kept)} faults are listed"
                kept = (*kept, InvalidInputError(self.source, "", told))
            raise InvalidInputsError(self.source, kept)
        return Rejected(self.count, tuple(self.kept))


@dataclass(frozen=True, slots=True)
class Table:
    """A decoded CSV file: its column names and its rows, each with the line it ends on."""

    source: str
    columns: tuple[str, ...]
    lines: tuple[tuple[int, Sequence[str]], ...]

    def rows(self, faults: Faults) -> Iterator[Row]:
        """Yield every row that has the right number of cells and is UTF-8; the others go to `faults`."""
        for line, cells in self.lines:
            row = Row(f"{self.source} line {line}", dict(zip(self.columns, cells, strict=False)))
            if len(cells) != len(self.columns):
                problem = f"has {len(cells)} cells; the header names {len(self.columns)} columns"
                faults.add([InvalidInputError(row.where, "", problem)])
            elif bad := [name for name, cell in row.cells.items() if not cell.isprintable()]:
                for name in bad:
                    row.fault(
                        name, "holds bytes that are not UTF-8 text, or control characters; save the file as UTF-8"
                    )
                faults.add(row.faults)
            else:
                yield row


def read_table(path: Path, required: Sequence[str], *, max_bytes: int = MAX_INPUT_BYTES) -> Table:
    """Return the table in `path` (`.csv` or `.csv.gz`), which must have the `required` columns.

    Raises InvalidInputError if the file cannot be read, is too large, or is not such a table.
    """
    source = str(path)
    # Bytes that are not UTF-8 become lone surrogates, which are not printable: the fault gets a line and a field.
    text = read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig", errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = tuple((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise InvalidInputError(source, f"line {reader.line_num}", f"is not CSV: {error}") from error
    if not lines:
        raise InvalidInputError(source, "", f"is empty; it needs a header with {', '.join(required)}")
    columns = tuple(name.strip() for name in lines[0][1])
    if missing := [name for name in required if name not in columns]:
        raise InvalidInputError(
            source, "header", f"lacks the columns {', '.join(missing)}; it has {', '.join(columns)}"
        )
    if len(set(columns)) != len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise InvalidInputError(source, "header", f"names {', '.join(twice)} more than once")
    return Table(source, columns, lines[1:])
