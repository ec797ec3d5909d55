"""`dovetail bench quality`: formats, files, and an interruption that keeps what is finished."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dovetail.cli import main
from simulator.quality import cases, openbdata, pool
from simulator.quality.mixeddemand import KINDS, NODES
from simulator.quality.mixedsplit import pool_key
from simulator.quality.registry import SUITES
from simulator.quality.runs import Case, Run

Invoke = Callable[..., tuple[int, str, str]]
SMALL = ("bench", "quality", "M", "--seeds", "1", "--arrivals", "40")


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Invoke:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dovetail", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the runs, so that formats are tested without them."""

    def run(case: Case, *_files: Path) -> Run:
        figures = {figure.key: 42.0 for figure in SUITES[case.suite].figures}
        if case.suite == "X1":
            figures |= {pool_key(kind, nodes): 42.0 for kind in KINDS for nodes in range(NODES + 1)}
        return Run(case=case, figures=figures)

    monkeypatch.setattr(pool, "run_case", run)


def test_the_real_thing_writes_both_files_and_prints_tables(invoke: Invoke, tmp_path: Path) -> None:
    code, out, err = invoke(*SMALL, "--out", "here")
    assert code == 0, err
    assert "GPUS / OPTIMUM" in out
    assert "report: here/quality.html" in out
    assert json.loads((tmp_path / "here" / "quality.json").read_text())["suites"] == ["M1", "M2", "M3"]
    assert (tmp_path / "here" / "quality.html").read_text().startswith("<!doctype html>")


@pytest.mark.usefixtures("canned")
def test_programs_get_plain_rows(invoke: Invoke) -> None:
    code, out, err = invoke("bench", "quality", "--seeds", "2", "-o", "json")
    assert code == 0
    rows = json.loads(out)
    assert {row["suite"] for row in rows} == set(SUITES)
    assert {row["seeds"] for row in rows if row["suite"] == "L"} == {"0-1"}
    assert "report:" in err
    code, out, _ = invoke("bench", "quality", "L", "-o", "csv")
    assert {row["seeds"] for row in csv.DictReader(out.splitlines())} == {"0-19"}
    _, out, _ = invoke("bench", "quality", "L", "--seeds", "1", "--first-seed", "7", "-o", "yaml")
    assert {row["seeds"] for row in yaml.safe_load(out)} == {"7"}


@pytest.mark.usefixtures("canned")
def test_tables_name_gates_and_paired_differences(invoke: Invoke) -> None:
    _, out, _ = invoke("bench", "quality", "L", "--seeds", "2")
    assert "ideal % at least" in out
    assert "accepted_pct +0.0000 +- 0.0000 vs most-used" in out
    assert "SERVED" not in out


def test_ctrl_c_keeps_what_is_finished(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[Case] = []

    def run(case: Case) -> Run:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(case)
        return Run(case=case, figures={"ideal_pct": 1.0, "ratio_pct": 1.0, "worst_pct": 1.0, "accepted_pct": 1.0})

    monkeypatch.setattr(pool, "run_case", run)
    code, _, err = invoke("bench", "quality", "L")
    assert code == 130
    assert "kept 3 finished runs" in err
    assert json.loads((tmp_path / "dovetail-quality" / "quality.json").read_text())["complete"] is False


def test_a_run_that_breaks_down_keeps_those_before_it(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was finished, of other suites too, was thrown away."""
    real = cases.run_case

    def run(case: Case) -> Run:
        if case.suite == "M2":
            raise ArithmeticError("no figure")
        return real(case)

    monkeypatch.setattr(pool, "run_case", run)
    code, out, err = invoke(*SMALL)
    assert code == 1
    kept = json.loads((tmp_path / "dovetail-quality" / "quality.json").read_text())
    assert kept["complete"] is False
    assert {item["case"]["suite"] for item in kept["runs"]} == {"M1"}
    assert "dovetail: M2 " in err
    assert f"ArithmeticError: no figure (kept {len(kept['runs'])} finished runs)" in err
    assert "M1" in out


def test_a_missing_trace_is_told_before_the_first_run(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another one below the current directory was taken instead."""
    for name in sorted(openbdata.FOLDER.glob("*")):
        target = tmp_path / "examples" / "openb" / name.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(name)
    monkeypatch.setattr(openbdata, "FOLDER", tmp_path / "elsewhere")
    code, _, err = invoke("bench", "quality", "--seeds", "1")
    assert code == 1
    assert "openb trace" in err
    assert "from a checkout" in err
    assert not (tmp_path / "dovetail-quality").exists()


def test_ctrl_c_before_anything_is_finished_leaves_an_earlier_result(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(case: Case) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "run_case", run)
    (tmp_path / "quality.json").write_text("earlier")
    code, out, _ = invoke("bench", "quality", "L", "--out", ".")
    assert code == 130
    assert "no run was finished" in out
    assert (tmp_path / "quality.json").read_text() == "earlier"


@pytest.mark.parametrize("suite", ["X", "R1", "all"])
def test_so_few_arrivals_that_none_may_count_are_wrong_usage(invoke: Invoke, suite: str) -> None:
    """Two arrivals of X1 may all come in the part that does not count: its command ended with a ZeroDivisionError."""
    code, _, err = invoke("bench", "quality", suite, "--arrivals", "2")
    assert code == 2
    assert "--arrivals: 2: is too few for suite" in " ".join(err.replace("│", " ").split())


def test_an_unknown_suite_is_wrong_usage(invoke: Invoke) -> None:
    code, _, err = invoke("bench", "quality", "Z")
    assert code == 2
    assert "'Z': is unknown; choose from L, M" in " ".join(err.split())
