"""The scale benchmark on a small cluster: what is run, that it repeats, and what is told of it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from dovetail.bench_scale_cmd import sizes_of
from dovetail.cli import app
from packing.memory import memory_of
from packing.model import ClaimId, PartitionRequest, ShareRequest, WholeRequest
from packing.place import place
from simulator.quality.verdict import NO, YES
from simulator.scale import steady
from simulator.scale.page import render_scale
from simulator.scale.result import FILE_NAME, scale_of
from simulator.scale.steady import SteadyCluster, Timing, growth_exponent, run_scale
from simulator.scale.workload import CLASSES, scale_asks
from topology.errors import InvalidInputError

NODES = 20


@pytest.fixture(scope="module")
def run():
    return run_scale(NODES, decisions=200, seed=3)


def test_32_classes_ask_for_the_same_gpu_hours_whole_in_parts_and_shared():
    asks = scale_asks()
    assert len({ask.demand for ask in asks}) == CLASSES == 32
    offered = Counter()
    for ask in asks:
        offered[type(ask.demand.requests[0])] += ask.rate * ask.gpus
    assert offered[WholeRequest] == pytest.approx(1)
    assert offered[PartitionRequest] == pytest.approx(1)
    assert offered[ShareRequest] == pytest.approx(1)


def test_the_cluster_stays_as_full_as_stated_while_pods_come_and_go(run):
    assert run.gpus == 8 * NODES
    assert 100 * (1 - 8 / run.gpus) * 0.85 < run.occupied_pct <= 85
    assert 0 <= run.refused < run.decisions == 200


def test_the_same_seed_places_the_same_pods_in_the_same_places(run):
    assert run_scale(NODES, decisions=200, seed=3).digest == run.digest
    assert run_scale(NODES, decisions=200, seed=4).digest != run.digest


def test_decisions_in_steady_state_are_those_of_a_memory_that_saw_nothing():
    cluster = SteadyCluster(NODES, seed=1)
    cluster.fill()
    for _ in range(20):
        cluster.live(10)
        for ask in scale_asks()[::5]:
            fresh = place(cluster.fabric, cluster.usage.copy(), ask.demand, cluster.policy)
            assert place(cluster.fabric, cluster.usage, ask.demand, cluster.policy) == fresh


def test_a_decision_scores_no_node_that_did_not_change():
    """The law behind the growth of times: whatever the size, what is scored anew is what changed.

    Two scores are falsified: a claim that comes puts the one of its node right, the other stays.
    """
    cluster = SteadyCluster(NODES, seed=1)
    cluster.fill()
    ask = scale_asks()[0]

    def scores_of(usage):
        place(cluster.fabric, usage, ask.demand, cluster.policy)
        memory = memory_of(usage, cluster.policy)
        return memory.cache.scores[memory.row(usage.classes.index(ask.demand))]

    row = scores_of(cluster.usage)
    decision = place(cluster.fabric, cluster.usage, ask.demand, cluster.policy)
    changed = cluster.fabric.index[decision.placement.node]
    kept = (changed + 1) % NODES
    row[[changed, kept]] -= 1
    lie = row[kept]
    cluster.usage.apply(ClaimId("one more"), ask.demand, decision.placement)
    place(cluster.fabric, cluster.usage, ask.demand, cluster.policy)
    fresh = scores_of(cluster.usage.copy())
    assert row[changed] == fresh[changed], "the node that changed was not scored anew"
    assert row[kept] == lie == fresh[kept] - 1, "an unchanged node was scored again"


def test_an_operation_that_never_came_about_has_no_times(tmp_path):
    """One pod may come without any leaving: percentiles of nothing ended the command with an IndexError."""
    run = run_scale(NODES, decisions=1, seed=0)
    assert run.release is None
    assert "release p50, processor" not in {fit.figure for fit in scale_of([run, replace(run, nodes=40)], "1").growth}
    assert "<td>release</td>" not in render_scale(scale_of([run], "1"))
    done = CliRunner().invoke(
        app, ["bench", "scale", "--nodes", str(NODES), "--decisions", "1", "-o", "csv", "--out", str(tmp_path)]
    )
    assert done.exit_code == 0, done.output
    assert [row["operation"] for row in csv.DictReader(done.stdout.splitlines())] == ["place", "apply", "first"]


def test_an_interrupt_before_the_first_size_leaves_an_earlier_result(tmp_path, monkeypatch):
    def stopped(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(steady, "run_scale", stopped)
    (tmp_path / FILE_NAME).write_text("earlier", encoding="utf-8")
    done = CliRunner().invoke(app, ["bench", "scale", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert (tmp_path / FILE_NAME).read_text(encoding="utf-8") == "earlier"


def test_growth_is_the_exponent_of_a_power_law():
    assert growth_exponent([10, 100, 1000], [2, 20, 200]) == pytest.approx(1)
    assert growth_exponent([10, 100, 1000], [5, 5, 5]) == pytest.approx(0)
    assert growth_exponent([10], [5]) is None


def test_gates_are_judged_at_their_sizes_by_both_clocks(run):
    slow = Timing(p50_us=1, p99_us=6000, max_us=9000, cpu_p50_us=1, cpu_p99_us=250, cpu_max_us=300)
    large = replace(run, nodes=10_000, place=slow, resident_bytes_per_gpu=1500.0)
    gates = scale_of([run, large], "1").gates
    assert [(gate.cell, gate.gate_reached, gate.target_reached) for gate in gates] == [
        ("10,000 nodes", NO, NO),
        ("10,000 nodes", YES, YES),
        ("10,000 nodes", NO, NO),
    ]
    assert gates[0].measured == 6.0


def test_the_page_stands_alone_and_says_what_was_measured(run):
    page = render_scale(scale_of([run, replace(run, nodes=10_000)], "1"))
    assert "At 10,000 nodes" in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "Incomplete" not in page
    assert "Incomplete" in render_scale(scale_of([run], "1", complete=False))


@pytest.mark.parametrize("text", ["", "0", "-5", "10,", "ten", "1e3", "100,10", "10,10", "1000001", "9" * 5000])
def test_sizes_that_cannot_be_run_are_refused(text):
    with pytest.raises(InvalidInputError, match="--nodes"):
        sizes_of(text)


def test_the_command_writes_a_result_and_a_page(tmp_path):
    command = ["bench", "scale", "--nodes", "2,4", "--decisions", "40", "-o", "json", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["nodes"], row["operation"]) for row in rows][:5] == [
        (2, "place"),
        (2, "apply"),
        (2, "release"),
        (2, "first"),
        (4, "place"),
    ]
    written = json.loads((tmp_path / FILE_NAME).read_text(encoding="utf-8"))
    assert written["schema"] == "dovetail.scale/v1"
    assert [run["nodes"] for run in written["runs"]] == [2, 4]
    assert (tmp_path / "scale.html").stat().st_size > 10_000
