"""Replays at the speed of compiled code: `simulator.engine.replay` on a `CoreCluster`, in one call."""

from __future__ import annotations

import math

import numpy as np

from packing.kernels.arrays import NONE
from packing.memory import Memory
from packing.model import Demand
from simulator.core import CoreCluster
from simulator.engine import classes_that_never_fit
from simulator.inputs.workload import Workload
from simulator.queueing import asks_no_more
from simulator.replay_result import Ints, JobState, ReplayResult
from simulator.replaykernel import Jobs, Queue, Trail, replay_all


def compiled_replay(
    workload: Workload, cluster: CoreCluster, *, backfill: bool = False, horizon_s: float = math.inf
) -> ReplayResult:
    """Return what `simulator.engine.replay` returns, and leave `cluster` as it is."""
    twin = cluster.copy()
    # On the copy, as the plain replay does on its own: trials count as events, and `random` draws by those.
    never = classes_that_never_fit(workload.demands, twin)
    usage, fabric, policy = twin.usage, twin.fabric, twin.policy
    kinds = max(1, len(workload.demands))
    kind = np.where(np.isin(workload.classes, sorted(never)), NONE, workload.classes)
    jobs = Jobs(
        submit_s=workload.submit_s,
        duration_s=workload.duration_s,
        kind=kind,
        classes=np.array([usage.classes.index(demand) for demand in workload.demands] or [0], dtype=np.int64),
        harder=_harder(workload.demands) if backfill else np.ones((kinds, kinds), dtype=np.int64),
        strict=not backfill,
    )
    memory = Memory.of_rows(policy, kinds)
    units = max((len(demand.requests) for demand in workload.demands), default=0)
    trail = _trail(len(workload), max(1, units))
    head, tail, behind, only = (np.full(size, NONE, dtype=np.int64) for size in (kinds, kinds, len(workload), kinds))
    queue = Queue(head=head, tail=tail, next=behind, refused=_zeros(kinds), only=only)
    arrived, instants = replay_all(
        fabric.arrays,
        usage.arrays,
        policy.arrays,
        usage.classes.arrays,
        jobs,
        horizon_s,
        memory.cache,
        memory.local,
        memory.choice,
        queue,
        trail,
    )
    last = float(trail.times_s[instants - 1]) if instants else 0.0
    end_s = horizon_s if horizon_s < math.inf else last
    return ReplayResult(
        workload=workload,
        capacity_milli=cluster.capacity_milli,
        end_s=end_s,
        state=_states(trail, jobs, arrived, min(end_s, last)),
        start_s=trail.start_s,
        taken_milli=trail.taken_milli,
        times_s=trail.times_s[:instants].copy(),
        allocated_milli=trail.allocated_milli[:instants].copy(),
        queued=trail.queued[:instants].copy(),
    )


def _states(trail: Trail, jobs: Jobs, arrived: int, last_s: float) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """[J] the state of each job after the last instant."""
    started = ~np.isnan(trail.start_s)
    state = np.full(len(started), JobState.QUEUED, dtype=np.int8)
    state[started] = JobState.RUNNING
    state[started & (trail.start_s + jobs.duration_s <= last_s)] = JobState.FINISHED
    state[jobs.kind == NONE] = JobState.NEVER_FITS
    state[arrived:] = JobState.NOT_SUBMITTED
    return state


def _harder(demands: tuple[Demand, ...]) -> Ints:
    """[K, K] 1 where the first demand surely fits wherever the second does."""
    return np.array([[asks_no_more(one, other) for other in demands] for one in demands], dtype=np.int64).reshape(
        max(1, len(demands)), -1
    )


def _trail(jobs: int, units: int) -> Trail:
    rows = ((NONE, jobs), (0, jobs), *((NONE, (jobs, units)),) * 3)
    node, taken, gpus, profile, first = (np.full(shape, value, dtype=np.int64) for value, shape in rows)
    return Trail(
        start_s=np.full(jobs, np.nan),
        node=node,
        taken_milli=taken,
        gpus=gpus,
        profile=profile,
        first=first,
        times_s=np.zeros(2 * jobs + 1),
        allocated_milli=_zeros(2 * jobs + 1),
        queued=_zeros(2 * jobs + 1),
    )


def _zeros(size: int) -> Ints:
    return np.zeros(size, dtype=np.int64)
