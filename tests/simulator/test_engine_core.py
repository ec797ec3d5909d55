"""The replay on the real core: the same laws hold, and what a job takes is counted once."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from packing.model import (
    ClaimId,
    Demand,
    Devices,
    GpuModel,
    MigMode,
    Node,
    NodeName,
    NodeShape,
    PartitionRequest,
    Placement,
    ShareRequest,
    Sharing,
    Snapshot,
    WholeRequest,
)
from packing.pack import pack
from simulator.core import CoreCluster
from simulator.engine import replay
from simulator.inputs.cluster import read_cluster
from simulator.inputs.openb import read_nodes, read_pods
from simulator.inputs.workload import from_openb, read_workload
from simulator.queueing import asks_no_more
from simulator.replay_result import JobState
from topology.catalog import mig_geometry
from topology.quality import flat_quality

EXAMPLES = Path(__file__).parents[2] / "examples"
OPENB = EXAMPLES / "openb"
POLICIES = ["dovetail", "fgd", "first-fit", "random"]


@pytest.fixture(scope="module")
def example():
    return read_cluster(EXAMPLES / "cluster.yaml"), read_workload(EXAMPLES / "workload.csv")


def run(example, *, policy="dovetail", seed=1, **options):
    cluster, work = example
    return replay(work, CoreCluster(cluster.nodes, work.counts(), policy, seed), **options)


def test_the_example_day_runs_and_only_the_service_is_left(example):
    result = run(example, backfill=True)
    summary = result.summary()
    assert summary.never_fits == summary.queued == 0
    assert summary.running == 3
    assert all(example[1].names[job].startswith("service") for job in np.flatnonzero(result.state == JobState.RUNNING))
    assert 0 < summary.utilisation_pct <= 100
    assert np.all(result.allocated_milli <= example[0].capacity_milli)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("backfill", [False, True])
def test_the_same_seed_gives_the_same_run(example, policy, backfill):
    runs = [run(example, policy=policy, backfill=backfill) for _ in range(2)]
    assert len({result.start_s.tobytes() for result in runs}) == 1
    assert len({result.allocated_milli.tobytes() for result in runs}) == 1


@pytest.mark.parametrize("horizon_s", range(30_000, 90_000, 10_000))
def test_with_backfill_no_job_waits_while_place_would_serve_it(example, horizon_s):
    cluster, work = example
    side = CoreCluster(cluster.nodes, work.counts())
    result = replay(work, side, backfill=True, horizon_s=horizon_s)
    waiting = {int(work.classes[job]) for job in np.flatnonzero(result.state == JobState.QUEUED)}
    assert waiting, "the example must be busy for this to prove something"
    for demand_class in waiting:
        assert side.try_place(work.demands[demand_class], "probe") is None


def test_what_asks_no_more_fits_wherever_the_other_fits_on_the_core(example):
    cluster, work = example
    extra = (
        Demand(cpu_milli=2000, memory_mib=8192),
        Demand(requests=(WholeRequest(count=2),)),
        Demand(requests=(ShareRequest(compute_milli=100),)),
        Demand(requests=(ShareRequest(compute_milli=900),)),
        Demand(requests=(ShareRequest(compute_milli=100, sharing=Sharing.MPS),)),
        Demand(requests=(PartitionRequest(min_memory_mib=5000),)),
    )
    demands = tuple(dict.fromkeys((*work.demands, *extra)))
    pairs = [(one, other) for one, other in itertools.permutations(demands, 2) if asks_no_more(one, other)]
    assert len(pairs) > 100
    for horizon_s in range(10_000, 100_000, 15_000):
        side = CoreCluster(cluster.nodes, work.counts())
        replay(work, side, backfill=True, horizon_s=horizon_s)
        fits = {}
        for number, demand in enumerate(demands):
            claim = f"probe-{number}"
            fits[demand] = side.try_place(demand, claim) is not None
            if fits[demand]:
                side.release(claim)
        assert [pair for pair in pairs if fits[pair[1]] and not fits[pair[0]]] == []


def test_the_openb_trace_replays_on_its_own_cluster_nearly_without_waiting():
    work = from_openb(read_pods(OPENB / "openb_pod_list_default.csv.gz"))
    nodes = read_nodes(OPENB / "openb_node_list_gpu_node.csv.gz")
    result = replay(work, CoreCluster(nodes, work.counts()), backfill=True)
    summary = result.summary()
    assert summary.finished == summary.submitted == 8152
    assert summary.wait_s.p90 == 0
    assert result.allocated_milli[-1] == 0


A100 = mig_geometry("a100-40gb")
GPU = GpuModel(product="A100", memory_mib=40_000, mig=A100)
SHAPE = NodeShape("three", (GPU,) * 3, flat_quality(3))


@pytest.mark.parametrize(
    ("request_", "devices", "milli"),
    [
        (WholeRequest(count=3), Devices(gpus=(0, 1, 2)), 3000),
        (ShareRequest(compute_milli=250, memory_mib=5_000), Devices(gpus=(0,)), 250),
        (ShareRequest(compute_milli=250, memory_mib=30_000), Devices(gpus=(0,)), 750),
        (ShareRequest(memory_mib=10_000), Devices(gpus=(0,)), 250),
        (PartitionRequest(profile="3g.20gb"), Devices(gpus=(0,), profile="3g.20gb", start=0), 500),
        (PartitionRequest(min_sms=1), Devices(gpus=(0,), profile="1g.5gb", start=0), 125),
    ],
)
def test_what_a_request_takes_is_its_larger_dimension_in_thousandths_of_a_gpu(request_, devices, milli):
    node = Node(name=NodeName("n"), shape=SHAPE, cpu_milli=0, memory_mib=0, mig_mode=MigMode.DYNAMIC)
    _, usage = pack(Snapshot(nodes=(node,)))
    usage.apply(ClaimId("c"), Demand(requests=(request_,)), Placement(node=node.name, devices=(devices,)))
    assert usage.taken_milli(ClaimId("c")) == milli
