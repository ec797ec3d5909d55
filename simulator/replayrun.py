"""Replays of one workload under several policies, and their file: the same inputs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from packing.model import Node
from simulator.core import CoreCluster
from simulator.engine import replay
from simulator.inputs.cluster import read_cluster
from simulator.inputs.running import Running
from simulator.inputs.workload import Workload, read_workload
from simulator.replay_result import ReplaySummary
from simulator.result import InputFile, input_file
from topology.errors import InvalidInputError

SCHEMA_NAME = "dovetail.replay/v1"
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReplayPlan:
    """A workload on a cluster, replayed once per policy; `backfill` lets short jobs pass a blocked one."""

    nodes: tuple[Node, ...]
    running: Running = ()
    """What is there before and stays."""
    workload: Workload
    policies: tuple[str, ...]
    backfill: bool
    files: tuple[InputFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCurve:
    """Means per interval: it starts at `start_s[i]`; allocated GPUs in percent of capacity, jobs waiting."""

    start_s: tuple[float, ...]
    allocated_pct: tuple[float, ...]
    waiting: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRun:
    """What one policy made of the workload."""

    policy: str
    summary: ReplaySummary
    curve: ReplayCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """All replays of a plan, and what they were made from; `rejected` rows of the workload were left out as bad."""

    dovetail: str
    files: tuple[InputFile, ...]
    rejected: int
    backfill: bool
    runs: tuple[ReplayRun, ...]
    schema: str = SCHEMA_NAME


def read_plan(
    cluster: Path, workload: Path, policies: Sequence[str], *, backfill: bool, skip_bad: bool, snapshot: bool = False
) -> ReplayPlan:
    """Return the plan for a cluster file, or a snapshot of a real cluster, and a workload file.

    Raises InvalidInputError.
    """
    nodes, running = _cluster(cluster, snapshot=snapshot)
    jobs = read_workload(workload, skip_bad=skip_bad)
    if not len(jobs):
        raise InvalidInputError(str(workload), "", "holds no job; a replay needs at least one")
    return ReplayPlan(
        nodes=nodes,
        running=running,
        workload=jobs,
        policies=tuple(policies),
        backfill=backfill,
        files=(input_file(cluster), input_file(workload)),
    )


def _cluster(path: Path, *, snapshot: bool) -> tuple[tuple[Node, ...], Running]:
    if not snapshot:
        return read_cluster(path).nodes, ()
    # Not on top: a planner without the extra `cluster` has no such packages.
    from simulator.inputs.snapshot import read_snapshot

    return read_snapshot(path)


def run_replays(plan: ReplayPlan, version: str, progress: Callable[[], None]) -> ReplayReport:
    """Replay the workload once per policy; `progress` is called after each."""
    runs = []
    for policy in plan.policies:
        cluster = CoreCluster(plan.nodes, plan.workload.counts(), policy, running=plan.running)
        result = replay(plan.workload, cluster, backfill=plan.backfill)
        edges, used, waiting = result.sampled(CURVE_POINTS)
        curve = ReplayCurve(
            start_s=_rounded(edges[:-1].tolist(), 3),
            allocated_pct=_rounded((100 * used).tolist(), 2),
            waiting=_rounded(waiting.tolist(), 2),
        )
        runs.append(ReplayRun(policy=policy, summary=result.summary(), curve=curve))
        progress()
    return ReplayReport(
        dovetail=version,
        files=plan.files,
        rejected=plan.workload.rejected.count,
        backfill=plan.backfill,
        runs=tuple(runs),
    )


def encode_replays(report: ReplayReport) -> str:
    """Return the text of `result.json` for replays: sorted keys, a newline at the end."""
    return json.dumps(msgspec.to_builtins(report), indent=1, sort_keys=True) + "\n"


def _rounded(values: Sequence[float], digits: int) -> tuple[float, ...]:
    return tuple(round(value, digits) + 0.0 for value in values)
