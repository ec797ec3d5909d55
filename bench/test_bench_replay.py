"""How long a replay with a queue takes (100 openb nodes, 10,000 jobs of suite R), compiled and as the plain engine."""

from __future__ import annotations

from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.compiled import compiled_replay
from simulator.core import CoreCluster
from simulator.engine import replay
from simulator.inputs.workload import Workload, from_openb
from simulator.quality import openbdata
from simulator.quality.queueload import queue_jobs
from simulator.replay_result import ReplayResult

NODES, JOBS, LOAD, SEED = 100, 10_000, 1.1, 1
FOUND = {"fgd": (1_797_284, 319), "best-fit": (2_479_046, 374)}
"""Seconds that all jobs wait together, the longest queue: a faster run that starts jobs otherwise is no faster run."""


@cache
def trace() -> Workload:
    return from_openb(openbdata.pods("default"))


def cluster_and_jobs(policy: str) -> tuple[CoreCluster, Workload]:
    nodes = openbdata.nodes()[:NODES]
    jobs, _ = queue_jobs(trace(), sum(len(node.shape.gpus) for node in nodes), LOAD, SEED, JOBS)
    return CoreCluster(nodes, trace().counts(), policy), jobs


def figures(result: ReplayResult) -> tuple[int, int]:
    return round(float(result.waits_s().sum())), int(result.queued.max())


@pytest.mark.parametrize("policy", FOUND)
def test_a_compiled_replay(benchmark: BenchmarkFixture, policy: str) -> None:
    cluster, jobs = cluster_and_jobs(policy)
    compiled_replay(jobs, cluster, backfill=True)
    result = benchmark(compiled_replay, jobs, cluster, backfill=True)
    assert figures(result) == FOUND[policy]


@pytest.mark.parametrize("policy", FOUND)
def test_the_same_by_the_plain_engine(benchmark: BenchmarkFixture, policy: str) -> None:
    cluster, jobs = cluster_and_jobs(policy)
    result = benchmark.pedantic(
        lambda: replay(jobs, cluster.copy(), backfill=True), rounds=3, iterations=1, warmup_rounds=0
    )
    assert figures(result) == FOUND[policy]
