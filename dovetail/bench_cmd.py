"""`dovetail bench quality`: links, MIG, waits, one mixed pool and the fill benchmark, against the peers' ways to place.

This module only decodes options and prints; what computes is imported when the command runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dovetail
from dovetail.dask_option import DaskAddress, dask_cluster
from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.progress import note_compiling, progress_bar
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.quality.lines import Line
    from simulator.quality.pool import Failure
    from simulator.quality.result import Quality
    from simulator.quality.runs import Figure
    from simulator.quality.verdict import Verdict

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

bench_app = typer.Typer(help="Measure the policies on benchmarks of their quality.", no_args_is_help=True)

FIRST_COLUMNS = (
    Column("suite", "SUITE"),
    Column("scenario", "SCENARIO"),
    Column("load", "LOAD"),
    Column("policy", "POLICY"),
    Column("seeds", "SEEDS"),
)
SUITES_IN_WORDS = "L (links of multi-GPU jobs), M (MIG), R (jobs that wait), X (one mixed pool), P (the fill benchmark)"
VERSUS_COLUMN = Column("versus", "DIFFERENCE (PAIRED, +- STANDARD ERROR)")
GATE_COLUMNS = (
    Column("cell", "CELL"),
    Column("policy", "POLICY"),
    Column("gate", "GATE"),
    Column("gate_at", "AT", 3),
    Column("measured", "MEASURED", 4),
    Column("error", "+-", 4),
    Column("gate_reached", "REACHED"),
    Column("target_at", "TARGET", 3),
    Column("target_reached", "REACHED"),
)


@bench_app.callback()
def bench() -> None:
    """Measure the policies on benchmarks of their quality."""


@bench_app.command()
def quality(
    *,
    suite: Annotated[str, typer.Argument(help=f"{SUITES_IN_WORDS}, one suite of them such as M2, or all.")] = "all",
    seeds: Annotated[int, typer.Option(min=0, max=10_000, help="Runs per cell; 0: as the protocol says.")] = 0,
    first_seed: Annotated[
        int | None, typer.Option(min=0, help="Number of the first run, for tuning; without it as the protocol says.")
    ] = None,
    arrivals: Annotated[int, typer.Option(min=0, help="Arrivals of a run (not M1, P); 0: as the protocol says.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 is one per core.")] = 1,
    dask: DaskAddress = "",
    out: Annotated[Path, typer.Option(help="Folder for quality.json and quality.html.")] = Path("dovetail-quality"),
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How the tables are printed.")] = (
        OutputFormat.TABLE
    ),
) -> None:
    """Measure how well the default policy and its peers place the same arrivals."""
    from simulator.quality.cases import plan
    from simulator.quality.pool import run_cases
    from simulator.quality.registry import SUITES, chosen
    from simulator.quality.result import quality_of

    try:
        suites = chosen(suite)
        cases = plan(suites, seeds, first_seed=first_seed, arrivals=arrivals)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error
    for case in cases:
        SUITES[case.suite].files(case)  # what is missing is told before the first run
    note_compiling()
    failures: list[Failure] = []
    with dask_cluster(dask, jobs) as cluster, progress_bar(len(cases)) as step:
        runs = run_cases(cases, jobs=jobs or _cores(), cluster=cluster, progress=step, failed=failures.append)
    found = quality_of(tuple(runs), suites, dovetail.__version__, complete=len(runs) == len(cases))
    _print(found, output)
    _finish(found, out, output, failures)


def _print(found: Quality, output: OutputFormat) -> None:
    from simulator.quality.registry import SUITES

    figures = {name: [_column(figure) for figure in SUITES[name].figures] for name in found.suites}
    rows = [_cells(line) for line in found.lines]
    if output is not OutputFormat.TABLE:
        every = dict.fromkeys(column for columns in figures.values() for column in columns)
        print_rows(rows, (*FIRST_COLUMNS, *every, VERSUS_COLUMN), output)
        return
    for suite, columns in figures.items():
        here = [row for row in rows if row["suite"] == suite]
        if here:
            print_rows(here, (*FIRST_COLUMNS, *columns, VERSUS_COLUMN), output)
            typer.echo()
    if found.gates:
        print_rows([_gate_cells(gate) for gate in found.gates], GATE_COLUMNS, output)


def _column(figure: Figure) -> Column:
    return Column(figure.key, figure.head.upper(), figure.digits)


def _finish(found: Quality, out: Path, output: OutputFormat, failures: Sequence[Failure]) -> None:
    """Write the result and its page and say where that is; an interrupted benchmark ends with its own code."""
    from simulator.result import write_text

    # Programs read standard output; the word where the page is must not end up in their JSON.
    aside = output is not OutputFormat.TABLE
    # An earlier result is worth more than an empty one.
    if found.runs:
        from simulator.quality.page import FILE_NAME, render_quality
        from simulator.quality.result import write_quality

        write_quality(found, out)
        typer.echo(f"report: {write_text(out / FILE_NAME, render_quality(found))}", err=aside)
    else:
        typer.echo("no run was finished", err=aside)
    if failures:
        typer.echo(f"dovetail: {failures[0]} (kept {len(found.runs)} finished runs)", err=True)
        raise typer.Exit(EXIT_FAILED)
    if not found.complete:
        typer.echo(f"interrupted: kept {len(found.runs)} finished runs", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)


def _cells(line: Line) -> dict[str, Value]:
    from simulator.quality.lines import seeds_text

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
        "policy": gate.policy,
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
