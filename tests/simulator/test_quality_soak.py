"""Full counts: our peers repeat the figures that others measured with the same protocol."""

from __future__ import annotations

import statistics

import pytest

from simulator.quality.cases import plan
from simulator.quality.migcluster import MIXES
from simulator.quality.pool import run_cases
from simulator.quality.runs import Case

pytestmark = pytest.mark.soak

STATIC = {
    "worst-fit": (77.9, 81.4, 78.0, 68.5),
    "first-fit": (96.6, 95.6, 98.4, 99.0),
    "best-fit": (96.7, 95.7, 98.6, 99.2),
    "mcc": (96.2, 96.5, 99.0, 97.0),
    "mfi": (96.6, 94.3, 98.4, 98.8),
    "fgd-mig": (96.7, 96.5, 98.7, 99.3),
}
DYNAMIC_085 = {
    "round-robin": (85.3, 85.5, 89.7, 85.6),
    "first-fit": (95.1, 97.1, 95.8, 96.8),
    "best-fit": (96.2, 97.0, 96.6, 97.5),
    "mfi": (97.4, 98.2, 98.1, 97.8),
    "mcc": (94.9, 97.4, 97.4, 98.0),
    "fgd-mig": (98.0, 97.5, 98.2, 98.2),
}
OPENED = {"first-fit": (1.020, 1.046, 1.013, 1.012), "best-fit": (1.019, 1.045, 1.012, 1.011)}
LINKS_085 = {
    ("first-fit", "a"): (61.2, 97.2),
    ("first-fit", "b"): (63.4, 97.2),
    ("most-used", "a"): (60.8, 97.3),
    ("most-used", "b"): (64.6, 97.3),
}


DYNAMIC_100 = {
    "best-fit": (85.9, 87.1, 87.0, 88.9),
    "fgd-mig": (89.3, 89.6, 90.1, 90.3),
}


def means(suite: str, policy: str, load: float, figure: str) -> list[float]:
    cases = [case for case in plan((suite,)) if case.policy == policy and case.load == load]
    runs = run_cases(cases, jobs=2)
    return [statistics.fmean(run.figures[figure] for run in runs if run.case.scenario == mix) for mix in MIXES]


@pytest.mark.parametrize("policy", STATIC)
def test_static_figures_of_peers(policy: str) -> None:
    assert means("M1", policy, 0.0, "served_pct") == pytest.approx(STATIC[policy], abs=0.06)


@pytest.mark.parametrize("policy", DYNAMIC_085)
def test_dynamic_figures_of_peers(policy: str) -> None:
    assert means("M2", policy, 0.85, "accepted_pct") == pytest.approx(DYNAMIC_085[policy], abs=0.06)


@pytest.mark.parametrize("policy", DYNAMIC_100)
def test_dynamic_figures_of_peers_at_full_load(policy: str) -> None:
    assert means("M2", policy, 1.0, "accepted_pct") == pytest.approx(DYNAMIC_100[policy], abs=0.06)


@pytest.mark.parametrize("policy", OPENED)
def test_gpus_opened_by_peers(policy: str) -> None:
    assert means("M3", policy, 0.0, "gpus_ratio") == pytest.approx(OPENED[policy], abs=0.0006)


@pytest.mark.parametrize(("policy", "cluster"), LINKS_085)
def test_link_figures_of_peers(policy: str, cluster: str) -> None:
    cases = [
        Case(suite="L", scenario=cluster, load=0.85, policy=policy, seed=seed, arrivals=20_000) for seed in range(20)
    ]
    runs = run_cases(cases, jobs=2)
    ideal, accepted = (statistics.fmean(run.figures[name] for run in runs) for name in ("ideal_pct", "accepted_pct"))
    assert accepted == pytest.approx(LINKS_085[policy, cluster][1], abs=0.2)
    # The figures to repeat were judged by single rings; all rings tell more sets of a DGX-1 apart.
    assert ideal == pytest.approx(LINKS_085[policy, cluster][0], abs=2.5 if cluster == "a" else 0.5)


@pytest.mark.parametrize(("policy", "accepted"), [("first-fit", 89.11), ("most-used", 89.44)])
def test_accepted_work_of_peers_where_every_set_is_ideal(policy: str, accepted: float) -> None:
    cases = [case for case in plan(("L",)) if (case.scenario, case.load, case.policy) == ("c", 1.0, policy)]
    found = statistics.fmean(run.figures["accepted_pct"] for run in run_cases(cases, jobs=2))
    assert found == pytest.approx(accepted, abs=0.006)
