"""`dovetail bench quality`: which links jobs get and how full MIG GPUs become, against the peers' ways to place.

This module only decodes options and prints; what computes is imported when the command runs.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dovetail
from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.progress import progress_bar

if TYPE_CHECKING:
    from simulator.quality.gates import Verdict
    from simulator.quality.result import Quality
    from simulator.quality.tables import Line

EXIT_INTERRUPTED = 130

bench_app = typer.Typer(help="Measure the policies on benchmarks of their quality.", no_args_is_help=True)

FIRST_COLUMNS = (
    Column("suite", "SUITE"),
    Column("scenario", "SCENARIO"),
    Column("load", "LOAD"),
    Column("policy", "POLICY"),
    Column("seeds", "SEEDS"),
)
FIGURE_COLUMNS = (
    Column("ideal_pct", "IDEAL %", 2),
    Column("ratio_pct", "QUALITY %", 2),
    Column("worst_pct", "WORST 5 %", 2),
    Column("served_pct", "SERVED %", 2),
    Column("optimum_pct", "OPTIMUM %", 2),
    Column("accepted_pct", "ACCEPTED %", 2),
    Column("requests_pct", "REQUESTS %", 2),
    Column("gpus_ratio", "GPUS/OPTIMUM", 4),
    Column("gpus", "GPUS", 1),
    Column("optimum_gpus", "OPTIMUM", 1),
)
VERSUS_COLUMN = Column("versus", "DIFFERENCE (PAIRED, +- STANDARD ERROR)")
GATE_COLUMNS = (
    Column("cell", "CELL"),
    Column("gate", "GATE"),
    Column("gate_at", "AT", 3),
    Column("measured", "MEASURED", 4),
    Column("error", "+-", 4),
    Column("gate_reached", "REACHED"),
    Column("target_at", "TARGET", 3),
    Column("target_reached", "REACHED"),
)


class Suite(StrEnum):
    """L: links of multi-GPU jobs; M: MIG (M1 to M3)."""

    LINKS = "L"
    MIG = "M"
    ALL = "all"


@bench_app.callback()
def bench() -> None:
    """Measure the policies on benchmarks of their quality."""


@bench_app.command()
def quality(
    *,
    suite: Annotated[Suite, typer.Argument(help="L (links of multi-GPU jobs), M (MIG), or all.")] = Suite.ALL,
    seeds: Annotated[int, typer.Option(min=0, max=10_000, help="Runs per cell; 0: as the protocol says.")] = 0,
    first_seed: Annotated[int, typer.Option(min=0, help="Number of the first run; others than 0 are for tuning.")] = 0,
    arrivals: Annotated[int, typer.Option(min=0, help="Arrivals of a run of L, M2, M3; 0: as the protocol says.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 is one per core.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for quality.json and quality.html.")] = Path("dovetail-quality"),
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How the tables are printed.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Measure link quality (L) and MIG packing (M) of the default policy and its peers on the same arrivals."""
    from simulator.quality.cases import SUITES, plan
    from simulator.quality.pool import run_cases
    from simulator.quality.result import quality_of, write_quality

    chosen = {Suite.LINKS: SUITES[:1], Suite.MIG: SUITES[1:], Suite.ALL: SUITES}[suite]
    cases = plan(chosen, seeds, first_seed=first_seed, arrivals=arrivals)
    with progress_bar(len(cases)) as step:
        runs = run_cases(cases, jobs=jobs or _cores(), progress=step)
    found = quality_of(tuple(runs), chosen, dovetail.__version__, complete=len(runs) == len(cases))
    write_quality(found, out)
    _print(found, output)
    _finish(found, out, output)


def _print(found: Quality, output: OutputFormat) -> None:
    rows = [_cells(line) for line in found.lines]
    columns = (*FIRST_COLUMNS, *FIGURE_COLUMNS, VERSUS_COLUMN)
    if output is not OutputFormat.TABLE:
        print_rows(rows, columns, output)
        return
    for suite in found.suites:
        here = [row for row in rows if row["suite"] == suite]
        shown = [column for column in FIGURE_COLUMNS if any(column.key in row for row in here)]
        if here:
            print_rows(here, (*FIRST_COLUMNS, *shown, VERSUS_COLUMN), output)
            typer.echo()
    if found.gates:
        print_rows([_gate_cells(gate) for gate in found.gates], GATE_COLUMNS, output)


def _finish(found: Quality, out: Path, output: OutputFormat) -> None:
    """Write the page and say where it is; an interrupted benchmark ends with its own code."""
    from simulator.result import write_text

    # Programs read standard output; the word where the page is must not end up in their JSON.
    aside = output is not OutputFormat.TABLE
    if found.runs:
        from simulator.quality.page import FILE_NAME, render_quality

        typer.echo(f"report: {write_text(out / FILE_NAME, render_quality(found))}", err=aside)
    else:
        typer.echo("no run was finished", err=aside)
    if not found.complete:
        typer.echo(f"interrupted: kept {len(found.runs)} finished runs", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _cells(line: Line) -> dict[str, Value]:
    from simulator.quality.tables import seeds_text

    row: dict[str, Value] = {
        "suite": line.suite,
        "scenario": line.scenario,
        "load": line.load or None,
        "policy": line.policy,
        "seeds": seeds_text(line.seeds),
        "versus": "; ".join(
            f"{found.figure} {found.mean:+.4f} +- {found.error:.4f} vs {found.peer}" for found in line.versus
        )
        or None,
    }
    for name, value in line.figures.items():
        row[name] = value.mean
        row[f"{name}_error"] = value.error
    return row


def _gate_cells(gate: Verdict) -> dict[str, Value]:
    return {
        "cell": gate.cell,
        "gate": gate.gate,
        "gate_at": gate.gate_at,
        "measured": gate.measured,
        "error": gate.error,
        "gate_reached": gate.gate_reached,
        "target_at": gate.target_at,
        "target_reached": gate.target_reached or None,
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
