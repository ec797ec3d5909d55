"""What a person is told by `dovetail simulate`: what was left out, drawn, removed or never measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dovetail.cli import main
from simulator import fillrun

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{i},32000,65536,4,G2\n" for i in range(4))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n" + "".join(f"w{i},1000,1024,1,1000\n" for i in range(6))
BAD_ROWS = "bad1,1000,1024,1,5000\nbad2,x,1024,1,1000\n"
EXAMPLES = Path(__file__).parents[2] / "examples"
SIMULATE = ("simulate", "--nodes", "nodes.csv", "--pods", "pods.csv", "--policy", "fgd")
REPLAY = ("simulate", "--protocol", "replay", "--cluster", str(EXAMPLES / "cluster.yaml"), "--policy", "first-fit")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    fillrun._workload.cache_clear()  # it remembers files by name, and every test here calls them the same
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)

    def invoke(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dovetail", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return invoke


def record(tmp_path: Path) -> None:
    orders = {"pods/1/pods": np.arange(6).repeat(4), "pods/1/node_rank": np.arange(4)}
    np.savez(tmp_path / "recorded.npz", allow_pickle=True, **orders)


def test_recorded_orders_are_refused_for_a_list_with_rows_left_out(run: Run, tmp_path: Path) -> None:
    # Every recorded row number after the bad row would silently have named the pod after it.
    record(tmp_path)
    recorded = (*SIMULATE, "--arrivals", "recorded.npz")
    assert run(*recorded)[0] == 0
    header, first, *rest = PODS.splitlines(keepends=True)
    (tmp_path / "pods.csv").write_text("".join([header, first, BAD_ROWS, *rest]))
    code, out, err = run(*recorded, "--skip-bad")
    assert (code, out) == (1, "")
    assert err.startswith("dovetail: pods.csv: 2 bad rows were left out, but the orders recorded in recorded.npz name")
    assert "leave out --arrivals" in err
    assert run(*SIMULATE, "--skip-bad", "--seeds", "1")[0] == 0


def test_skipped_rows_are_told_with_their_number(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(PODS + BAD_ROWS)
    code, out, err = run(*SIMULATE, "--skip-bad", "--seeds", "1", "-o", "json")
    assert code == 0
    assert err.splitlines()[0] == "2 bad rows of pods.csv left out"
    assert [row["rows_left_out"] for row in json.loads(out)] == [2]
    (tmp_path / "jobs.csv").write_text("submit_s,duration_s,kind\n0,1,cpu\n0,x,cpu\n")
    code, out, err = run(*REPLAY, "--workload", "jobs.csv", "--skip-bad", "--out", "there", "-o", "json")
    assert code == 0
    assert err.splitlines()[0] == "1 bad row of jobs.csv left out"
    assert [row["rows_left_out"] for row in json.loads(out)] == [1]
    assert json.loads((tmp_path / "there/result.json").read_text())["rejected"] == 1


@pytest.mark.parametrize("words", [("--jobs", "2"), ("--placements",), ("--objective", "failed<=1")])
def test_a_replay_refuses_what_it_would_ignore(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*REPLAY, "--workload", "jobs.csv", *words)
    assert code == 2
    assert words[0] in err


def test_the_report_of_an_earlier_fill_does_not_stay_beside_a_replay(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submit_s,duration_s,kind\n0,1,cpu\n")
    report = tmp_path / "there" / "report.html"
    assert run(*SIMULATE, "--seeds", "1", "--out", "there")[0] == 0
    replay = (*REPLAY, "--workload", "jobs.csv", "--out", "there")
    code, _, err = run(*replay)
    assert (code, report.exists()) == (0, False)
    assert err == f"removed {Path('there/report.html')}: it was the report of an earlier fill\n"
    report.write_text("<title>Somebody else's page</title>")
    assert run(*replay)[0] == 0
    assert report.exists()


def test_a_workload_without_a_job_is_bad_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submit_s,duration_s,kind\n")
    code, out, err = run(*REPLAY, "--workload", "jobs.csv")
    assert (code, out) == (1, "")
    assert err == "dovetail: jobs.csv: holds no job; a replay needs at least one\n"


def test_a_list_of_the_trace_without_recorded_orders_is_drawn_and_said(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "openb"
    trace.mkdir()
    (trace / "openb_node_list_gpu_node.csv").write_text(NODES)
    for name in ("pods", "mine"):
        (trace / f"openb_pod_list_{name}.csv").write_text(PODS)
    record(trace)
    (trace / "recorded.npz").rename(trace / "openb_arrivals_1.npz")
    words = ("simulate", "--openb", "openb", "--policy", "fgd", "--seeds", "1")
    code, _, err = run(*words, "--variant", "mine")
    assert code == 0
    assert err.splitlines()[0] == "no orders of arrival are recorded for mine: all orders are drawn from the seeds"
    assert json.loads((tmp_path / "dovetail-report/result.json").read_text())["inputs"]["arrivals"] is None
    code, _, err = run(*words, "--variant", "pods")
    assert code == 0
    assert "drawn" not in err


def test_a_figure_that_small_clusters_skip_is_not_a_bare_dash(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn0,32000,65536,2,G2\n")
    (tmp_path / "pods.csv").write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\nbig,1000,1024,4,1000\n")
    words = (*SIMULATE, "--seeds", "1,2", "--objective", "unallocated_pct_at_100<=100")
    code, _, err = run(*words)
    assert code == 3
    assert "not measured at 100 %: in 2 of 2 runs on pods no pod arrived while demand was between" in err
    assert "not measured: unallocated_pct_at_100 <= 100 (fgd on pods)" in err
    assert "missed" not in err
    page = (tmp_path / "dovetail-report/report.html").read_text()
    assert "Not measured at 100 %: in 2 of 2 runs" in page
    assert "fgd on pods (not measured)" in page
