"""Replay: jobs arrive, wait, run and leave, on a virtual clock. Nothing here is random; same input, same result.

At one instant departures come first, in order of start; then arrivals, in order of submission; then the queue starts
what fits. A job that does not fit even the empty cluster is set aside when it arrives and blocks nobody.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Protocol

import numpy as np

from packing.model import ClaimId, Demand
from simulator.inputs.workload import Workload
from simulator.queueing import BackfillQueue, FifoQueue, JobQueue
from simulator.replay_result import JobState, ReplayResult, Steps


class ClusterSide(Protocol):
    """The cluster as a replay sees it. It refuses only what does not fit, and a release restores what was taken."""

    @property
    def capacity_milli(self) -> int:
        """GPU capacity in thousandths of a GPU."""

    def try_place(self, demand: Demand, claim: ClaimId) -> int | None:
        """Place `demand` under `claim` and return the thousandths of GPUs it took; None where it does not fit."""

    def release(self, claim: ClaimId) -> None:
        """Give back what `claim` holds."""


def replay(
    workload: Workload, cluster: ClusterSide, *, backfill: bool = False, horizon_s: float = math.inf
) -> ReplayResult:
    """Run `workload` on an empty `cluster` up to and including `horizon_s`, in strict order or with `backfill`.

    Jobs that run or wait at the horizon stay so in the result. The cluster is left as the run leaves it.
    """
    run = _Run(workload, cluster, BackfillQueue(workload.demands) if backfill else FifoQueue())
    while (now := run.next_instant()) <= horizon_s and now < math.inf:
        run.depart(now)
        run.arrive(now)
        run.start_what_fits(now)
        run.record(now)
    return run.result(horizon_s)


def classes_that_never_fit(demands: tuple[Demand, ...], cluster: ClusterSide) -> set[int]:
    """Return which of `demands` do not fit the cluster as it is now."""
    never = set()
    for number, demand in enumerate(demands):
        trial = ClaimId(f"trial-{number}")
        if cluster.try_place(demand, trial) is None:
            never.add(number)
        else:
            cluster.release(trial)
    return never


class _Run:
    """The mutable state of one replay. Plain lists: one number at a time is what they are quickest at."""

    def __init__(self, workload: Workload, cluster: ClusterSide, queue: JobQueue) -> None:
        self._workload = workload
        self._cluster = cluster
        self._queue = queue
        self._never = classes_that_never_fit(workload.demands, cluster)
        self._submit: list[float] = workload.submit_s.tolist()
        self._duration: list[float] = workload.duration_s.tolist()
        self._class: list[int] = workload.classes.tolist()
        jobs = len(workload)
        self._state = [JobState.NOT_SUBMITTED] * jobs
        self._start = [math.nan] * jobs
        self._taken = [0] * jobs
        self._arrived = 0
        self._started = 0
        self._now = 0.0
        self._departures: list[tuple[float, int, int]] = []  # (time, running number of the start, job)
        self._allocated_milli = 0
        self._steps = Steps()

    def next_instant(self) -> float:
        """Return when the next event is due, in seconds; infinite when none is left."""
        arrival = self._submit[self._arrived] if self._arrived < len(self._submit) else math.inf
        return min(arrival, self._departures[0][0]) if self._departures else arrival

    def depart(self, now: float) -> None:
        departures = self._departures
        released = False
        while departures and departures[0][0] <= now:
            _, _, job = heappop(departures)
            self._cluster.release(_claim(job))
            self._allocated_milli -= self._taken[job]
            self._state[job] = JobState.FINISHED
            released = True
        if released:
            self._queue.released()

    def arrive(self, now: float) -> None:
        while self._arrived < len(self._submit) and self._submit[self._arrived] <= now:
            job = self._arrived
            self._arrived += 1
            if self._class[job] in self._never:
                self._state[job] = JobState.NEVER_FITS
            else:
                self._state[job] = JobState.QUEUED
                self._queue.push(job, self._class[job])

    def start_what_fits(self, now: float) -> None:
        self._now = now
        self._queue.drain(self._try_start)

    def _try_start(self, job: int) -> bool:
        taken = self._cluster.try_place(self._workload.demands[self._class[job]], _claim(job))
        if taken is None:
            return False
        self._start[job] = self._now
        self._taken[job] = taken
        self._allocated_milli += taken
        self._state[job] = JobState.RUNNING
        ends = self._now + self._duration[job]
        if ends < math.inf:
            heappush(self._departures, (ends, self._started, job))
        self._started += 1
        return True

    def record(self, now: float) -> None:
        self._steps.add(now, self._allocated_milli, len(self._queue))

    def result(self, horizon_s: float) -> ReplayResult:
        times_s, allocated_milli, queued = self._steps.arrays()
        last = float(times_s[-1]) if len(times_s) else 0.0
        return ReplayResult(
            workload=self._workload,
            capacity_milli=self._cluster.capacity_milli,
            end_s=horizon_s if horizon_s < math.inf else last,
            state=np.array(self._state, dtype=np.int8),
            start_s=np.array(self._start, dtype=np.float64),
            taken_milli=np.array(self._taken, dtype=np.int64),
            times_s=times_s,
            allocated_milli=allocated_milli,
            queued=queued,
        )


def _claim(job: int) -> ClaimId:
    return ClaimId(f"job-{job}")
