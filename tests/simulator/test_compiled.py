"""The compiled replay starts every job when the plain one does, and leaves the same curves."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.kernels.arrays import NONE
from packing.model import Demand, GpuModel, Node, NodeName, NodeShape, PartitionRequest, ShareRequest, WholeRequest
from packing.policy import POLICIES
from simulator.compiled import compiled_replay
from simulator.core import CoreCluster
from simulator.engine import replay
from simulator.inputs.cluster import read_cluster
from simulator.inputs.openb import read_nodes, read_pods
from simulator.inputs.workload import Workload, from_openb, read_workload
from simulator.quality.queueload import queue_jobs
from simulator.replay_result import ReplayResult
from simulator.replaykernel import Queue, oldest, push
from topology.quality import flat_quality

EXAMPLES = Path(__file__).parents[2] / "examples"

DEMANDS = (
    Demand(cpu_milli=1000),
    Demand(cpu_milli=1000, requests=(ShareRequest(compute_milli=300),)),
    Demand(cpu_milli=3000, requests=(ShareRequest(compute_milli=700),)),
    Demand(cpu_milli=1000, requests=(WholeRequest(count=1),)),
    Demand(cpu_milli=2000, requests=(WholeRequest(count=2),)),
    Demand(cpu_milli=2000, requests=(WholeRequest(count=1), ShareRequest(compute_milli=500))),
    Demand(requests=(PartitionRequest(profile="1g.10gb"),)),
    Demand(cpu_milli=2000, requests=(WholeRequest(count=4),)),
)
"""The last two never fit the small cluster."""


def small_nodes(count: int) -> tuple[Node, ...]:
    shape = NodeShape("two", (GpuModel(product="X"),) * 2, flat_quality(2))
    return tuple(
        Node(name=NodeName(f"n{i}"), shape=shape, cpu_milli=4000 + 1000 * i, memory_mib=1000) for i in range(count)
    )


def same(one: ReplayResult, other: ReplayResult) -> None:
    assert one.start_s.tobytes() == other.start_s.tobytes()
    assert one.state.tolist() == other.state.tolist()
    assert one.taken_milli.tolist() == other.taken_milli.tolist()
    assert one.times_s.tolist() == other.times_s.tolist()
    assert one.allocated_milli.tolist() == other.allocated_milli.tolist()
    assert one.queued.tolist() == other.queued.tolist()
    assert (one.end_s, one.capacity_milli) == (other.end_s, other.capacity_milli)


jobs = st.lists(
    st.tuples(
        st.integers(0, 12).map(float),
        st.sampled_from((0.0, 1.0, 2.0, 5.0, math.inf)),
        st.integers(0, len(DEMANDS) - 1),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rows=jobs, nodes=st.integers(1, 3), backfill=st.booleans(), horizon_s=st.sampled_from((3.0, 8.5, math.inf)))
@pytest.mark.parametrize("policy", ["dovetail", "fgd", "random"])
def test_compiled_equals_plain(policy: str, rows, nodes: int, backfill: bool, horizon_s: float) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    work = Workload(
        source="test",
        names=tuple(map(str, range(len(rows)))),
        submit_s=np.array([row[0] for row in rows], dtype=float),
        duration_s=np.array([row[1] for row in rows], dtype=float),
        classes=np.array([row[2] for row in rows], dtype=np.int64),
        demands=DEMANDS,
    )
    sides = [CoreCluster(small_nodes(nodes), work.counts(), policy, 3) for _ in range(2)]
    plain = replay(work, sides[0], backfill=backfill, horizon_s=horizon_s)
    same(compiled_replay(work, sides[1], backfill=backfill, horizon_s=horizon_s), plain)


@pytest.mark.parametrize("backfill", [False, True])
@pytest.mark.parametrize("policy", ["dovetail", "best-fit"])
def test_the_example_day_is_the_same(policy: str, backfill: bool) -> None:
    nodes, work = read_cluster(EXAMPLES / "cluster.yaml").nodes, read_workload(EXAMPLES / "workload.csv")
    plain = replay(work, CoreCluster(nodes, work.counts(), policy), backfill=backfill)
    assert plain.queued.max() > 0, "the example must be busy for this to prove something"
    same(compiled_replay(work, CoreCluster(nodes, work.counts(), policy), backfill=backfill), plain)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_overloaded_trace_is_the_same_under_every_policy(policy: str) -> None:
    nodes = read_nodes(EXAMPLES / "openb" / "openb_node_list_gpu_node.csv.gz")[:40]
    trace = from_openb(read_pods(EXAMPLES / "openb" / "openb_pod_list_default.csv.gz"))
    work, _ = queue_jobs(trace, sum(len(node.shape.gpus) for node in nodes), 4.0, 7, 1200)
    plain = replay(work, CoreCluster(nodes, work.counts(), policy, 5), backfill=True)
    assert plain.queued.max() > 20
    same(compiled_replay(work, CoreCluster(nodes, work.counts(), policy, 5), backfill=True), plain)


@pytest.mark.parametrize("policy", ["dovetail", "random"])
def test_the_cluster_is_left_as_it_was(policy: str) -> None:
    """`random` draws by the number of changes so far: trials on the cluster itself would change its next replay."""
    nodes, work = read_cluster(EXAMPLES / "cluster.yaml").nodes, read_workload(EXAMPLES / "workload.csv")
    side = CoreCluster(nodes, work.counts(), policy, 2)
    before = [array.tobytes() for array in side.usage.arrays]
    one, other = (compiled_replay(work, side, backfill=True) for _ in range(2))
    same(one, other)
    assert [array.tobytes() for array in side.usage.arrays] == before
    assert not side.usage.claims
    same(replay(work, side, backfill=True), one)


def test_the_oldest_job_of_a_class_that_is_not_refused_is_next() -> None:
    head, tail, behind, only = (np.full(size, NONE) for size in (3, 3, 6, 3))
    queue = Queue(head=head, tail=tail, next=behind, refused=np.zeros(3, dtype=np.int64), only=only)
    assert oldest(queue) == NONE
    for job, k in enumerate((2, 0, 2, 1)):
        push(queue, job, k)
    assert (oldest(queue), queue.head.tolist(), queue.next[0]) == (2, [1, 3, 0], 2)
    queue.refused[2] = 1
    assert oldest(queue) == 0
