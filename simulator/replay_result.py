"""What a replay yields: when every job started, how full the cluster was, how long the queue was, and figures of these.

Waits are told for jobs that started. Jobs that still wait at the end are counted, not averaged: a mean that leaves them
out looks better than the cluster is, so read it together with `queued`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from packing.model import WHOLE_MILLI
from simulator.inputs.workload import Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLOWDOWN_FLOOR_S = 10.0
"""Shorter jobs count as this long in the slowdown, else a one-second job that waits a minute outweighs all others.

The usual bound of the scheduling literature: D. Feitelson, "Metrics for parallel job scheduling", 2001.
"""


class JobState(IntEnum):
    """Where a job stands at the end of a replay."""

    NOT_SUBMITTED = 0
    QUEUED = 1
    RUNNING = 2
    FINISHED = 3
    NEVER_FITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and percentiles of some values (each percentile is one of them); all 0 where there are none."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Spread:
        """Return the spread of `values`."""
        if not values.size:
            return cls()
        p50, p90, p99 = np.percentile(values, (50, 90, 99), method="inverted_cdf").tolist()
        return cls(mean=float(values.mean()), p50=p50, p90=p90, p99=p99, max=float(values.max()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """The figures of a replay. Counts are jobs; `submitted` = finished + running + queued + never_fits.

    `wait_s` and `slowdown` are over the jobs that started. `utilisation_pct` is the GPU time allocated, in percent of
    capacity, from the first submission to the end; `queue_length` its mean over that time.
    """

    submitted: int
    finished: int
    running: int
    queued: int
    never_fits: int
    wait_s: Spread
    slowdown: Spread
    utilisation_pct: float
    queue_length: float
    longest_queue: int
    gpu_hours: float
    span_s: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReplayResult:
    """A replay in full. Per job: `state` (JobState), `start_s` (NaN: never started), `taken_milli` (GPU thousandths).

    Step curves: from `times_s[i]` on, `allocated_milli[i]` are in use and `queued[i]` jobs wait. `end_s` is the
    horizon, or the last event where none was set.
    """

    workload: Workload
    capacity_milli: int
    end_s: float
    state: NDArray[np.int8]
    start_s: Floats
    taken_milli: Ints
    times_s: Floats
    allocated_milli: Ints
    queued: Ints

    def count(self, state: JobState) -> int:
        """Return how many jobs are in `state`."""
        return int(np.count_nonzero(self.state == state))

    def waits_s(self) -> Floats:
        """Return how long each job waited before it started; NaN where it did not."""
        waits: Floats = self.start_s - self.workload.submit_s
        return waits

    def slowdowns(self) -> Floats:
        """Return (wait + duration) / duration per job, at least 1; NaN where it did not start.

        The divisor is at least `SLOWDOWN_FLOOR_S`. A job that never ends has slowdown 1.
        """
        duration = self.workload.duration_s
        endless = np.isinf(duration)
        safe = np.where(endless, SLOWDOWN_FLOOR_S, duration)
        ratio = np.maximum(1.0, (self.waits_s() + safe) / np.maximum(safe, SLOWDOWN_FLOOR_S))
        slowdown: Floats = np.where(endless & ~np.isnan(self.start_s), 1.0, ratio)
        return slowdown

    def gpu_seconds(self) -> float:
        """Return the GPU time allocated up to the end: the area under the utilisation curve."""
        return float(np.sum(self.allocated_milli * self._lengths_s())) / WHOLE_MILLI

    def sampled(self, points: int) -> tuple[Floats, Floats, Floats]:
        """Return `points` + 1 time edges (s) and, per interval, mean utilisation (0 to 1) and mean queue length."""
        assert points > 0
        start = float(self.times_s[0]) if len(self.times_s) else 0.0
        edges = np.linspace(start, max(self.end_s, start), points + 1)
        used = self._means(self.allocated_milli, edges) / max(self.capacity_milli, 1)
        return edges, used, self._means(self.queued, edges)

    def summary(self) -> ReplaySummary:
        """Return the figures of this replay."""
        started = ~np.isnan(self.start_s)
        span_s = float(np.sum(self._lengths_s()))
        gpu_seconds = self.gpu_seconds()
        possible = span_s * self.capacity_milli / WHOLE_MILLI
        return ReplaySummary(
            submitted=len(self.state) - self.count(JobState.NOT_SUBMITTED),
            finished=self.count(JobState.FINISHED),
            running=self.count(JobState.RUNNING),
            queued=self.count(JobState.QUEUED),
            never_fits=self.count(JobState.NEVER_FITS),
            wait_s=Spread.of(self.waits_s()[started]),
            slowdown=Spread.of(self.slowdowns()[started]),
            utilisation_pct=100 * gpu_seconds / possible if possible else 0.0,
            queue_length=float(np.sum(self.queued * self._lengths_s())) / span_s if span_s else 0.0,
            longest_queue=int(self.queued.max(initial=0)),
            gpu_hours=gpu_seconds / 3600,
            span_s=span_s,
        )

    def _lengths_s(self) -> Floats:
        lengths: Floats = (
            np.diff(self.times_s, append=max(self.end_s, self.times_s[-1])) if len(self.times_s) else (np.zeros(0))
        )
        return lengths

    def _means(self, values: Ints, edges: Floats) -> Floats:
        """Return the mean of a step curve between neighbouring edges: differences of its integral."""
        if not len(values):
            return np.zeros(len(edges) - 1)
        area = np.concatenate(([0.0], np.cumsum(values * self._lengths_s())))
        knots = np.append(self.times_s, max(self.end_s, self.times_s[-1]))
        widths = np.diff(edges)
        means: Floats = np.divide(
            np.diff(np.interp(edges, knots, area)), widths, out=np.zeros(len(widths)), where=widths > 0
        )
        return means


@dataclass(slots=True)
class Steps:
    """Records step curves as they grow; of several values at one instant the last one counts."""

    times_s: list[float] = field(default_factory=list)
    allocated_milli: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)

    def add(self, now_s: float, allocated_milli: int, queued: int) -> None:
        """From `now_s` on, this much is allocated and so many wait."""
        if self.times_s and self.times_s[-1] == now_s:
            self.allocated_milli[-1], self.queued[-1] = allocated_milli, queued
            return
        self.times_s.append(now_s)
        self.allocated_milli.append(allocated_milli)
        self.queued.append(queued)

    def arrays(self) -> tuple[Floats, Ints, Ints]:
        """Return times (s), allocated thousandths and queue lengths."""
        return (
            np.array(self.times_s, dtype=np.float64),
            np.array(self.allocated_milli, dtype=np.int64),
            np.array(self.queued, dtype=np.int64),
        )
