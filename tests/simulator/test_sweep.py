"""Sweeps: order, interruption, failures that name their run, and what the runs say together."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from simulator import sweep as sweep_module
from simulator.choices import DEFAULT_SEEDS, choose_seeds, parse_policies, parse_seeds, trace_files
from simulator.curves import Curve
from simulator.errors import RunFailedError
from simulator.objective import parse_objective
from simulator.result import InputFile, Inputs, Result, RunResult
from simulator.summary import ALL_VARIANTS, headline, rival, stat, summarise
from simulator.sweep import Plan, run_on, run_sweep
from topology.errors import InvalidInputError

TRACE = Path(__file__).parents[2] / "examples" / "openb"
NO_CURVE = Curve(arrived_pct=(), allocated_pct=(), fragmented_pct=(), frag_ratio_pct=())
INPUTS = Inputs(
    dovetail="1",
    protocol="fill",
    tie_rule="",
    cluster=InputFile(file="nodes.csv", sha256="0" * 64),
    nodes=1,
    gpus=100,
    pods=(),
    arrivals=None,
    policies=(),
    seeds=(),
)


def run(variant: str, policy: str, seed: int, unallocated: float | None) -> RunResult:
    return RunResult(
        variant=variant,
        policy=policy,
        seed=seed,
        curve=NO_CURVE,
        unallocated_pct_at_100=unallocated,
        unallocated_pct_at_130=unallocated,
        arrived=10,
        placed=9,
        failed=1,
    )


def plan(policies: tuple[str, ...] = ("fgd", "dovetail"), seeds: tuple[int, ...] = (1, 2, 3)) -> Plan:
    pods = (Path("a.csv"), Path("b.csv"))
    return Plan(nodes=Path("nodes.csv"), pods=pods, arrivals=None, policies=policies, seeds=seeds)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "run_fill", lambda spec: run(spec.variant, spec.policy, spec.seed, 5.0))


class InlineExecutor(Executor):
    """Runs a task when its result is waited for; remembers how many were queued at most."""

    def __init__(self, dies_at: int = -1) -> None:
        self.submitted = 0
        self.dies_at = dies_at

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.submitted == self.dies_at:
            future.set_exception(BrokenProcessPool("gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        self.submitted += 1
        return future


def test_a_plan_is_every_combination_with_details_for_the_first_seed() -> None:
    specs = plan().specs()
    assert [(spec.variant, spec.policy, spec.seed) for spec in specs] == [
        (variant, policy, seed) for variant in "ab" for policy in ("fgd", "dovetail") for seed in (1, 2, 3)
    ]
    assert {spec.seed for spec in specs if spec.detail} == {1}


@pytest.mark.usefixtures("quick")
def test_an_interrupt_keeps_what_is_finished() -> None:
    seen = []

    def stop_after_four(spec: object) -> None:
        seen.append(spec)
        if len(seen) == 4:
            raise KeyboardInterrupt

    swept = run_sweep(plan().specs(), progress=stop_after_four)
    assert not swept.complete
    assert len(swept.runs) == 4


@pytest.mark.usefixtures("quick")
def test_no_more_runs_are_queued_than_the_window_allows() -> None:
    executor = InlineExecutor()
    results = run_on(executor, plan().specs(), window=3)
    next(results)
    assert executor.submitted == 3
    assert sorted(index for index, _ in results) == list(range(1, 12))


@pytest.mark.usefixtures("quick")
def test_a_dead_worker_names_the_runs_it_may_have_had() -> None:
    with pytest.raises(RunFailedError, match="pod list a, policy fgd, seed 2"):
        list(run_on(InlineExecutor(dies_at=1), plan().specs(), window=2))


def test_a_run_that_breaks_down_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_spec: object) -> RunResult:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(sweep_module, "run_fill", broken)
    with pytest.raises(RunFailedError, match="pod list a, policy fgd, seed 1: ZeroDivisionError: by nothing"):
        run_sweep(plan().specs())


def test_bad_input_comes_home_from_a_worker_as_bad_input() -> None:
    with pytest.raises(InvalidInputError, match=r"nodes\.csv: cannot be read"):
        run_sweep(plan().specs(), jobs=2)


def test_spread_is_the_sample_deviation_and_a_missing_figure_is_not_averaged_away() -> None:
    figures = stat([1.0, 2.0, 3.0])
    assert figures
    assert (figures.mean, figures.sd, figures.low, figures.high) == (2.0, 1.0, 1.0, 3.0)
    assert stat([1.0, None]) is None
    assert stat([]) is None


def test_wins_are_counted_on_the_same_pods_and_seed_and_a_tie_is_none() -> None:
    runs = (
        *(run("a", "fgd", seed, 5.0) for seed in (1, 2, 3)),
        run("a", "dovetail", 1, 4.0),
        run("a", "dovetail", 2, 5.0),
        run("a", "dovetail", 3, 6.0),
        run("a", "dovetail", 4, 1.0),
    )
    fgd, ours = summarise(Result(inputs=INPUTS, runs=runs))
    assert (ours.wins, ours.duels) == (1, 3)
    assert fgd.wins is None


def test_several_pod_lists_are_averaged_seed_by_seed_and_told_first() -> None:
    runs = tuple(
        run(variant, policy, seed, base + seed)
        for variant, base in (("a", 0.0), ("b", 10.0))
        for policy in ("fgd", "dovetail")
        for seed in (1, 3)
    )
    rows = summarise(Result(inputs=INPUTS, runs=runs))
    assert [row.variant for row in rows] == [ALL_VARIANTS] * 2 + ["a", "a", "b", "b"]
    assert rows[0].at_100
    assert (rows[0].at_100.mean, rows[0].at_100.low, rows[0].at_100.high) == (7.0, 6.0, 8.0)


def test_the_verdict_speaks_of_ours_and_holds_it_against_the_baseline() -> None:
    runs = tuple(run("a", policy, 1, value) for policy, value in (("spread", 1.0), ("fgd", 2.0), ("dovetail", 3.0)))
    rows = summarise(Result(inputs=INPUTS, runs=runs))
    chosen = headline(rows)
    assert chosen
    assert chosen.policy == "dovetail"
    other = rival(rows, chosen)
    assert other
    assert other.policy == "fgd"


def test_without_ours_the_verdict_speaks_of_the_best() -> None:
    runs = tuple(run("a", policy, 1, value) for policy, value in (("random", 3.0), ("spread", 1.0)))
    rows = summarise(Result(inputs=INPUTS, runs=runs))
    chosen = headline(rows)
    assert chosen
    assert chosen.policy == "spread"


@pytest.mark.parametrize(
    ("text", "missed"),
    [("unallocated_pct_at_100<=5", 0), ("unallocated_pct_at_100 < 5", 1), ("failed>=1", 0), ("placed > 9", 1)],
)
def test_an_objective_is_met_if_every_policy_meets_it(text: str, missed: int) -> None:
    rows = summarise(Result(inputs=INPUTS, runs=(run("a", "fgd", 1, 5.0),)))
    assert len(parse_objective(text).misses(rows)) == missed


def test_a_figure_that_was_never_measured_misses_its_objective() -> None:
    rows = summarise(Result(inputs=INPUTS, runs=(run("a", "fgd", 1, None),)))
    assert parse_objective("unallocated_pct_at_100<=100").misses(rows) == rows


@pytest.mark.parametrize("text", ["", "speed<=5", "failed=5", "failed<=five", "failed<=-1"])
def test_an_objective_nobody_can_check_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_objective(text)


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("7, 3-5,4") == (3, 4, 5, 7)


@pytest.mark.parametrize("text", ["", "a", "5-3", "-1", "1-1000000", "1,,2", "٣"])
def test_seeds_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_seeds(text)


def test_policies_keep_their_order_and_all_is_all() -> None:
    assert parse_policies(["b,a", "b"], ("a", "b", "c")) == ("b", "a")
    assert parse_policies(["all"], ("a", "b")) == ("a", "b")
    with pytest.raises(InvalidInputError, match="choose from a, b"):
        parse_policies(["z"], ("a", "b"))


def test_the_trace_folder_names_its_files() -> None:
    files = trace_files(TRACE, ["default,cpu050"])
    assert [path.name for path in files.pods] == ["openb_pod_list_default.csv.gz", "openb_pod_list_cpu050.csv.gz"]
    assert len(trace_files(TRACE, ["all"]).pods) == 14
    mixed = trace_files(TRACE, ["default", "cpu0"])
    assert (mixed.arrivals, mixed.unrecorded) == (None, ("cpu0",))
    with pytest.raises(InvalidInputError, match="openb_pod_list_nope"):
        trace_files(TRACE, ["nope"])


def test_seeds_must_be_recorded_where_arrivals_are() -> None:
    arrivals = trace_files(TRACE, ["default"]).arrivals
    assert choose_seeds("", arrivals, ["default"]) == tuple(range(42, 52))
    assert choose_seeds("", None, ["default"]) == DEFAULT_SEEDS
    with pytest.raises(InvalidInputError, match="7 is not recorded"):
        choose_seeds("7", arrivals, ["default"])
    with pytest.raises(InvalidInputError, match="no arrivals of mine"):
        choose_seeds("42", arrivals, ["mine"])
