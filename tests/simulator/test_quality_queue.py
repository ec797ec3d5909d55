"""Suite R1: the offered load is the one asked for, waits are of those who count, and gates compare by the second."""

from __future__ import annotations

import numpy as np
import pytest

from packing.policy import WAIT_POLICY
from simulator.inputs.openb import gpu_milli, read_pods
from simulator.inputs.workload import Workload, from_openb
from simulator.quality import openbdata
from simulator.quality.cases import run_case
from simulator.quality.page import headline, render_quality
from simulator.quality.queueload import LONGEST_S, SPAN_S, allocated_pct, judge_waits, queue_jobs
from simulator.quality.queuesuite import BASELINE, QUEUE, gates
from simulator.quality.result import quality_of
from simulator.quality.runs import Case, Run
from simulator.quality.suite import OURS
from simulator.quality.verdict import NO, YES
from simulator.replay_result import JobState, ReplayResult

GPUS = 6212


@pytest.fixture(scope="module")
def trace() -> Workload:
    return from_openb(read_pods(openbdata.pod_list("default")))


def gpu_hours(jobs: Workload) -> float:
    milli = np.array([gpu_milli(demand) for demand in jobs.demands])[jobs.classes]
    return float(np.sum(milli * jobs.duration_s)) / 1000 / 3600


@pytest.mark.parametrize("load", QUEUE.loads)
def test_the_jobs_offer_the_load(trace: Workload, load: float) -> None:
    jobs, span_s = queue_jobs(trace, GPUS, load, 3)
    assert span_s == SPAN_S
    assert gpu_hours(jobs) / (GPUS * 48) == pytest.approx(load, rel=0.02)
    assert jobs.duration_s.max() == LONGEST_S
    assert 0 <= jobs.submit_s[0] <= jobs.submit_s[-1] <= SPAN_S


def test_a_count_of_jobs_shortens_the_span_not_the_load(trace: Workload) -> None:
    jobs, span_s = queue_jobs(trace, GPUS, 0.95, 3, 20_000)
    assert len(jobs) == 20_000
    assert gpu_hours(jobs) * 3600 / (GPUS * span_s) == pytest.approx(0.95, rel=0.06)


def test_the_seed_decides(trace: Workload) -> None:
    one, again, other = (queue_jobs(trace, GPUS, 0.8, seed, 500)[0] for seed in (1, 1, 2))
    assert one.submit_s.tobytes() == again.submit_s.tobytes()
    assert one.classes.tolist() == again.classes.tolist() != other.classes.tolist()


def result(trace: Workload, submit_s: list[float], start_s: list[float]) -> ReplayResult:
    jobs = Workload(
        source="test",
        names=("",) * len(submit_s),
        submit_s=np.array(submit_s),
        duration_s=np.full(len(submit_s), 20.0),
        classes=np.zeros(len(submit_s), dtype=np.int64),
        demands=trace.demands,
    )
    return ReplayResult(
        workload=jobs,
        capacity_milli=1000,
        end_s=100.0,
        state=np.full(len(submit_s), JobState.FINISHED, dtype=np.int8),
        start_s=np.array(start_s),
        taken_milli=np.zeros(len(submit_s), dtype=np.int64),
        times_s=np.array([0.0, 20.0, 60.0]),
        allocated_milli=np.array([1000, 500, 0]),
        queued=np.zeros(3, dtype=np.int64),
    )


def test_jobs_of_the_first_quarter_do_not_count(trace: Workload) -> None:
    figures = judge_waits(result(trace, [0.0, 25.0, 60.0], [90.0, 35.0, 60.0]), 100.0)
    assert figures["wait_s"] == 5.0
    assert figures["wait_p99_s"] == 10.0
    assert figures["slowdown"] == pytest.approx((30 / 20 + 1) / 2)


def test_a_wait_that_is_not_over_is_no_figure(trace: Workload) -> None:
    with pytest.raises(AssertionError, match="still waits"):
        judge_waits(result(trace, [30.0], [np.nan]), 100.0)


def test_allocation_is_of_the_part_that_counts(trace: Workload) -> None:
    assert allocated_pct(result(trace, [0.0], [0.0]), 100.0) == pytest.approx(100 * (35 * 0.5) / 75)


def runs(waits: dict[str, tuple[float, float]]) -> list[Run]:
    return [
        Run(case=Case(suite="R1", scenario="openb", load=0.95, policy=policy, seed=seed), figures={"wait_s": value})
        for policy, values in waits.items()
        for seed, value in enumerate(values)
    ]


def test_gates_are_against_the_best_peer_and_against_the_baseline() -> None:
    best, base = gates(runs({BASELINE: (100.0, 110.0), "best-fit": (90.0, 95.0), OURS: (92.0, 97.0)}))
    assert best.gate == "s of mean wait dovetail saves against best-fit, at least"
    assert (best.measured, best.gate_reached) == (-2.0, NO)
    assert (base.measured, base.gate_reached, base.target_at, base.target_reached) == (10.5, YES, 5.25, YES)


def test_the_setting_for_waits_has_gates_of_its_own_and_is_no_rival_of_the_default() -> None:
    found = gates(runs({BASELINE: (100.0, 110.0), WAIT_POLICY: (50.0, 55.0), OURS: (92.0, 97.0)}))
    assert [(verdict.gate.split()[4], verdict.measured) for verdict in found[::2]] == [
        (OURS, 10.5),
        (WAIT_POLICY, 52.5),
    ]
    assert [verdict.policy for verdict in found] == [OURS, OURS, WAIT_POLICY, WAIT_POLICY]
    missed = gates(runs({BASELINE: (100.0, 110.0), WAIT_POLICY: (50.0, 55.0), OURS: (120.0, 130.0)}))
    assert headline(missed) == (
        "dovetail reaches 0 of 2 gates and misses 2; dovetail-wait reaches 2 of 2 gates and misses 0"
    )


def test_overload_tells_of_allocation_alone() -> None:
    calm, over = (
        run_case(Case(suite="R1", scenario="openb", load=load, policy="best-fit", seed=1, arrivals=300)).figures
        for load in (0.8, 1.1)
    )
    assert set(over) == {"allocated_pct"}
    assert set(calm) == {figure.key for figure in QUEUE.figures}


def test_the_page_shows_waits_by_policy_and_by_size_and_allocation_in_overload() -> None:
    waits = {figure.key: 3.0 for figure in QUEUE.figures}
    found = [
        Run(
            case=Case(suite="R1", scenario="openb", load=load, policy=policy, seed=0),
            figures=waits if load < 1 else {"allocated_pct": 97.0},
        )
        for load in QUEUE.loads
        for policy in QUEUE.policies
    ]
    page = render_quality(quality_of(tuple(found), ("R1",), "1.2.3"))
    assert page.count('role="img"') == 2 + 2 + 1
    assert page == render_quality(quality_of(tuple(found), ("R1",), "1.2.3"))
    assert "R1 openb 0.95" in page
    assert "nothing is reserved" in page
