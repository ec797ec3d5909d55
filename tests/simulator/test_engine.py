"""Laws of the replay, over a plain reference cluster: nothing is lost, nothing idles that could run, order is kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.model import Demand, ShareRequest, WholeRequest
from simulator.engine import replay
from simulator.inputs.openb import read_nodes, read_pods
from simulator.inputs.workload import Workload, from_openb
from simulator.queueing import BackfillQueue, FifoQueue, asks_no_more
from simulator.replay_result import JobState

OPENB = Path(__file__).parents[2] / "examples" / "openb"


class PlainCluster:
    """First fit over nodes [cpu, memory, free milli per GPU], written to be obvious."""

    def __init__(self, nodes):
        self.nodes = [[cpu, memory, list(gpus)] for cpu, memory, gpus in nodes]
        self.capacity_milli = sum(sum(gpus) for _, _, gpus in nodes)
        self.held = {}

    def spot(self, demand):
        for node in self.nodes:
            cpu, memory, gpus = node
            if cpu < demand.cpu_milli or memory < demand.memory_mib:
                continue
            if not demand.requests:
                return node, []
            [request] = demand.requests
            if isinstance(request, WholeRequest):
                free = [i for i, left in enumerate(gpus) if left == 1000]
                if len(free) >= request.count:
                    return node, [(i, 1000) for i in free[: request.count]]
            else:
                free = [i for i, left in enumerate(gpus) if left >= request.compute_milli]
                if free:
                    return node, [(free[0], request.compute_milli)]
        return None

    def try_place(self, demand, claim):
        assert claim not in self.held
        spot = self.spot(demand)
        if spot is None:
            return None
        self.held[claim] = (demand, *spot)
        self.change(claim, -1)
        return sum(milli for _, milli in spot[1])

    def release(self, claim):
        self.change(claim, 1)
        del self.held[claim]

    def change(self, claim, sign):
        demand, node, devices = self.held[claim]
        node[0] += sign * demand.cpu_milli
        node[1] += sign * demand.memory_mib
        for gpu, milli in devices:
            node[2][gpu] += sign * milli
        assert min(node[0], node[1], *node[2], 0) == 0, "never more than there is"


def workload(jobs, demands):
    jobs = sorted(jobs, key=lambda job: job[0])
    return Workload(
        source="test",
        names=tuple(str(number) for number in range(len(jobs))),
        submit_s=np.array([job[0] for job in jobs], dtype=float),
        duration_s=np.array([job[1] for job in jobs], dtype=float),
        classes=np.array([job[2] for job in jobs], dtype=np.int64),
        demands=demands,
    )


def whole(count, cpu=0):
    return Demand(cpu_milli=cpu, requests=(WholeRequest(count=count),))


def share(milli, cpu=0):
    return Demand(cpu_milli=cpu, requests=(ShareRequest(compute_milli=milli),))


requests = st.one_of(
    st.just(()),
    st.integers(1, 5).map(lambda count: (WholeRequest(count=count),)),
    st.integers(1, 999).map(lambda milli: (ShareRequest(compute_milli=milli),)),
)
demand_values = st.builds(Demand, cpu_milli=st.integers(0, 9), memory_mib=st.integers(0, 9), requests=requests)
gpu_states = st.lists(st.sampled_from([0, 200, 500, 999, 1000]), max_size=4)
cluster_specs = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 4).map(lambda n: [1000] * n)),
    min_size=1, max_size=4,
)  # fmt: skip


@st.composite
def workloads(draw):
    demands = draw(st.lists(demand_values, min_size=1, max_size=6, unique=True))
    # Whole numbers keep sums exact and make many events fall on one instant.
    job = st.tuples(st.integers(0, 20), st.integers(0, 9) | st.just(math.inf), st.integers(0, len(demands) - 1))
    return workload(draw(st.lists(job, max_size=30)), tuple(demands))


horizons = st.sampled_from([math.inf, 5, 15])
runs = given(work=workloads(), spec=cluster_specs, backfill=st.booleans(), horizon_s=horizons)


@runs
def test_no_job_is_lost_and_state_agrees_with_times(work, spec, backfill, horizon_s):
    result = replay(work, PlainCluster(spec), backfill=backfill, horizon_s=horizon_s)
    summary = result.summary()
    assert summary.submitted == np.count_nonzero(work.submit_s <= horizon_s)
    assert summary.submitted == summary.finished + summary.running + summary.queued + summary.never_fits
    ends = result.start_s + work.duration_s
    started = ~np.isnan(result.start_s)
    assert np.array_equal(result.state == JobState.FINISHED, started & (ends <= result.end_s))
    assert np.array_equal(result.state == JobState.RUNNING, started & ~(ends <= result.end_s))
    assert np.all(result.waits_s()[started] >= 0)
    assert np.all(result.slowdowns()[started] >= 1)


@runs
def test_the_area_under_the_curve_is_the_gpu_time_of_the_jobs(work, spec, backfill, horizon_s):
    result = replay(work, PlainCluster(spec), backfill=backfill, horizon_s=horizon_s)
    started = ~np.isnan(result.start_s)
    ran = np.minimum(result.start_s + work.duration_s, result.end_s)[started] - result.start_s[started]
    assert result.gpu_seconds() == pytest.approx(float(np.sum(ran * result.taken_milli[started])) / 1000)
    edges, used, _ = result.sampled(7)
    assert np.sum(used * np.diff(edges)) * result.capacity_milli / 1000 == pytest.approx(result.gpu_seconds())
    assert np.all(result.allocated_milli <= result.capacity_milli)


@runs
def test_the_cluster_holds_exactly_the_running_jobs_at_the_end(work, spec, backfill, horizon_s):
    cluster = PlainCluster(spec)
    result = replay(work, cluster, backfill=backfill, horizon_s=horizon_s)
    assert set(cluster.held) == {f"job-{job}" for job in np.flatnonzero(result.state == JobState.RUNNING)}


@runs
def test_the_same_input_gives_the_same_bytes(work, spec, backfill, horizon_s):
    one, two = (replay(work, PlainCluster(spec), backfill=backfill, horizon_s=horizon_s) for _ in range(2))
    assert one.summary() == two.summary()
    for name in ("state", "start_s", "times_s", "allocated_milli", "queued"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@given(work=workloads(), spec=cluster_specs, horizon_s=horizons)
def test_strict_order_means_nobody_starts_before_an_older_job_and_the_head_does_not_fit(work, spec, horizon_s):
    cluster = PlainCluster(spec)
    result = replay(work, cluster, horizon_s=horizon_s)
    possible = result.state[result.state != JobState.NEVER_FITS]
    starts = result.start_s[result.state != JobState.NEVER_FITS]
    first_waiting = next((i for i, start in enumerate(starts) if math.isnan(start)), len(starts))
    assert np.all(np.diff(starts[:first_waiting]) >= 0)
    assert np.all(np.isnan(starts[first_waiting:]))
    assert not np.any((possible == JobState.NOT_SUBMITTED)[:first_waiting])
    queued = np.flatnonzero(result.state == JobState.QUEUED)
    if queued.size:
        assert cluster.spot(work.demands[work.classes[queued[0]]]) is None


@given(work=workloads(), spec=cluster_specs, horizon_s=st.integers(0, 30))
def test_with_backfill_no_job_waits_while_it_fits(work, spec, horizon_s):
    # Any instant can be the horizon, so the law holds after every event.
    cluster = PlainCluster(spec)
    result = replay(work, cluster, backfill=True, horizon_s=horizon_s)
    for job in np.flatnonzero(result.state == JobState.QUEUED):
        assert cluster.spot(work.demands[work.classes[job]]) is None


@given(work=workloads(), spec=cluster_specs, backfill=st.booleans())
def test_jobs_of_one_demand_start_in_order_of_submission(work, spec, backfill):
    result = replay(work, PlainCluster(spec), backfill=backfill)
    for demand_class in range(len(work.demands)):
        starts = result.start_s[work.classes == demand_class]
        waiting = np.isnan(starts)
        assert np.all(np.diff(starts[~waiting]) >= 0)
        assert np.all(np.diff(waiting.astype(int)) >= 0), "an older job waits while a younger one ran"


@given(work=workloads(), spec=cluster_specs)
def test_backfill_changes_nothing_where_all_jobs_are_alike(work, spec):
    alike = workload(
        list(zip(work.submit_s, work.duration_s, [0] * len(work), strict=True)), work.demands[:1]
    )  # fmt: skip
    strict, filled = (replay(alike, PlainCluster(spec), backfill=backfill) for backfill in (False, True))
    assert strict.start_s.tobytes() == filled.start_s.tobytes()


@given(work=workloads(), spec=cluster_specs)
def test_the_set_aside_are_exactly_those_that_do_not_fit_the_empty_cluster(work, spec):
    result = replay(work, PlainCluster(spec))
    for job, state in enumerate(result.state):
        alone = PlainCluster(spec).spot(work.demands[work.classes[job]])
        assert (state == JobState.NEVER_FITS) == (alone is None)


@given(
    one=demand_values, other=demand_values, nodes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), gpu_states))
)
def test_what_asks_no_more_fits_wherever_the_other_fits(one, other, nodes):
    if asks_no_more(one, other) and PlainCluster(nodes).spot(other) is not None:
        assert PlainCluster(nodes).spot(one) is not None


class Log:
    """A start function that admits what is in `fits` and notes what it was asked."""

    def __init__(self):
        self.fits, self.asked = set(), []

    def __call__(self, job):
        self.asked.append(job)
        return job in self.fits


@pytest.mark.parametrize("queue", [FifoQueue(), BackfillQueue((whole(2), whole(2, cpu=1)))], ids=["fifo", "backfill"])
def test_a_refused_demand_is_not_tried_again_before_a_release(queue):
    log = Log()
    for job in range(3):
        queue.push(job, 1 if job else 0)
        queue.drain(log)
    assert log.asked == [0], "the others ask at least as much"
    queue.released()
    log.fits = {0, 1}
    queue.drain(log)
    assert log.asked == [0, 0, 1, 2]
    assert queue.waiting() == [2]
    assert len(queue) == 1


def test_departures_come_before_arrivals_at_one_instant():
    work = workload([(0, 10, 0), (10, 5, 0)], (whole(1),))
    result = replay(work, PlainCluster([(0, 0, [1000])]))
    assert result.start_s.tolist() == [0, 10]
    assert result.times_s.tolist() == [0, 10, 15]
    assert result.allocated_milli.tolist() == [1000, 1000, 0]


def test_a_large_job_blocks_small_ones_only_in_strict_order():
    work = workload([(0, 10, 0), (1, 10, 1), (2, 3, 0)], (whole(1), whole(2)))
    strict, filled = (replay(work, PlainCluster([(0, 0, [1000, 1000])]), backfill=b) for b in (False, True))
    assert strict.start_s.tolist() == [0, 10, 20]
    assert filled.start_s.tolist() == [0, 10, 2]
    assert strict.summary().wait_s.mean == pytest.approx(9)
    assert strict.summary().wait_s.p90 == 18
    assert filled.summary().utilisation_pct == pytest.approx(100 * 33 / 40)


def test_a_job_too_large_for_the_empty_cluster_blocks_nobody():
    work = workload([(0, 1, 1), (0, 1, 0)], (whole(1), whole(3)))
    result = replay(work, PlainCluster([(0, 0, [1000] * 2)]))
    assert result.state.tolist() == [JobState.NEVER_FITS, JobState.FINISHED]


def test_no_jobs_give_an_empty_result():
    result = replay(workload([], ()), PlainCluster([(0, 0, [1000])]))
    assert result.summary().submitted == 0
    assert result.summary().utilisation_pct == 0
    assert result.sampled(3)[1].tolist() == [0, 0, 0]


def test_the_openb_trace_replays_on_a_quarter_of_its_cluster():
    work = from_openb(read_pods(OPENB / "openb_pod_list_default.csv.gz"))
    nodes = read_nodes(OPENB / "openb_node_list_gpu_node.csv.gz")[::4]
    spec = [(node.cpu_milli, node.memory_mib, [1000] * len(node.shape.gpus)) for node in nodes]
    summary = replay(work, PlainCluster(spec), backfill=True).summary()
    assert summary.submitted == 8152
    assert summary.queued == summary.running == 0
    assert summary.finished + summary.never_fits == 8152
