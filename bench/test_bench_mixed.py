"""How long a run of suite X1 takes on the mixed pool (50 nodes of 8 GPUs), compiled and as `place()` and `Usage`."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.quality.churn import churn
from simulator.quality.mixeddemand import all_asks, mixed_arrivals
from simulator.quality.mixedpool import ProductPool

MIX, LOAD, SEED, LIFETIMES = "uniform", 1.0, 1, 6.0
PLACED = {"fgd": 3_437, "best-fit": 3_445}
"""Jobs placed: a faster run that places otherwise is no faster run. The default policy's constants may move."""


@pytest.mark.parametrize("policy", PLACED)
def test_a_compiled_run(benchmark: BenchmarkFixture, policy: str) -> None:
    pool, arrivals = ProductPool(all_asks(MIX), policy), mixed_arrivals(SEED, MIX, LOAD, LIFETIMES)
    pool.run(arrivals)
    node, _ = benchmark(pool.run, arrivals)
    assert int((node >= 0).sum()) == PLACED[policy]


@pytest.mark.parametrize("policy", PLACED)
def test_the_same_by_place_and_usage(benchmark: BenchmarkFixture, policy: str) -> None:
    asks, arrivals = all_asks(MIX), mixed_arrivals(SEED, MIX, LOAD, LIFETIMES)
    spots = benchmark(lambda: churn(ProductPool(asks, policy), arrivals))
    assert len(spots) - spots.count(None) == PLACED[policy]
