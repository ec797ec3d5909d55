"""Suite P: it is the published benchmark, and its gates speak only of groups that were run whole."""

from __future__ import annotations

import csv
import gzip

import pytest

from simulator.quality.cases import plan, run_case
from simulator.quality.fillsuite import BASELINE, GROUPS, LISTS, gates
from simulator.quality.openbdata import file
from simulator.quality.page import render_quality
from simulator.quality.result import quality_of
from simulator.quality.runs import Case, Run
from simulator.quality.suite import OURS
from simulator.quality.verdict import NO, YES


def case(policy: str, seed: int, scenario: str = "default") -> Case:
    return Case(suite="P", scenario=scenario, load=0.0, policy=policy, seed=seed)


def runs(policy: str, value: float, lists: tuple[str, ...] = LISTS) -> list[Run]:
    return [
        Run(case=case(policy, seed, name), figures={"unallocated_pct": value}) for name in lists for seed in (42, 43)
    ]


def test_the_protocol_has_14_lists_and_the_published_seeds() -> None:
    cases = plan(("P",))
    assert len(LISTS) == 14
    assert {item.seed for item in cases} == set(range(42, 52))
    assert len(cases) == 14 * 10 * 8


def test_the_figures_are_those_that_were_published() -> None:
    with gzip.open(file("published_atc23_fgd.csv.gz"), "rt", newline="") as published:
        rows = {(row["variant"], row["policy"], row["seed"]): row for row in csv.DictReader(published)}
    allocated = float(rows["default", "06-FGD", "42"]["alloc_pct_at_100"])
    assert run_case(case(BASELINE, 42)).figures["unallocated_pct"] == pytest.approx(100 - allocated)


def test_other_seeds_are_drawn() -> None:
    one, other = (run_case(case(OURS, seed)).figures["unallocated_pct"] for seed in (1000, 1001))
    assert one != other
    assert 3.0 < one < 4.5


def test_a_group_has_a_gate_where_all_its_lists_were_run() -> None:
    found = gates(runs(OURS, 4.0, (*GROUPS["P1"], *GROUPS["P4"], "cpu050")))
    assert [verdict.cell.split()[0] for verdict in found] == ["P1", "P4"]


def test_gates_tell_groups_the_mean_of_all_and_wins() -> None:
    found = {v.cell.split()[0] + v.gate[:4]: v for v in gates([*runs(OURS, 4.5), *runs(BASELINE, 5.0)])}
    assert [found[f"P{n}unal"].gate_reached for n in range(1, 7)] == [YES, YES, YES, YES, NO, YES]
    assert found["P6unal"].target_reached == YES
    wins = found["P6runs"]
    assert (wins.measured, wins.gate_at, wins.gate_reached) == (28.0, 28.0, YES)
    tied = gates([*runs(OURS, 5.0), *runs(BASELINE, 5.0)])[-1]
    assert (tied.measured, tied.gate_reached) == (0.0, NO)


def test_the_page_shows_all_lists_in_one_drawing() -> None:
    found = tuple(runs(OURS, 4.5) + runs(BASELINE, 5.0))
    page = render_quality(quality_of(found, ("P",), "1.2.3"))
    assert page.count('role="img"') == 1
    assert all(name in page for name in LISTS)
