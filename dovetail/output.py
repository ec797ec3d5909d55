"""Rows for people and for programs: one way to print an answer as a table, JSON, YAML or CSV.

Colour and line drawing are for terminals only; NO_COLOR is respected. Programs get plain values with stable keys.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import typer
from rich.cells import cell_len

GAP = 2
"""Blanks between two columns of a table, where there is room."""

Value = str | int | float | bool | None


class OutputFormat(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an answer: key for programs, title for people, digits of its numbers in the table (None: as is)."""

    key: str
    title: str
    digits: int | None = None


def print_rows(rows: Sequence[Mapping[str, Value]], columns: Sequence[Column], form: OutputFormat) -> None:
    """Print `rows` to standard output; keys without a column are shown to programs reading JSON or YAML only."""
    if form is OutputFormat.JSON:
        typer.echo(json.dumps([dict(row) for row in rows], indent=2, sort_keys=True))
    elif form is OutputFormat.YAML:
        import yaml

        typer.echo(yaml.safe_dump([dict(row) for row in rows], sort_keys=True, allow_unicode=True), nl=False)
    elif form is OutputFormat.CSV:
        typer.echo(_csv(rows, columns), nl=False)
    else:
        _print_table(rows, columns)


def _csv(rows: Sequence[Mapping[str, Value]], columns: Sequence[Column]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in columns)
    writer.writerows([row.get(column.key) for column in columns] for row in rows)
    return text.getvalue()


def _print_table(rows: Sequence[Mapping[str, Value]], columns: Sequence[Column]) -> None:
    from rich.console import Console
    from rich.table import Table

    cells = [[_cell(row.get(column.key), column.digits) for column in columns] for row in rows]
    numeric = [any(isinstance(row.get(column.key), int | float) for row in rows) for column in columns]
    titles = [column.title for column in columns]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    widths, gap = _layout(titles, cells, numeric, room)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for title, right, width in zip(titles, numeric, widths, strict=True):
        table.add_column(title, justify="right" if right else "left", width=width, vertical="top")
    for line in cells:
        table.add_row(*line)
    # As wide as the table, even beyond the terminal: rich would else cut numbers and drop columns. It heeds the width
    # on every terminal (also TERM=dumb) only where a height is given; the height means nothing here.
    width = max(sum(widths) + gap * len(widths), room or 0)
    Console(highlight=False, markup=False, emoji=False, width=width, height=1).print(table)


def _layout(
    titles: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], room: int | None
) -> tuple[list[int], int]:
    """Return the width of every column and the gap between two, for a terminal of `room` columns (None: no limit).

    Where room is short, titles break between words, then gaps shrink, then text does from the widest column on. No
    word and no number is ever cut: what still does not fit is printed wider than the terminal.
    """
    values = [max((cell_len(line[at]) for line in cells), default=0) for at in range(len(titles))]
    widths = [max(cell_len(title), value) for title, value in zip(titles, values, strict=True)]
    if room is None or sum(widths) + GAP * (len(widths) - 1) <= room:
        return widths, GAP
    widths = [max(_longest_word(title), value) for title, value in zip(titles, values, strict=True)]
    gap = GAP if sum(widths) + GAP * (len(widths) - 1) <= room else 1
    for at in sorted((at for at in range(len(titles)) if not numeric[at]), key=lambda at: -widths[at]):
        excess = sum(widths) + gap * (len(widths) - 1) - room
        if excess > 0:
            least = max(_longest_word(text) for text in (titles[at], *(line[at] for line in cells)))
            widths[at] = max(widths[at] - excess, least)
    return widths, gap


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _cell(value: Value, digits: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}f}"
    return str(value)
