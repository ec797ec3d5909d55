"""The jobs of suite R and how a run is judged: openb pods come as a Poisson process and wait in a queue."""

from __future__ import annotations

import numpy as np

from packing.model import WHOLE_MILLI
from simulator.inputs.openb import gpu_milli
from simulator.inputs.workload import Workload
from simulator.replay_result import Ints, ReplayResult, Spread

HOUR_S = 3600.0
SPAN_S = 48 * HOUR_S
DROPPED_SHARE = 0.25
"""Of the span, at the start, that does not count: the first 12 of 48 hours, when the cluster is still filling."""
LONGEST_S = 6 * HOUR_S
"""Longer jobs run this long: else a few of them would decide over a span of two days."""
SIZES_MILLI = {"cpu": (0, 0), "share": (1, 999), "1": (1000, 1000), "2_4": (2000, 4000), "8": (8000, 8000)}
"""Sizes that waits are told of, thousandths of a GPU from and to."""


def queue_jobs(trace: Workload, gpus: int, load: float, seed: int, arrivals: int = 0) -> tuple[Workload, float]:
    """Return jobs like those of `trace` that offer `load` of `gpus` GPUs, and the span they come in, in seconds.

    Drawn from `default_rng(seed)`: the number of jobs (Poisson), their times (uniform over the span, then sorted), the
    job of the trace that each repeats. With `arrivals` the number is given, and the span is what they take on average.
    """
    durations_s = np.minimum(trace.duration_s, LONGEST_S)
    rate = load * gpus / float(np.mean(_milli(trace) / WHOLE_MILLI * durations_s))
    span_s = arrivals / rate if arrivals else SPAN_S
    rng = np.random.default_rng(seed)
    count = arrivals or int(rng.poisson(rate * span_s))
    times_s = np.sort(rng.uniform(0.0, span_s, count))
    rows = rng.integers(len(trace), size=count)
    jobs = Workload(
        source=trace.source,
        names=("",) * count,
        submit_s=times_s,
        duration_s=durations_s[rows],
        classes=trace.classes[rows],
        demands=trace.demands,
    )
    return jobs, span_s


def allocated_pct(result: ReplayResult, span_s: float) -> float:
    """Return the mean share of GPUs allocated in the part of the span that counts, in percent."""
    edges_s = np.clip(np.append(result.times_s, max(result.end_s, span_s)), DROPPED_SHARE * span_s, span_s)
    area = float(np.sum(result.allocated_milli * np.diff(edges_s)))
    return 100 * area / ((1 - DROPPED_SHARE) * span_s * result.capacity_milli)


def judge_waits(result: ReplayResult, span_s: float) -> dict[str, float]:
    """Return waits (s) and slowdown of the jobs that came in the part of the span that counts; all must have started.

    The slowdown is the bounded one of `ReplayResult.slowdowns`; `wait_<size>_s` are means by size of job.
    """
    counts = result.workload.submit_s >= DROPPED_SHARE * span_s
    waits_s, milli = result.waits_s()[counts], _milli(result.workload)[counts]
    assert not np.isnan(waits_s).any(), "a job still waits, and its wait would be left out"
    spread = Spread.of(waits_s)
    figures = {
        "wait_s": spread.mean,
        "wait_p90_s": spread.p90,
        "wait_p99_s": spread.p99,
        "slowdown": float(np.mean(result.slowdowns()[counts])),
    }
    for size, (low, high) in SIZES_MILLI.items():
        figures[f"wait_{size}_s"] = Spread.of(waits_s[(milli >= low) & (milli <= high)]).mean
    return figures


def _milli(jobs: Workload) -> Ints:
    """[J] thousandths of GPUs each job asks for."""
    milli: Ints = np.array([gpu_milli(demand) for demand in jobs.demands], dtype=np.int64)[jobs.classes]
    return milli
