"""Suite R1: what waiting costs. Jobs of the openb trace come and go on its cluster, queued first in, first out.

Backfill: where the oldest job does not fit, younger ones that do may pass it. Nothing is reserved for who is passed
(`simulator.queueing.BackfillQueue`), so a policy that keeps no room for large jobs lets them wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from packing.model import Node
from packing.policy import POLICIES
from simulator.inputs.openb import read_nodes, read_pods
from simulator.inputs.workload import Workload, from_openb
from simulator.quality import openbdata
from simulator.quality.lines import Line, best, grouped
from simulator.quality.queueload import allocated_pct, judge_waits, queue_jobs
from simulator.quality.runs import Case, Figure, Run, cell_text
from simulator.quality.suite import OWN, Suite
from simulator.quality.verdict import Verdict, at_least, compared, mean_figure

if TYPE_CHECKING:
    from simulator.report.svg import Drawing

SCENARIO = "openb"
LOADS = (0.8, 0.95, 1.1)
OVERLOAD = 1.0
"""From this load on the queue grows without end: a wait says how long was measured, so only allocation is told."""
BASELINE = "fgd"
TARGET_SHARE = 0.05
"""Of the baseline's mean wait that is to be saved."""

WAIT = Figure(key="wait_s", head="mean wait s", less_is_better=True)
ALLOCATED = Figure(key="allocated_pct", head="allocated %")
SLOWDOWN = Figure(key="slowdown", head="bounded slowdown", digits=3, less_is_better=True)
BY_SIZE = (
    Figure(key="wait_cpu_s", head="cpu s", less_is_better=True),
    Figure(key="wait_share_s", head="share s", less_is_better=True),
    Figure(key="wait_1_s", head="1 GPU s", less_is_better=True),
    Figure(key="wait_2_4_s", head="2, 4 GPUs s", digits=1, less_is_better=True),
    Figure(key="wait_8_s", head="8 GPUs s", digits=1, less_is_better=True),
)
"""Mean waits by size of job."""


def files(_case: Case) -> tuple[Path, Path]:
    """Return the files that a run reads: nodes and pods."""
    return openbdata.file(openbdata.NODE_LIST), openbdata.pod_list("default")


def run(case: Case, nodes_path: Path, pods_path: Path) -> dict[str, float]:
    """Return the figures of one run."""
    from simulator.compiled import compiled_replay
    from simulator.core import CoreCluster

    nodes, trace = _trace(nodes_path, pods_path)
    cluster = CoreCluster(nodes, trace.counts(), case.policy, case.seed)
    gpus = sum(len(node.shape.gpus) for node in nodes)
    jobs, span_s = queue_jobs(trace, gpus, case.load, case.seed, case.arrivals)
    if case.load > OVERLOAD:
        result = compiled_replay(jobs, cluster, backfill=True, horizon_s=span_s)
        return {ALLOCATED.key: allocated_pct(result, span_s)}
    # Nobody comes after the span, but who waits is served: a wait that is cut off would look short.
    result = compiled_replay(jobs, cluster, backfill=True, horizon_s=math.inf)
    return judge_waits(result, span_s) | {ALLOCATED.key: allocated_pct(result, span_s)}


@lru_cache(maxsize=1)
def _trace(nodes: Path, pods: Path) -> tuple[tuple[Node, ...], Workload]:
    return tuple(sorted(read_nodes(nodes), key=lambda node: node.name)), from_openb(read_pods(pods))


def rivals(main: Figure, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the best peer, then the baseline by every main figure."""
    told = [(main.key, best(main, (line for line in lines if line.policy not in OWN)))]
    told += [(figure.key, BASELINE) for figure in (WAIT, SLOWDOWN, ALLOCATED) if figure.key in lines[0].figures]
    return list(dict.fromkeys(told))


def gates(runs: Sequence[Run]) -> list[Verdict]:
    """Return the gates: a mean wait no longer than any other policy's, and shorter than the baseline's.

    Told of the default policy and of its setting for waits.
    """
    found = []
    for cell, by_policy in grouped(runs).items():
        peers = {policy: theirs for policy, theirs in by_policy.items() if policy not in OWN}
        if not peers or cell[2] > OVERLOAD:
            continue
        least = min(peers, key=lambda peer: mean_figure(WAIT.key, peers[peer]).mean)
        for ours in (by_policy[name] for name in reversed(OWN) if name in by_policy):
            found.extend(_saved(cell_text(cell), ours, peers[least]))
            if BASELINE in peers:
                target = TARGET_SHARE * mean_figure(WAIT.key, peers[BASELINE]).mean
                found.extend(_saved(cell_text(cell), ours, peers[BASELINE], round(target, 2)))
    return found


def _saved(cell: str, ours: Sequence[Run], theirs: Sequence[Run], target: float | None = None) -> list[Verdict]:
    value = compared(WAIT.key, theirs, ours)
    if value is None:
        return []
    policy = ours[0].case.policy
    gate = f"s of mean wait {policy} saves against {theirs[0].case.policy}, at least"
    return [at_least(gate, cell, value, 0.0, target, policy=policy)]


def draw(cells: Sequence[Sequence[Line]]) -> list[Drawing]:
    """Return per cell the policies by their main figure, and who waits where anybody does."""
    from simulator.quality.figures import bars, by_kind

    drawings = []
    for lines in cells:
        if WAIT.key in lines[0].figures:
            drawings.append(bars(lines, WAIT, "mean wait, seconds (less is better)", "openb jobs", logarithmic=True))
            drawings.append(by_kind(lines, BY_SIZE, "mean wait, seconds", "size of the job"))
        else:
            drawings.append(bars(lines, ALLOCATED, "GPUs allocated, %", "openb jobs"))
    return drawings


QUEUE = Suite(
    name="R1",
    title="R1: time, jobs that wait",
    method="Jobs drawn with replacement from the openb trace (default list, at most 6 hours each) come as a Poisson "
    "process for 48 hours to its 1,213 nodes; those of the first 12 hours do not count. First in, first out with "
    "backfill: where the oldest does not fit, younger jobs that do may pass it, and nothing is reserved. Waits are of "
    "all jobs, CPU-only ones too; the slowdown is bounded at 10 seconds. At load 1.1 the queue grows without end, so "
    "only the allocation is told.",
    scenarios=(SCENARIO,),
    loads=LOADS,
    policies=(*(name for name in POLICIES if name not in OWN), *OWN),
    seeds=range(5),
    cases_per_task=1,
    least_arrivals=100,
    figures=(
        WAIT,
        Figure(key="wait_p90_s", head="p90 s", digits=1, less_is_better=True),
        Figure(key="wait_p99_s", head="p99 s", digits=1, less_is_better=True),
        SLOWDOWN,
        ALLOCATED,
        *BY_SIZE,
    ),
    run=run,
    rivals=rivals,
    gates=gates,
    draw=draw,
    files=files,
)
