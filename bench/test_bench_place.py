"""How long decisions take on the openb cluster (1,213 nodes, 6,212 GPUs). Each result is asserted.

T1: a fill run of 10,866 arrivals per policy. T2: one decision on the cluster filled to half, for a demand class
seen before (median and 99th percentile over many pods in `extra_info`, microseconds) and for the first time. Also
apply and release, and packing the cluster.
"""

from __future__ import annotations

import time
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from packing.fabric import Fabric
from packing.mix import DemandMix
from packing.model import ClaimId, Demand, Node, Snapshot
from packing.pack import pack
from packing.place import place
from packing.policy import POLICIES, Policy, make_policy
from packing.sequence import place_sequence
from packing.usage import Usage
from simulator.inputs.arrivals import read_arrivals, with_ranks
from simulator.inputs.openb import read_nodes, read_pods

TRACE = Path(__file__).parents[1] / "examples" / "openb"
HALF_FULL = 4000
"""Arrivals after which about half of the GPUs are in use."""
PROBES = 2000

ARRIVALS = 10_866
PLACED = {
    "random": 8_172,
    "first-fit": 8_277,
    "best-fit": 8_190,
    "worst-fit": 8_359,
    "dot-product": 7_992,
    "gpu-packing": 8_072,
    "gpu-clustering": 8_069,
    "fgd": 8_334,
    "upstream": 8_625,
    "spread": 8_073,
    "dovetail-wait": 8_400,
    "dovetail": 8_419,
}
"""Pods placed of `ARRIVALS`; 8,334 is what the original simulator of FGD places."""


@cache
def openb() -> tuple[tuple[Node, ...], DemandMix, list[Demand]]:
    nodes = read_nodes(TRACE / "openb_node_list_gpu_node.csv.gz")
    pods = read_pods(TRACE / "openb_pod_list_default.csv.gz")
    arrivals = read_arrivals(TRACE / "openb_arrivals_seeds42-51.npz", "default", 42, pods=len(pods), nodes=len(nodes))
    ranked = tuple(with_ranks(nodes, arrivals.node_rank))
    return ranked, DemandMix.from_demands(pods.counts()), [pods.demand(int(row)) for row in arrivals.pods]


def half_full(policy_name: str) -> tuple[Fabric, Usage, Policy]:
    """Return the cluster after `HALF_FULL` arrivals."""
    nodes, mix, arrivals = openb()
    fabric, usage = pack(Snapshot(nodes=nodes))
    policy = make_policy(policy_name, mix, fabric)
    for number, demand in enumerate(arrivals[:HALF_FULL]):
        placement = place(fabric, usage, demand, policy).placement
        assert placement is not None
        usage.apply(ClaimId(f"pod-{number}"), demand, placement)
    return fabric, usage, policy


@pytest.mark.benchmark(group="T1 fill run")
@pytest.mark.parametrize("name", POLICIES)
def test_fill_run(benchmark: BenchmarkFixture, name: str) -> None:
    nodes, mix, arrivals = openb()
    kinds = list(dict.fromkeys(arrivals))
    index = {demand: at for at, demand in enumerate(kinds)}
    order = np.array([index[demand] for demand in arrivals], dtype=np.int64)
    fabric, _ = pack(Snapshot(nodes=nodes))
    policy = make_policy(name, mix, fabric, seed=42)

    def setup():
        return (fabric, Usage(fabric), kinds, order, policy), {}

    trace = benchmark.pedantic(place_sequence, setup=setup, rounds=3, warmup_rounds=1)
    assert len(order) == ARRIVALS
    assert int(np.count_nonzero(trace.node >= 0)) == PLACED[name]


def quantiles(benchmark: BenchmarkFixture, seconds: list[float]) -> None:
    """Keep median and 99th percentile in microseconds."""
    for name, share in (("p50_us", 50), ("p99_us", 99)):
        benchmark.extra_info[name] = round(float(np.percentile(seconds, share)) * 1e6, 1)


@pytest.mark.benchmark(group="T2 one decision")
@pytest.mark.parametrize("name", ["dovetail", "fgd", "best-fit"])
def test_decision_of_a_known_class(benchmark: BenchmarkFixture, name: str) -> None:
    """Pods keep coming on a half-full cluster: every decision re-scores what the one before changed."""
    fabric, usage, policy = half_full(name)
    arrivals = openb()[2][HALF_FULL : HALF_FULL + PROBES]
    names = count()

    def stream() -> list[float]:
        seconds = []
        held = []
        for demand in arrivals:
            start = time.perf_counter()
            placement = place(fabric, usage, demand, policy).placement
            seconds.append(time.perf_counter() - start)
            assert placement is not None
            held.append(ClaimId(f"new-{next(names)}"))
            usage.apply(held[-1], demand, placement)
        for claim in held:
            usage.release(claim)
        return seconds

    stream()  # every class is seen once
    quantiles(benchmark, benchmark.pedantic(stream, rounds=3))


@pytest.mark.benchmark(group="T2 one decision")
@pytest.mark.parametrize("name", ["dovetail", "fgd", "best-fit"])
def test_decision_of_a_new_class(benchmark: BenchmarkFixture, name: str) -> None:
    """A class that was never asked for scores all nodes; what is decided is what a usage that knows it decides."""
    fabric, usage, policy = half_full(name)
    first, *probes = list(dict.fromkeys(openb()[2]))
    known = [place(fabric, usage, demand, policy) for demand in probes]

    def fresh() -> list[float]:
        seconds = []
        twin = usage.copy()
        place(fabric, twin, first, policy)
        for demand, expected in zip(probes, known, strict=True):
            start = time.perf_counter()
            decision = place(fabric, twin, demand, policy)
            seconds.append(time.perf_counter() - start)
            assert decision == expected
        return seconds

    quantiles(benchmark, benchmark.pedantic(fresh, rounds=5, warmup_rounds=1))


@pytest.mark.benchmark(group="apply and release")
def test_apply_and_release(benchmark: BenchmarkFixture) -> None:
    fabric, usage, policy = half_full("dovetail")
    demand = openb()[2][HALF_FULL]
    placement = place(fabric, usage, demand, policy).placement
    assert placement is not None
    before = usage.arrays.gpus.copy()

    def both() -> None:
        usage.apply(ClaimId("new"), demand, placement)
        usage.release(ClaimId("new"))

    benchmark(both)
    assert np.array_equal(usage.arrays.gpus, before)


@pytest.mark.benchmark(group="pack")
@pytest.mark.parametrize("claims", [0, HALF_FULL])
def test_pack(benchmark: BenchmarkFixture, claims: int) -> None:
    """The whole cluster, empty and with every claim of a half-full one applied."""
    nodes, mix, arrivals = openb()
    fabric, usage = pack(Snapshot(nodes=nodes))
    policy = make_policy("dovetail", mix, fabric)
    running = []
    for number, demand in enumerate(arrivals[:claims]):
        placement = place(fabric, usage, demand, policy).placement
        assert placement is not None
        running.append((ClaimId(f"pod-{number}"), demand, placement))
        usage.apply(*running[-1])
    snapshot = Snapshot(nodes=nodes, running=tuple(running))
    packed, again = benchmark.pedantic(pack, args=(snapshot,), rounds=5, warmup_rounds=1)
    assert packed.gpu_count == 6212
    assert np.array_equal(again.arrays.gpus, usage.arrays.gpus)
