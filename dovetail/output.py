"""Rows for people and for programs: one way to print an answer as a table, JSON, YAML or CSV.

Colour and line drawing are for terminals only; NO_COLOR is respected. Programs get plain values with stable keys.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import typer

PIPE_WIDTH = 400
"""Columns of a table that goes into a pipe: wide enough that nothing is wrapped or cut."""

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

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = any(isinstance(row.get(column.key), int | float) for row in rows)
        table.add_column(column.title, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(column.key), column.digits) for column in columns))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(table)


def _cell(value: Value, digits: int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}f}"
    return str(value)
