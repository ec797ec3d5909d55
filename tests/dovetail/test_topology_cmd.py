"""`dovetail topology` and `dovetail mig`: answers, exit codes and messages."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dovetail.topology_cmd import mig_app, topology_app
from topology import catalog

PAIRS = "a100-8-pcie-nvlink-pairs"


def _topology(*words: str) -> Result:
    return CliRunner().invoke(topology_app, list(words))


def _mig(*words: str) -> Result:
    return CliRunner().invoke(mig_app, list(words))


def _best(*words: str) -> dict[str, Any]:
    result = _topology("best", *words, "-o", "json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_the_list_names_every_machine() -> None:
    rows = json.loads(_topology("list", "-o", "json").stdout)
    assert [row["id"] for row in rows] == list(catalog.machine_names())
    assert "dgx1-v100" in _topology("list").stdout


def test_the_matrix_reads_as_people_know_it() -> None:
    shown = _topology("show", "dgx1-v100")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[1][:9] == ["GPU0", "X", "NV1", "NV1", "NV2", "NV2", "SYS", "SYS", "SYS"]
    assert "NVLink islands: {0,1,2,3,4,5,6,7}" in shown.stdout
    assert "NUMA nodes: 0: {0,1,2,3}, 1: {4,5,6,7}" in shown.stdout
    assert "GPU0 PIX mlx5_0" in shown.stdout


def test_machine_facts_come_as_json_yaml_and_csv() -> None:
    facts = json.loads(_topology("show", "summit-ac922", "-o", "json").stdout)
    assert facts["islands"] == [[0, 1, 2], [3, 4, 5]]
    assert facts["matrix"][0] == ["X", "NV2", "NV2", "SYS", "SYS", "SYS"]
    assert yaml.safe_load(_topology("show", "summit-ac922", "-o", "yaml").stdout) == facts
    rows = list(csv.DictReader(io.StringIO(_topology("show", "summit-ac922", "-o", "csv").stdout)))
    assert rows[5]["GPU3"] == "NV2"


def test_the_best_pair_is_the_double_link_and_what_stays_is_counted() -> None:
    answer = _best("dgx1-v100", "--free", "0,1,4,5", "--gpus", "2")
    assert answer["gpus"] == [0, 4]
    assert answer["quality_gbps"] == answer["ideal_gbps"] == 50
    assert answer["remaining"] == {"2": 1, "4": 0, "8": 0}
    assert "NVLink" in answer["why"]


def test_without_free_the_whole_machine_is_meant_and_ranges_work() -> None:
    assert _best("dgx1-v100", "--gpus", "4")["gpus"] == [0, 1, 2, 3]
    assert _best("dgx1-v100", "--free", "4-7", "--gpus", "4")["gpus"] == [4, 5, 6, 7]
    assert _best(PAIRS, "--free", "0-2,3,5", "--gpus", "1")["gpus"] == [5]


def test_an_answer_as_table_yaml_and_csv() -> None:
    words = ("best", PAIRS, "--free", "0,2,3", "--gpus", "2")
    assert "2,3" in _topology(*words).stdout
    assert yaml.safe_load(_topology(*words, "-o", "yaml").stdout)["gpus"] == [2, 3]
    assert next(csv.DictReader(io.StringIO(_topology(*words, "-o", "csv").stdout)))["gpus"] == "2,3"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--free", "0,5", "--gpus", "2", "--link", "require"), "NVLink"),
        (("--free", "0,1", "--gpus", "2", "--link", "require", "--min-gbps", "50"), "best free set has 25 GB/s"),
        (("--free", "0,1", "--gpus", "3"), "2 of 8 GPUs are free"),
        (("--gpus", "9"), "8 of 8"),
        (("--gpus", "2", "--free", ""), "0 of 8 GPUs are free"),
        (("--gpus", "1", "--free", " "), "0 of 8 GPUs are free"),
    ],
)
def test_what_does_not_fit_exits_3_and_says_why(words: tuple[str, ...], why: str) -> None:
    result = _topology("best", "dgx1-v100", *words, "-o", "json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["gpus"] == []
    assert why in answer["why"]


def test_a_requirement_that_holds_is_met() -> None:
    words = ("--free", "0,1,3", "--gpus", "2", "--link", "require", "--min-gbps", "40")
    assert _best("dgx1-v100", *words)["gpus"] == [0, 3]
    assert _best("dgx1-v100", "--gpus", "1", "--link", "require")["gpus"] == [0]


@pytest.mark.parametrize(
    "words",
    [
        ("best", "dgx1-v100"),
        ("best", "dgx1-v100", "--gpus", "0"),
        ("best", "dgx1-v100", "--gpus", "2", "--free", "0;1"),
        ("best", "dgx1-v100", "--gpus", "2", "--link", "fast"),
        ("best", "dgx1-v100", "--gpus", "2", "--min-gbps", "5"),
        ("show", "dgx1-v100", "-o", "xml"),
    ],
)
def test_wrong_usage_exits_2(words: tuple[str, ...]) -> None:
    assert _topology(*words).exit_code == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("show", "dgx-9"), "dgx-9"),
        (("show", "./nowhere.yaml"), "cannot be read"),
        (("best", "dgx1-v100", "--gpus", "1", "--free", "8"), "GPUs 0 to 7"),
        (("best", "dgx1-v100", "--gpus", "1", "--free", "3-1"), "3-1"),
        (("best", "dgx1-v100", "--gpus", "2", "--link", "require", "--min-gbps", "inf"), "--min-gbps: inf"),
        (("best", "dgx1-v100", "--gpus", "2", "--link", "require", "--min-gbps", "1e300"), "--min-gbps: 1e+300"),
        (("best", "dgx1-v100", "--gpus", "2", "--link", "require", "--min-gbps", "0.0004"), "--min-gbps: 0.0004"),
    ],
)
def test_bad_input_exits_1_with_one_line(words: tuple[str, ...], named: str) -> None:
    result = _topology(*words)
    assert result.exit_code == 1
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_a_machine_file_is_read_checked_and_its_mended_faults_are_told(tmp_path: Path) -> None:
    text = (Path(catalog.__file__).parent / "data" / "machines" / "rtx3090-2-nvlink.yaml").read_text()
    uneven = tmp_path / "box.yaml"
    uneven.write_text(text.replace("- [0, 4]", "- [0, 3]"))
    result = _topology("show", str(uneven))
    assert result.exit_code == 0
    assert "took 3" in result.stderr
    assert "NV3" in result.stdout
    uneven.write_text(text.replace("kind: bridge", "kind: rope"))
    assert "nvlink.kind" in _topology("show", str(uneven)).stderr
    uneven.write_bytes(b"\xff\xfe")
    assert "UTF-8" in _topology("show", str(uneven)).stderr


def test_mig_profiles_of_a_product() -> None:
    rows = json.loads(_mig("show", "NVIDIA A30", "-o", "json").stdout)
    assert rows[0]["profile"] == "1g.6gb"
    assert rows[0]["starts"] == "0 1 2 3"
    partial = _mig("show", "rtx-pro-4500-32gb")
    assert partial.exit_code == 0
    assert "never published" in partial.stderr


def test_the_best_mig_start_and_what_fits_beside_it() -> None:
    words = ("best", "NVIDIA A100-SXM4-80GB", "--occupied", "3g.40gb@0", "--profile", "1g.10gb", "-o", "json")
    answer = json.loads(_mig(*words).stdout)
    assert answer["profile"] == "1g.10gb"
    assert answer["start"] == 6
    assert answer["remaining"]["2g.20gb"] == 1


@pytest.mark.parametrize(
    ("occupied", "profile", "why"),
    [("1g.10gb@0,1g.10gb@4", "3g.40gb", "no legal start"), ("1g.10gb+me@0", "1g.10gb+me", "engines")],
)
def test_a_partition_that_does_not_fit_exits_3(occupied: str, profile: str, why: str) -> None:
    result = _mig("best", "a100-80gb", "--occupied", occupied, "--profile", profile, "-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["start"] is None
    assert why in json.loads(result.stdout)["why"]


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("best", "a100-80gb", "--occupied", "3g.40gb", "--profile", "1g.10gb"), 2, "3g.40gb@0"),
        (("best", "a100-80gb", "--occupied", "3g.40gb@1", "--profile", "1g.10gb"), 1, "starts: 0, 4"),
        (("best", "a100-80gb", "--occupied", "3g.40gb@0,4g.40gb@0", "--profile", "1g.10gb"), 1, "overlaps"),
        (("best", "a100-80gb", "--profile", "9g.1gb"), 1, "known: 1g.10gb"),
        (("best", "Tesla T4", "--profile", "1g.10gb"), 1, "Tesla T4"),
        (("best", "rtx-pro-4500-32gb", "--profile", "1g.16gb"), 1, "never published"),
    ],
)
def test_faults_in_mig_questions_are_named(words: tuple[str, ...], code: int, named: str) -> None:
    result = _mig(*words)
    assert result.exit_code == code
    assert named in result.stderr


def test_loading_the_commands_loads_nothing_heavy() -> None:
    heavy = "('numba', 'networkx', 'scipy', 'numpy', 'rich.table')"
    code = f"import sys, dovetail.topology_cmd; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_is_no_yaml_is_told_from_an_unknown_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.csv").write_text("claim,node\nx,y\n")
    Path("dgx1-v100").write_text("claim,node\nx,y\n")
    assert "is no YAML mapping" in _topology("show", "p.csv").stderr
    assert "is not known" in _topology("show", "q.csv").stderr
    assert _topology("show", "dgx1-v100").exit_code == 0


def test_what_stays_free_is_said_in_words_where_it_is_nothing() -> None:
    assert _best("dgx1-v100", "--gpus", "8")["why"].endswith("; no GPU stays free")
    assert _best("dgx1-v100", "--gpus", "2", "--free", "0,3,5")["why"].endswith("; GPUs {5} stay free")


def test_one_gpu_has_no_quality_in_tables() -> None:
    row = next(csv.DictReader(io.StringIO(_topology("best", "dgx1-v100", "--gpus", "1", "-o", "csv").stdout)))
    assert (row["quality_gbps"], row["ideal_gbps"]) == ("", "")


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a device that is always full is a thing of Linux")
@pytest.mark.parametrize("form", ["table", "json"])
def test_an_answer_that_cannot_be_written_ends_with_one_line(form: str) -> None:
    with FULL.open("w") as full:
        words = [sys.executable, "-m", "dovetail", "topology", "list", "-o", form]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["dovetail: the answer cannot be written: No space left on device"]


def test_a_reader_that_went_away_is_no_news() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "dovetail", "topology", "list", "-o", "json"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
