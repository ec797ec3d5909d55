"""`dovetail simulate --protocol replay`: jobs arrive, wait, run and leave; how long they wait under each policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import dovetail
from dovetail.outfolder import remove_stale_report
from dovetail.output import Column, OutputFormat, Value, print_rows
from dovetail.progress import note_left_out, progress_bar

if TYPE_CHECKING:
    from simulator.replayrun import ReplayRun

COLUMNS = (
    Column("policy", "POLICY"),
    Column("finished", "FINISHED"),
    Column("running", "RUNNING"),
    Column("queued", "QUEUED"),
    Column("never_fits", "NEVER FITS"),
    Column("wait_p50_s", "WAIT P50 S", 0),
    Column("wait_p90_s", "WAIT P90 S", 0),
    Column("utilisation_pct", "GPU USE %", 1),
    Column("gpu_hours", "GPU HOURS", 1),
)


def replay_and_print(
    cluster: Path,
    workload: Path,
    policies: Sequence[str],
    out: Path,
    output: OutputFormat,
    *,
    backfill: bool,
    skip_bad: bool,
    snapshot: bool = False,
) -> None:
    """Replay under each policy, write `out`/result.json, print a row per policy; `snapshot`: `cluster` is one."""
    from packing.policy import POLICIES
    from simulator.choices import parse_policies
    from simulator.replayrun import encode_replays, read_plan, run_replays
    from simulator.result import write_text

    names = parse_policies(policies, POLICIES)
    plan = read_plan(cluster, workload, names, backfill=backfill, skip_bad=skip_bad, snapshot=snapshot)
    note_left_out(workload.name, plan.workload.rejected.count)
    with progress_bar(len(names)) as step:
        report = run_replays(plan, dovetail.__version__, step)
    remove_stale_report(out)
    written = write_text(out / "result.json", encode_replays(report))
    left_out = {"rows_left_out": report.rejected}
    print_rows([_cells(run) | left_out for run in report.runs], COLUMNS, output)
    typer.echo(f"result: {written}", err=output is not OutputFormat.TABLE)


def _cells(run: ReplayRun) -> dict[str, Value]:
    summary = run.summary
    return {
        "policy": run.policy,
        "submitted": summary.submitted,
        "finished": summary.finished,
        "running": summary.running,
        "queued": summary.queued,
        "never_fits": summary.never_fits,
        "wait_mean_s": round(summary.wait_s.mean, 3),
        "wait_p50_s": round(summary.wait_s.p50, 3),
        "wait_p90_s": round(summary.wait_s.p90, 3),
        "wait_p99_s": round(summary.wait_s.p99, 3),
        "utilisation_pct": round(summary.utilisation_pct, 4),
        "gpu_hours": round(summary.gpu_hours, 4),
    }
