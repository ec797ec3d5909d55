"""`quality.json`: every run, the tables and the gates. Same version and seeds, same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from simulator.quality.lines import Line
from simulator.quality.runs import Run
from simulator.quality.tables import completed, tabulate, verdicts
from simulator.quality.verdict import Verdict
from simulator.result import write_text

SCHEMA_NAME = "dovetail.quality/v1"
FILE_NAME = "quality.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What was run and what it says. Incomplete if it was stopped early."""

    dovetail: str
    suites: tuple[str, ...]
    runs: tuple[Run, ...]
    lines: tuple[Line, ...]
    gates: tuple[Verdict, ...]
    complete: bool = True
    schema: str = SCHEMA_NAME


def quality_of(runs: tuple[Run, ...], suites: tuple[str, ...], version: str, *, complete: bool = True) -> Quality:
    """Return the result of `runs`."""
    runs = completed(runs)
    return Quality(
        dovetail=version,
        suites=suites,
        runs=runs,
        lines=tabulate(runs),
        gates=verdicts(runs),
        complete=complete,
    )


def encode_quality(quality: Quality) -> str:
    """Return the text of `quality.json`: sorted keys, one run, line or gate a line, a newline at the end."""
    fields: dict[str, Any] = msgspec.to_builtins(quality)
    parts = []
    for key in sorted(fields):
        value = fields[key]
        if key in ("runs", "lines", "gates"):
            rows = ",\n".join(_compact(row) for row in value)
            parts.append(f'"{key}": [\n{rows}\n]')
        else:
            parts.append(f'"{key}": {_compact(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def write_quality(quality: Quality, folder: Path) -> Path:
    """Write `folder`/quality.json, whole or not at all, and return its path."""
    return write_text(folder / FILE_NAME, encode_quality(quality))


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
