"""`dovetail simulate`: fill a cluster with a pod list under several policies, and say who leaves least unused.

This module only decodes options and prints; it loads in milliseconds, the planner is imported when a command runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import dovetail
from dovetail.dask_option import DaskAddress, dask_cluster
from dovetail.outfolder import REPORT_NAME, remove_stale_report
from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.progress import note_compiling, note_left_out, progress_bar
from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from simulator.choices import TraceFiles
    from simulator.daskpool import DaskPool
    from simulator.objective import Objective
    from simulator.result import Result
    from simulator.summary import Row
    from simulator.sweep import Plan

EXIT_FAILED = 1
EXIT_MISSED = 3
EXIT_INTERRUPTED = 130

COLUMNS = (
    Column("policy", "POLICY"),
    Column("pods", "PODS"),
    Column("unallocated_pct_at_100", "UNALLOC@100 %", 2),
    Column("spread_at_100", "+/-", 2),
    Column("unallocated_pct_at_130", "UNALLOC@130 %", 2),
    Column("placed", "PLACED", 1),
    Column("failed", "FAILED", 1),
    Column("wins_vs_fgd", "WINS VS FGD"),
)


class Protocol(StrEnum):
    """fill: pods arrive and stay until the cluster is full; replay: jobs arrive, wait, run and leave."""

    FILL = "fill"
    REPLAY = "replay"


ProtocolOpt = Annotated[Protocol, typer.Option(help="fill until full, or replay jobs that come and go.")]
SnapshotOpt = Annotated[
    Path | None,
    typer.Option(help="For replay, instead of --cluster: of a real one (`dovetail snapshot`); what runs stays."),
]
SeedsOpt = Annotated[str, typer.Option(help="Seeds, as in 42-51 or 42,43; without: the recorded ones, or 42-51 drawn.")]
OutOpt = Annotated[Path, typer.Option(help="Folder for result.json and, of a fill, report.html.")]
OutputOpt = Annotated[OutputFormat, typer.Option("--output", "-o", help="How the summary is printed.")]
PlacementsOpt = Annotated[bool, typer.Option("--placements", help="For fill: also record where every pod went.")]
ObjectiveOpt = Annotated[
    list[str] | None,
    typer.Option(help="For fill: e.g. 'unallocated_pct_at_100<=5', for every policy; a miss exits 3."),
]


def simulate(
    *,
    protocol: ProtocolOpt = Protocol.FILL,
    nodes: Annotated[Path | None, typer.Option(help="Node list (CSV, also .gz).")] = None,
    pods: Annotated[list[Path] | None, typer.Option(help="Pod list (CSV, also .gz); repeat for several.")] = None,
    arrivals: Annotated[Path | None, typer.Option(help="Recorded arrival orders (.npz); without: drawn.")] = None,
    openb: Annotated[Path | None, typer.Option(help="Folder with the openb trace: its nodes, pods, arrivals.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="With --openb: pod lists by name, or all.")] = None,
    cluster: Annotated[Path | None, typer.Option(help="For replay: cluster file (YAML).")] = None,
    snapshot: SnapshotOpt = None,
    workload: Annotated[Path | None, typer.Option(help="For replay: jobs with times (CSV, also .gz).")] = None,
    backfill: Annotated[bool, typer.Option("--backfill", help="For replay: who fits may pass who waits.")] = False,
    policy: Annotated[list[str] | None, typer.Option(help="Policies, comma-separated, or all.")] = None,
    seeds: SeedsOpt = "",
    out: OutOpt = Path("dovetail-report"),
    output: OutputOpt = (OutputFormat.TABLE),
    jobs: Annotated[int, typer.Option(min=0, help="For fill: worker processes; 0 is one per core.")] = 1,
    dask: DaskAddress = "",
    placements: PlacementsOpt = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad rows of pod lists or workload.")] = False,
    objective: ObjectiveOpt = None,
) -> None:
    """Fill a cluster pod by pod under several policies; compare what stays unused; write a report.

    With --protocol replay: jobs arrive, wait, run and leave; compare how long they wait. Writes result.json only.
    """
    policies = policy or ["dovetail,fgd"]
    if protocol is Protocol.REPLAY:
        onto, work = _replayed(cluster, snapshot, workload)
        given = _given(nodes=nodes, pods=pods, arrivals=arrivals, openb=openb, variant=variant)
        given += _given(seeds=seeds, objective=objective, placements=placements, jobs=jobs != 1, dask=dask)
        if given:
            raise typer.BadParameter(f"a replay has no {', '.join(given)}; that belongs to the fill protocol")
        from dovetail.replay_view import replay_and_print

        replay_and_print(
            onto, work, policies, out, output, backfill=backfill, skip_bad=skip_bad, snapshot=snapshot is not None
        )
        return
    if cluster or snapshot or workload or backfill:
        raise typer.BadParameter("--cluster, --snapshot, --workload and --backfill go with --protocol replay")
    from simulator.objective import parse_objective

    objectives = [parse_objective(text) for text in objective or []]
    plan = _plan(
        _files(nodes, pods, arrivals, openb, variant), policies, seeds, skip_bad=skip_bad, placements=placements
    )
    with dask_cluster(dask, jobs) as workers:
        result, failure = _run(plan, jobs or _cores(), workers)
    report = _write(result, objectives, out)
    _finish(result, objectives, output, report, failure)


def _replayed(cluster: Path | None, snapshot: Path | None, workload: Path | None) -> tuple[Path, Path]:
    """Return what is replayed on, and what."""
    onto = snapshot or cluster
    if onto is None or workload is None or (snapshot is not None and cluster is not None):
        raise typer.BadParameter("a replay takes --workload, and --cluster or --snapshot")
    return onto, workload


def _given(**options: object) -> list[str]:
    return [f"--{name}" for name, value in options.items() if value]


def _files(
    nodes: Path | None, pods: list[Path] | None, arrivals: Path | None, openb: Path | None, variant: list[str] | None
) -> TraceFiles:
    from simulator.choices import TraceFiles, trace_files

    if openb is not None:
        if nodes or pods or arrivals:
            raise typer.BadParameter("--openb names all files; leave out --nodes, --pods and --arrivals")
        files = trace_files(openb, variant or ["default"])
        if files.unrecorded:
            lists = ", ".join(files.unrecorded)
            typer.echo(f"no orders of arrival are recorded for {lists}: all orders are drawn from the seeds", err=True)
        return files
    if variant:
        raise typer.BadParameter("--variant goes with --openb; name pod lists with --pods")
    if nodes is None or not pods:
        raise typer.BadParameter("name a node list and pod lists (--nodes, --pods), or an openb folder (--openb)")
    return TraceFiles(nodes, tuple(pods), arrivals)


def _plan(files: TraceFiles, policies: Sequence[str], seeds: str, *, skip_bad: bool, placements: bool) -> Plan:
    from packing.policy import POLICIES
    from simulator.choices import choose_seeds, parse_policies
    from simulator.fillrun import variant_name
    from simulator.sweep import Plan

    variants = [variant_name(path) for path in files.pods]
    if len(set(variants)) < len(variants):
        raise InvalidInputError("pods", "", "several pod lists have the same name; results could not be told apart")
    return Plan(
        nodes=files.nodes,
        pods=files.pods,
        arrivals=files.arrivals,
        policies=parse_policies(policies, POLICIES),
        seeds=choose_seeds(seeds, files.arrivals, variants),
        skip_bad=skip_bad,
        placements=placements,
    )


def _run(plan: Plan, jobs: int, cluster: DaskPool | None) -> tuple[Result, str]:
    """Return what was finished and, where the rest was lost with the cluster, why."""
    from simulator.provenance import inputs_of
    from simulator.result import Result
    from simulator.sweep import run_sweep

    inputs = inputs_of(plan, dovetail.__version__)
    for pods in inputs.pods:
        note_left_out(pods.file, pods.rejected)
    specs = plan.specs()
    if cluster is None:
        note_compiling()
    if jobs != 1:
        # Once here, not once in every process.
        from packing.warm import compile_kernels

        compile_kernels()
    with progress_bar(len(specs)) as step:
        sweep = run_sweep(specs, jobs=jobs, cluster=cluster, progress=lambda _spec: step())
    return Result(inputs=inputs, runs=sweep.runs, complete=sweep.complete), sweep.failure


def _write(result: Result, objectives: Sequence[Objective], out: Path) -> Path | None:
    """Write both files; a result without any finished run has no report."""
    from simulator.result import write_result, write_text

    write_result(result, out)
    if not result.runs:
        remove_stale_report(out)
        return None
    from simulator.report import render_report

    return write_text(out / REPORT_NAME, render_report(result, objectives))


def _finish(
    result: Result, objectives: Sequence[Objective], output: OutputFormat, report: Path | None, failure: str
) -> None:
    from simulator.summary import ALL_VARIANTS, summarise, unmeasured

    rows = summarise(result) if result.runs else ()
    left_out = {pods.variant: pods.rejected for pods in result.inputs.pods}
    left_out[ALL_VARIANTS] = sum(left_out.values())
    print_rows([_cells(row) | {"rows_left_out": left_out[row.variant]} for row in rows], COLUMNS, output)
    # Programs read standard output; the word where the report is must not end up in their JSON.
    typer.echo(f"report: {report}" if report else "no run was finished", err=output is not OutputFormat.TABLE)
    if failure:
        typer.echo(f"dovetail: {failure} (kept {len(result.runs)} finished runs)", err=True)
        raise typer.Exit(EXIT_FAILED)
    if not result.complete:
        typer.echo(f"interrupted: kept {len(result.runs)} finished runs", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if note := unmeasured(rows):
        typer.echo(note, err=True)
    missed = [(objective, row) for objective in objectives for row in objective.misses(rows)]
    for objective, row in missed:
        typer.echo(f"{objective.miss(row)}: {objective} ({row.policy} on {row.variant})", err=True)
    if missed:
        raise typer.Exit(EXIT_MISSED)


def _cells(row: Row) -> dict[str, Value]:
    return {
        "policy": row.policy,
        "pods": row.variant,
        "seeds": row.seeds,
        "unallocated_pct_at_100": row.at_100.mean if row.at_100 else None,
        "spread_at_100": row.at_100.sd if row.at_100 and row.seeds > 1 else None,
        "unallocated_pct_at_130": row.at_130.mean if row.at_130 else None,
        "placed": round(row.placed, 4),
        "failed": round(row.failed, 4),
        "wins_vs_fgd": None if row.wins is None else f"{row.wins}/{row.duels}",
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
