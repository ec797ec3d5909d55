"""The command line: exit codes, messages, formats, and that asking for help costs nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import dovetail
from dovetail.cli import main
from dovetail.output import Column, OutputFormat, print_rows
from simulator import fillrun

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{i},32000,65536,4,G2\n" for i in range(4))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n" + "".join(
    [f"w{i},1000,1024,1,1000\n" for i in range(6)] + [f"s{i},1000,1024,1,400\n" for i in range(6)]
)
EXAMPLES = Path(__file__).parents[2] / "examples"
HEAVY = ("numpy", "numba", "matplotlib", "scipy", "networkx", "jinja2", "msgspec", "yaml", "aiohttp")
HEAVY += ("packing", "simulator.sweep")

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


SIMULATE = ("simulate", "--nodes", "nodes.csv", "--pods", "pods.csv", "--seeds", "1,2", "--policy", "fgd,dovetail")


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['dovetail', '--help']\n"
        "from dovetail.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loaded []\n")
    assert "simulate" in done.stdout


def test_the_module_runs_like_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "dovetail", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"dovetail {dovetail.__version__}\n"


def test_a_simulation_prints_a_table_and_writes_both_files(run: Run, tmp_path: Path) -> None:
    code, out, err = run(*SIMULATE, "--out", "there")
    assert code == 0
    assert err.startswith("not measured at 130 %")
    assert err.count("\n") == 1
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["POLICY", "PODS"]
    assert [line.split()[0] for line in lines[1:3]] == ["fgd", "dovetail"]
    assert lines[-1] == f"report: {Path('there/report.html')}"
    assert "\x1b" not in out
    result = json.loads((tmp_path / "there/result.json").read_text())
    assert result["complete"]
    assert len(result["runs"]) == 4
    assert (tmp_path / "there/report.html").read_text().startswith("<!doctype html>")


def test_standard_output_is_pure_for_programs(run: Run) -> None:
    code, out, err = run(*SIMULATE, "-o", "json")
    assert code == 0
    rows = json.loads(out)
    assert [row["policy"] for row in rows] == ["fgd", "dovetail"]
    assert rows[0]["wins_vs_fgd"] is None
    assert err.startswith("report: ")
    assert yaml.safe_load(run(*SIMULATE, "-o", "yaml")[1]) == rows
    table = list(csv.DictReader(run(*SIMULATE, "-o", "csv")[1].splitlines()))
    assert [float(row["failed"]) for row in table] == [row["failed"] for row in rows]


def test_a_missed_objective_exits_3_and_says_who(run: Run) -> None:
    code, _, err = run(*SIMULATE, "--objective", "failed>=100000")
    assert code == 3
    assert "missed: failed >= 100000 (fgd on pods)" in err
    assert run(*SIMULATE, "--objective", "unallocated_pct_at_100<=100")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "magic"), "'magic': is unknown; choose from"),
        (("--seeds", "x"), "write e.g. 42,50-52"),
        (("--pods", "missing.csv"), "missing.csv: cannot be read"),
        (("--objective", "speed<=1"), "write FIGURE<=NUMBER"),
        (("--pods", "pods.csv"), "same name"),
        (("--out", "nodes.csv"), "cannot be written"),
    ],
)
def test_bad_input_is_one_message_and_exit_1(run: Run, words: tuple[str, ...], message: str) -> None:
    code, out, err = run(*SIMULATE, *words)
    assert code == 1
    assert message in err
    assert err.startswith("dovetail: ")
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    "words",
    [
        ("simulate",),
        ("simulate", "--nodes", "nodes.csv"),
        ("simulate", "--openb", ".", "--nodes", "nodes.csv"),
        (*SIMULATE, "--variant", "default"),
        (*SIMULATE, "-o", "xml"),
        (*SIMULATE, "--jobs", "-1"),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_2(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert err


def test_ctrl_c_keeps_what_is_finished_and_exits_130(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from simulator import sweep

    real, calls = sweep.run_fill, []

    def interrupted_at_the_third(spec: object) -> object:
        calls.append(spec)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(spec)  # type: ignore[arg-type]

    monkeypatch.setattr(sweep, "run_fill", interrupted_at_the_third)
    code, _, err = run(*SIMULATE, "--out", "partial")
    assert code == 130
    assert "kept 2 finished runs" in err
    result = json.loads((tmp_path / "partial/result.json").read_text())
    assert not result["complete"]
    assert len(result["runs"]) == 2
    assert "stopped early" in (tmp_path / "partial/report.html").read_text()


def test_bad_rows_are_refused_unless_skipping_was_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(PODS + "bad,1000,1024,1,5000\n")
    code, _, err = run(*SIMULATE)
    assert code == 1
    assert "pods.csv line 14" in err
    assert run(*SIMULATE, "--skip-bad", "--out", "there")[0] == 0
    assert json.loads((tmp_path / "there/result.json").read_text())["inputs"]["pods"][0]["rejected"] == 1


def test_a_wide_table_is_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 200
    print_rows([{"a": long, "b": 1.0, "c": None}], [Column("a", "A"), Column("b", "B", 1), Column("c", "C")], TABLE)
    assert capsys.readouterr().out.splitlines()[1].split() == [long, "1.0", "-"]


TABLE = OutputFormat.TABLE


REPLAY = ("simulate", "--protocol", "replay", "--cluster", str(EXAMPLES / "cluster.yaml"))


def test_a_replay_tells_how_long_jobs_wait(run: Run, tmp_path: Path) -> None:
    words = (*REPLAY, "--workload", str(EXAMPLES / "workload.csv"), "--policy", "dovetail,first-fit", "-o", "json")
    code, out, err = run(*words, "--out", "one")
    assert code == 0
    rows = json.loads(out)
    assert [row["policy"] for row in rows] == ["dovetail", "first-fit"]
    for row in rows:
        assert row["submitted"] == row["finished"] + row["running"] + row["queued"] + row["never_fits"] > 0
    assert err == f"result: {Path('one/result.json')}\n"
    assert run(*words, "--out", "two")[0] == 0
    written = (tmp_path / "one/result.json").read_bytes()
    assert written == (tmp_path / "two/result.json").read_bytes()
    assert json.loads(written)["schema"] == "dovetail.replay/v1"


@pytest.mark.parametrize(
    "words",
    [REPLAY, (*REPLAY, "--workload", "w.csv", "--seeds", "1"), (*SIMULATE, "--backfill")],
)
def test_options_of_the_two_protocols_do_not_mix(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


def test_a_missing_planner_library_is_named_with_its_remedy():
    without_numba = (
        "import sys; sys.modules['numba'] = None; sys.argv = ['dovetail', 'fit', '--nodes', 'nowhere', '--gpus', '1']; "
        "from dovetail.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", without_numba], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "dovetail: numba is missing; install the planner: pip install 'dovetail[planner]'\n"
