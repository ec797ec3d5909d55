"""`dovetail fit` and `dovetail explain`: numbers, reasons, exit codes and what programs read."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dovetail.cli import app, main
from dovetail.demand_options import DemandOptions
from packing.model import Demand, PartitionRequest, Selector, ShareRequest, WholeRequest
from topology.errors import InvalidInputError

CLUSTER = """
schemaVersion: cluster/v1
pools:
  - {name: h100, count: 2, machine: hgx-h100-8, cpu: 96, memory: 1Ti}
  - {name: a100, count: 1, machine: dgx-a100-40, cpu: 96, memory: 1Ti, mig: dynamic}
  - {name: cpu, count: 1, cpu: 8, memory: 32Gi}
"""
RUNNING = """claim,node,kind,gpus,profile,share_compute_milli,cpu_milli,memory_mib
big,h100-0000,whole,0-5,,,48000,1024
small,h100-0001,whole,"1,3,5",,,88000,1024
cut,a100-0000,partition,0,3g.20gb@0,,1000,1024
pair,a100-0000,whole,1-7,,,1000,1024
"""


@pytest.fixture
def cluster(tmp_path: Path) -> list[str]:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "running.csv").write_text(RUNNING)
    return ["--cluster", str(tmp_path / "cluster.yaml"), "--running", str(tmp_path / "running.csv")]


@pytest.fixture
def nodes(tmp_path: Path) -> list[str]:
    """An openb node list says nothing about links."""
    (tmp_path / "nodes.csv").write_text(
        "sn,cpu_milli,memory_mib,gpu,model\na,64000,1000,2,T4\nb,64000,1000,8,V100M32\n"
    )
    return ["--nodes", str(tmp_path / "nodes.csv")]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def answer(*words: str) -> dict[str, Any]:
    result = run(*words, "-o", "json")
    assert result.exit_code in (0, 3), result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_fit_counts_places_and_says_what_stops_the_next_one(cluster: list[str]) -> None:
    found = answer("fit", *cluster, "--gpus", "2", "--link", "require", "--cpu", "4")
    assert found["schema"] == "dovetail.fit/v1"
    # Two GPUs are free on h100-0000; of the five on h100-0001 four could be used, and 8 cores serve two pods.
    assert found["fits"] == 3
    assert found["per_node"] == {"h100-0001": 2, "h100-0000": 1}
    taken = {(p["node"], g) for p in found["placements"] for r in p["requests"] for g in r["gpus"]}
    assert len(taken) == 6
    assert taken & {("h100-0000", g) for g in range(6)} == set()
    assert sum(reason["nodes"] for reason in found["refusal"]["reasons"]) == 4
    assert found["refusal"]["line"].startswith("0/4 nodes: ")


def test_nearest_never_frees_what_was_just_placed(cluster: list[str]) -> None:
    found = answer("fit", *cluster, "--gpus", "2", "--cpu", "4")
    freed = [change["text"] for change in found["nearest"] if change["kind"] == "free"]
    assert freed
    assert "claim fit/" not in freed[0]


@pytest.mark.parametrize(("replicas", "code", "count"), [("3", 0, 3), ("4", 3, 3), ("max", 0, 3)])
def test_exit_code_says_whether_all_replicas_fit(cluster: list[str], replicas: str, code: int, count: int) -> None:
    words = ["fit", *cluster, "--gpus", "2", "--cpu", "4", "--replicas", replicas, "-o", "json"]
    result = run(*words)
    assert result.exit_code == code
    assert json.loads(result.stdout)["fits"] == count


def test_a_partition_names_profile_and_start(cluster: list[str]) -> None:
    found = answer("fit", *cluster, "--profile", "2g.10gb", "--replicas", "1")
    (placement,) = found["placements"]
    assert placement["node"] == "a100-0000"
    assert placement["requests"] == [{"gpus": [0], "profile": "2g.10gb", "start": 4, "quality_gbps": 0.0}]
    assert found["refusal"] is None


def test_the_table_is_short_and_uncoloured_in_a_pipe(cluster: list[str]) -> None:
    shown = run("fit", *cluster, "--gpus", "6", "--cpu", "4")
    assert shown.exit_code == 3
    lines = shown.stdout.splitlines()
    assert lines[0] == "0 fit: 6 GPUs, 4 cores"
    assert [line.split(":")[0] for line in lines[2:]] == ["next one", "would fit", "or", "or"]
    assert "\x1b" not in shown.stdout


def test_all_forms_say_the_same(cluster: list[str]) -> None:
    words = ("fit", *cluster, "--gpus", "1")
    found = answer(*words)
    assert yaml.safe_load(run(*words, "-o", "yaml").stdout) == found
    rows = list(csv.DictReader(io.StringIO(run(*words, "-o", "csv").stdout)))
    assert [row["node"] for row in rows] == [placement["node"] for placement in found["placements"]]
    assert f"{found['fits']} fit" in run(*words).stdout


def test_explain_groups_the_reasons_of_all_nodes(cluster: list[str]) -> None:
    found = answer("explain", *cluster, "--gpus", "4", "--cpu", "16")
    assert found["fitting_nodes"] == 0
    assert found["per_node"] == {
        "a100-0000": "no GPU free",
        "cpu-0000": "no GPU",
        "h100-0000": "fewer than 4 GPUs free (most 2)",
        "h100-0001": "not enough CPU (most 8 cores)",
    }
    assert sum(reason["nodes"] for reason in found["reasons"]) == 4


def test_explain_shows_one_node_gpu_by_gpu(cluster: list[str]) -> None:
    found = answer("explain", *cluster, "--gpus", "4", "--node", "h100-0000")
    assert (found["fits"], found["reason"]) == (False, "fewer than 4 GPUs free (most 2)")
    assert [gpu["why_not"] for gpu in found["gpus"]] == ["in use"] * 6 + [None] * 2
    assert found["gpus"][0]["claims"] == ["big"]
    shown = run("explain", *cluster, "--profile", "7g.40gb", "--node", "a100-0000").stdout
    assert "MIG, 4/8 slices left" in shown
    assert "no room for 7g.40gb (largest 3g.20gb)" in shown


def test_running_work_reads_the_same_from_json(cluster: list[str], tmp_path: Path) -> None:
    claims = [
        {"claim": "big", "node": "h100-0000", "kind": "whole", "gpus": [0, 1, 2, 3, 4, 5], "cpu_milli": 48000},
        {"claim": "small", "node": "h100-0001", "kind": "whole", "gpus": [1, 3, 5], "cpu_milli": 88000},
        {"claim": "cut", "node": "a100-0000", "kind": "partition", "gpus": 0, "profile": "3g.20gb@0"},
        {"claim": "pair", "node": "a100-0000", "kind": "whole", "gpus": "1-7"},
    ]
    path = tmp_path / "running.json"
    path.write_text(json.dumps({"schema": "dovetail.running/v1", "claims": claims}))
    words = ("--gpus", "2", "--cpu", "4")
    from_json = answer("fit", *cluster[:2], "--running", str(path), *words)
    assert from_json["placements"] == answer("fit", *cluster, *words)["placements"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--gpus", "1", "--profile", "1g.5gb"),
        ("--gpus", "1", "--link", "fast"),
        ("--gpus", "1", "--link", "prefer", "--min-gbps", "10"),
        ("--share-compute", "100", "--sharing", "turns"),
        ("--gpus", "1", "--replicas", "many"),
        ("--cpu", "1", "--product", "T4"),
        ("--link", "require"),
        ("--min-gpu-memory", "40Gi"),
        ("--profile", "1g.10gb", "--min-gpu-memory", "40Gi"),
        ("--nodes", "nodes.csv", "--gpus", "1"),
        ("--cpu", "many"),
        ("--cpu", "-1"),
        ("--gpus", "1", "--memory", "4x"),
        ("--min-memory", "4 Gi"),
        ("--share-memory", ""),
        ("--gpus", "1", "--min-gpu-memory", "lots"),
    ],
)
def test_wrong_usage_exits_with_2(cluster: list[str], words: tuple[str, ...]) -> None:
    assert run("fit", *cluster, *words).exit_code == 2


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("x,h100-0000,whole,0,,,,", "is not free on GPUs 0"),
        ("x,nowhere,whole,0,,,,", "nowhere is not in the cluster"),
        ("x,h100-0000,whole,9-3,,,,", "write indices"),
        ("x,h100-0000,fish,0,,,,", "is unknown"),
        ("x,a100-0000,partition,0,2g.10gb,,,", "PROFILE@SLICE"),
        ("x,a100-0000,partition,0,2g.10gb@1,,,", "is not free on GPUs 0"),
        ("x,h100-0000,share,7,,1100,,", "out of range"),
        ("x,h100-0000,whole,7 7,,,,", "each once"),
    ],
)
def test_impossible_running_work_is_told_without_a_traceback(
    cluster: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    row: str,
    complaint: str,
) -> None:
    (tmp_path / "running.csv").write_text(RUNNING + row + "\n")
    monkeypatch.setattr("sys.argv", ["dovetail", "fit", *cluster, "--gpus", "1"])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("dovetail: ")
    assert complaint in told
    assert len(told.splitlines()) <= 2


def test_an_openb_node_list_is_a_cluster_too(nodes: list[str]) -> None:
    assert answer("fit", *nodes, "--gpus", "1", "--product", "T4")["per_node"] == {"a": 2}


def refused(*words: str) -> str:
    """Return the message of bad input, of which `main` makes one line and exit code 1."""
    result = run(*words)
    assert isinstance(result.exception, InvalidInputError), result.output
    return str(result.exception)


@pytest.mark.parametrize("gbps", ["inf", "1e300", "0.0004"])
def test_a_link_minimum_that_no_set_can_have_is_bad_input(cluster: list[str], gbps: str) -> None:
    assert refused("fit", *cluster, "--gpus", "2", "--min-gbps", gbps).startswith("--min-gbps: ")


def test_not_a_number_is_no_link_minimum(cluster: list[str]) -> None:
    assert run("fit", *cluster, "--gpus", "2", "--min-gbps", "nan").exit_code in (1, 2)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--cpu", "9e25"), "--cpu: '9e25' is larger"),
        (("--cpu", "1e10"), "--cpu: '1e10' is more than"),
        (("--memory", "9e18"), "--memory: '9e18' is more than"),
        (("--min-memory", "0"), "ask for memory or SMs"),
    ],
)
def test_amounts_that_parse_and_mean_nothing_are_bad_input(
    cluster: list[str], words: tuple[str, ...], named: str
) -> None:
    assert named in refused("fit", *cluster, *words)


@pytest.mark.parametrize("command", ["fit", "explain"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--gpus", "1", "--product", "nope"), "'nope'; it has NVIDIA A100-SXM4-40GB, NVIDIA H100 80GB HBM3"),
        (("--gpus", "1", "--product", "nvidia h100 80gb hbm3"), "did you mean 'NVIDIA H100 80GB HBM3'?"),
        (("--share-compute", "5", "--product", "a", "--product", "b"), "'a'"),
        (("--profile", "nope"), "'nope'; the cluster has 1g.10gb, "),
        (("--profile", "1G.5GB"), "did you mean '1g.5gb'?"),
    ],
)
def test_a_name_that_nothing_here_has_is_bad_input(
    cluster: list[str], command: str, words: tuple[str, ...], named: str
) -> None:
    assert named in refused(command, *cluster, *words)


def test_a_profile_of_other_products_is_a_fair_question(cluster: list[str]) -> None:
    assert answer("fit", *cluster, "--profile", "1g.6gb")["fits"] == 0


def test_a_missing_alternative_is_told_and_the_others_count(cluster: list[str]) -> None:
    result = run("fit", *cluster, "--gpus", "1", "--product", "NVIDIA H100 80GB HBM3", "--product", "nope")
    assert result.exit_code == 0
    assert "no GPU of the cluster is 'nope'" in result.stderr


def test_unknown_links_are_said_to_be_unknown(nodes: list[str]) -> None:
    found = answer("fit", *nodes, "--gpus", "8", "--link", "require")
    assert found["refusal"]["line"] == "0/2 nodes: 1 fewer than 8 GPUs (most 2), 1 links unknown"
    shown = run("fit", *nodes, "--gpus", "8").stdout
    assert "GB/S" not in shown
    assert "links unknown" in shown


def test_no_quality_is_shown_where_there_is_none(cluster: list[str], nodes: list[str]) -> None:
    for words in ((*nodes, "--gpus", "8"), (*cluster, "--gpus", "1"), (*cluster, "--profile", "2g.10gb")):
        rows = list(csv.DictReader(io.StringIO(run("fit", *words, "-o", "csv").stdout)))
        assert {row["quality_gbps"] for row in rows} == {""}
    rows = list(csv.DictReader(io.StringIO(run("fit", *cluster, "--gpus", "2", "-o", "csv").stdout)))
    assert all(float(row["quality_gbps"]) > 0 for row in rows)


def demand_of(**asked: str | int) -> Demand:
    words: dict[str, Any] = {field.name: None for field in fields(DemandOptions)} | {"cpu": "0", "memory": "0"} | asked
    return DemandOptions(**words).demand()


def test_a_demand_is_rounded_up_never_down() -> None:
    assert demand_of(cpu="0.0001", memory="1").cpu_milli == 1
    assert demand_of(cpu="1500u", memory="1048577").memory_mib == 2
    assert demand_of(cpu="500m", memory="1Mi") == Demand(cpu_milli=500, memory_mib=1)
    assert demand_of(min_memory="20.0001Gi").requests == (PartitionRequest(min_memory_mib=20 * 1024 + 1),)
    assert demand_of(share_memory="1").requests == (ShareRequest(memory_mib=1),)
    selector = Selector(min_memory_mib=40 * 1024 + 1)
    assert demand_of(gpus=1, min_gpu_memory="41943041Ki").requests == (WholeRequest(selector=selector),)


def test_whole_gpus_of_a_least_memory(cluster: list[str]) -> None:
    found = answer("fit", *cluster, "--gpus", "1", "--min-gpu-memory", "60Gi")
    assert set(found["per_node"]) == {"h100-0000", "h100-0001"}
    found = answer("explain", *cluster, "--gpus", "1", "--min-gpu-memory", "60Gi")
    assert found["per_node"]["a100-0000"] == "no GPU with 60 GiB"


def test_a_cluster_and_a_node_list_are_not_both(cluster: list[str], nodes: list[str]) -> None:
    assert "not both" in run("fit", *cluster, *nodes, "--gpus", "1").stderr


def test_many_cores_are_printed_plainly(cluster: list[str]) -> None:
    shown = run("fit", *cluster, "--cpu", "1e9").stdout
    assert "1000000000 cores" in shown
    assert "1e+09" not in shown
