"""Decisions on 1,000 to 100,000 nodes in steady state (`dovetail bench scale`). Each result is asserted.

Median and 99th percentile of place, apply and release are in `extra_info` (microseconds: processor time, and `wall`).
A decision of a class that was seen before must not cost a pass over the nodes: no time is asserted, but that placements
repeat, and that what is remembered changes none (`SteadyCluster.first_decisions`).
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.scale.steady import ScaleRun, run_scale

DECISIONS = 4000
MOST_BYTES_PER_GPU = 1024


@pytest.mark.benchmark(group="T3 scale")
@pytest.mark.parametrize("nodes", [1000, 10_000, 100_000])
def test_steady_state(benchmark: BenchmarkFixture, nodes: int) -> None:
    run: ScaleRun = benchmark.pedantic(run_scale, args=(nodes,), kwargs={"decisions": DECISIONS}, rounds=1)
    for name in ("place", "apply", "release", "first"):
        timing = getattr(run, name)
        benchmark.extra_info[f"{name}_p50_us"] = timing.cpu_p50_us
        benchmark.extra_info[f"{name}_p99_us"] = timing.cpu_p99_us
        benchmark.extra_info[f"{name}_p99_wall_us"] = timing.p99_us
    assert run.gpus == 8 * nodes
    assert run.decisions == DECISIONS
    assert 84.9 < run.occupied_pct <= 85.0
    assert run.refused <= DECISIONS // 100, "at this occupancy there is room for nearly everything"
    arrays = run.fabric_bytes_per_gpu + run.usage_bytes_per_gpu + run.scores_bytes_per_gpu
    assert arrays < MOST_BYTES_PER_GPU / 4
