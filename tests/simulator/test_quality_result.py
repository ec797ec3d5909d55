"""Tables, gates, `quality.json` and `quality.html`: paired, repeatable, self-contained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from packing.policy import WAIT_POLICY
from simulator.quality.cases import plan, run_case
from simulator.quality.lines import Mean, best, mean_of
from simulator.quality.linksuite import LINKS
from simulator.quality.migsuites import OPENED
from simulator.quality.page import headline, render_quality
from simulator.quality.pool import bundles, run_cases
from simulator.quality.registry import SUITES, chosen
from simulator.quality.result import Quality, encode_quality, quality_of, write_quality
from simulator.quality.runs import Case, Run
from simulator.quality.suite import OURS, Suite
from simulator.quality.tables import tabulate, verdicts
from simulator.quality.verdict import NO, NOISE, YES, Verdict, at_least
from topology.errors import InvalidInputError

SMALL_SUITES = ("L", "M1", "M2", "M3")


def run(policy: str, seed: int, *, suite: str = "L", scenario: str = "a", load: float = 1.0, **figures: float) -> Run:
    case = Case(suite=suite, scenario=scenario, load=load, policy=policy, seed=seed)
    return Run(case=case, figures=figures)


def gang(policy: str, seed: int, ideal: float, accepted: float, scenario: str = "a") -> Run:
    return run(policy, seed, scenario=scenario, ideal_pct=ideal, accepted_pct=accepted)


@pytest.fixture(scope="module")
def small() -> Quality:
    cases = [
        case
        for case in plan(SMALL_SUITES, 2, arrivals=120)
        if case.scenario in ("a", "big") and case.load in (0.0, 1.0) and case.policy in ("most-used", "best-fit", OURS)
    ]
    return quality_of(tuple(run_cases(cases)), SMALL_SUITES, "1.2.3")


def test_a_plan_has_every_policy_on_the_same_seeds() -> None:
    cases = plan(tuple(SUITES))
    for suite in SUITES.values():
        here = [case for case in cases if case.suite == suite.name]
        for policy in suite.policies:
            assert {case.seed for case in here if case.policy == policy} == set(suite.seeds)
    assert len(set(cases)) == len(cases)


def test_the_same_case_gives_the_same_figures_and_the_number_of_workers_never_shows() -> None:
    cases = [case for case in plan(("L", "M3"), 1, first_seed=3, arrivals=60) if case.policy in ("hami", OURS)]
    alone = run_cases(cases)
    assert alone == [run_case(case) for case in cases]
    assert alone == run_cases(cases, jobs=2)


def test_a_worker_gets_short_runs_together_and_long_ones_alone() -> None:
    cases = plan(("M3", "R1"), 3)
    together = bundles(cases)
    assert [case for bundle in together for case in bundle] == list(cases)
    sizes = {name: [len(bundle) for bundle in together if bundle[0].suite == name] for name in ("M3", "R1")}
    assert sizes["M3"][:-1] == [SUITES["M3"].cases_per_task] * (len(sizes["M3"]) - 1)
    assert set(sizes["R1"]) == {1}


def test_differences_are_paired() -> None:
    runs = [
        *(gang("most-used", seed, 60 + seed, 90 + seed) for seed in range(3)),
        *(gang(OURS, seed, 99, 90 + seed - 0.1) for seed in range(3)),
    ]
    (_, ours) = tabulate(runs)
    ideal, accepted = ours.versus
    assert (accepted.peer, accepted.mean) == ("most-used", pytest.approx(-0.1))
    assert accepted.error == pytest.approx(0.0, abs=1e-6)
    assert (ideal.peer, ideal.mean, ideal.error) == ("most-used", 38.0, pytest.approx(0.57735, abs=1e-5))


def test_a_peer_that_buys_quality_with_refusals_is_no_rival() -> None:
    lines = tabulate([gang("most-used", 0, 60, 97), gang("quality-spread", 0, 100, 71), gang("hami", 0, 75, 97)])
    assert LINKS.rivals(LINKS.main_figure(lines[0]), lines)[0] == ("ideal_pct", "hami")


def test_fewer_gpus_are_better() -> None:
    cell = {"suite": "M3", "scenario": "big", "load": 0.0}
    lines = tabulate([run("best-fit", 0, gpus_ratio=1.02, **cell), run("mcc", 0, gpus_ratio=1.2, **cell)])  # type: ignore[arg-type]
    assert best(OPENED.main_figure(lines[0]), lines) == "best-fit"


def test_a_suite_is_chosen_by_letter_by_name_or_with_all_others() -> None:
    assert chosen("M") == ("M1", "M2", "M3")
    assert chosen("M2") == ("M2",)
    assert chosen("all") == tuple(SUITES)
    with pytest.raises(InvalidInputError, match=r"Z9.*is unknown; choose from L, M,.* or all"):
        chosen("Z9")


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_ends_with_ours_and_names_each_figure_once(suite: Suite) -> None:
    assert suite.policies[-1] == OURS
    assert len(set(suite.policies)) == len(suite.policies)
    assert len({figure.key for figure in suite.figures}) == len(suite.figures)


def test_a_single_run_has_no_error() -> None:
    assert mean_of([3.0]).error == 0.0
    assert mean_of([1.0, 3.0]).error == pytest.approx(1.0)


def test_gates_tell_reached_from_noise_from_missed() -> None:
    def found(accepted: tuple[float, float], ideal: float) -> list[str]:
        runs = [*(gang("most-used", s, 60, 90) for s in range(2))]
        runs += [gang(OURS, s, ideal, value) for s, value in enumerate(accepted)]
        return [verdict.gate_reached for verdict in verdicts(runs)]

    assert found((89.9, 89.9), 99.2) == [YES, YES]
    assert found((89.5, 90.0), 98.9) == [NO, NOISE]
    assert found((89.5, 89.5), 99.0) == [YES, NO]


def test_a_mig_gate_is_held_against_the_better_peer() -> None:
    cell = {"suite": "M1", "scenario": "big", "load": 0.0}
    runs = [run(name, 0, served_pct=value, **cell) for name, value in (("best-fit", 98), ("fgd-mig", 97), (OURS, 97.5))]  # type: ignore[arg-type]
    (verdict,) = verdicts(runs)
    assert "best-fit" in verdict.gate
    assert verdict.measured == pytest.approx(-0.5)
    assert verdict.gate_reached == NO
    assert (verdict.target_at, verdict.target_reached) == (0.0, NO)


@pytest.mark.parametrize(
    ("best_peer", "target_at", "reached"),
    [((98.4, 98.4), 0.4, YES), ((98.4, 99.0), 0.7, NOISE), ((98.6, 98.6), 0.6, NO)],
)
def test_a_mig_target_is_held_against_the_best_of_all_peers(
    best_peer: tuple[float, float], target_at: float, reached: str
) -> None:
    """The gate names two peers; another one may be the best of the table (M1 big: mcc)."""
    values = {"best-fit": (97.0, 97.0), "fgd-mig": (98.0, 98.0), "mcc": best_peer, OURS: (98.5, 98.5)}
    runs = [
        run(name, seed, suite="M1", scenario="big", load=0.0, served_pct=value)
        for name, pair in values.items()
        for seed, value in enumerate(pair)
    ]
    (verdict,) = verdicts(runs)
    assert verdict.gate == "compute % less fgd-mig's at least (target: mcc's)"
    assert (verdict.measured, verdict.gate_reached) == (pytest.approx(0.5), YES)
    assert (verdict.target_at, verdict.target_reached) == (pytest.approx(target_at), reached)


def test_policies_that_share_no_run_are_not_compared() -> None:
    """A benchmark that was stopped has run 4 of one policy and run 5 of another."""
    apart = [gang("most-used", 4, 60, 90), gang(OURS, 5, 99, 90)]
    assert [verdict.gate for verdict in verdicts(apart)] == ["ideal % at least"]
    assert tabulate(apart)[-1].versus == ()
    mig = [
        run(name, seed, suite="M1", scenario="big", load=0.0, served_pct=97)
        for seed, name in enumerate(("mcc", "best-fit", OURS))
    ]
    assert verdicts(mig) == ()
    waits = [
        run(name, seed, suite="R1", scenario="openb", load=0.8, wait_s=9) for seed, name in enumerate(("fgd", OURS))
    ]
    assert verdicts(waits) == ()


def test_the_headline_counts_what_the_default_policy_reaches_and_tells_its_other_settings_apart() -> None:
    def gates(policy: str, *saved: float) -> list[Verdict]:
        return [at_least("gate", "cell", Mean(mean=value, error=0.1), 0.0, policy=policy) for value in saved]

    found = gates(WAIT_POLICY, 1, 1, -1) + gates(OURS, -0.1, -1, 1)
    assert headline(found[3:]) == "dovetail reaches 1 of 3 gates and misses 1, 1 within noise"
    assert headline(found) == f"{headline(found[3:])}; dovetail-wait reaches 2 of 3 gates and misses 1"


def test_gates_without_their_peer_or_without_us_say_nothing() -> None:
    assert verdicts([gang("most-used", 0, 60, 90)]) == ()
    assert [verdict.gate for verdict in verdicts([gang(OURS, 0, 99, 90)])] == ["ideal % at least"]
    assert headline(()) == "No gate of these suites was put to the test"


def test_same_runs_same_bytes(small: Quality, tmp_path: Path) -> None:
    text = encode_quality(small)
    assert text == encode_quality(quality_of(small.runs, small.suites, "1.2.3"))
    assert write_quality(small, tmp_path).read_text() == text
    read = json.loads(text)
    assert read["schema"] == "dovetail.quality/v1"
    assert len(read["runs"]) == len(small.runs)
    assert {line["policy"] for line in read["lines"]} == {"most-used", "best-fit", OURS}
    assert str(tmp_path) not in text


def test_the_page_needs_nothing_else_and_repeats(small: Quality) -> None:
    page = render_quality(small)
    assert page == render_quality(small)
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert page.count('role="img"') == len({line.cell for line in small.lines})
    assert "L a 1.0" in page
    assert "Incomplete" not in page
    assert "Incomplete" in render_quality(replace(small, complete=False))


def test_a_page_of_peers_alone_has_no_gates() -> None:
    peers = quality_of((gang("most-used", 0, 60, 90), gang("hami", 0, 75, 70)), ("L",), "1.2.3")
    page = render_quality(peers)
    assert "Gates and targets" not in page
    assert "Off the scale to the left: hami." in page
