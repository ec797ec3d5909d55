"""What `fit`, `snapshot`, `explain pod` and `simulate` answer of snapshots: forms, exit codes, bad input."""

from __future__ import annotations

import gzip
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from dovetail.cli import app
from tests.kube.askfiles import CLASSES, claim, pod, request, slices
from topology.errors import InvalidInputError

KEYS = ["fits", "node", "error", "claims", "reasons", "nearest"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    held = claim("held", devices=[f"gpu-{at}" for at in range(8)], node="node-1", user="web")
    web = pod("web", "held", nodeName="node-1")
    web["metadata"]["uid"] = "uid-user-held"
    waiting = pod("waiting", "nine")
    items = [*CLASSES, *slices("node-0", "node-1"), held, web, claim("nine", request(count=9)), waiting]
    (tmp_path / "cluster.json").write_text(json.dumps({"kind": "List", "items": items}))
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(claim("pair", request(count=2))))
    (tmp_path / "nine.yaml").write_text(yaml.safe_dump(claim("more", request(count=9))))
    two = [claim("a", request(count=4)), claim("b", request(count=4))]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump_all(two))
    (tmp_path / "list.json").write_text(json.dumps({"kind": "List", "items": two}))
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def fit(folder: Path, question: str, *more: object) -> Result:
    return run("fit", folder / question, "--snapshot", folder / "cluster.json", *more)


def test_the_answer_has_just_the_keys_it_should_in_json_and_yaml(folder: Path) -> None:
    found = fit(folder, "pair.yaml", "-o", "json")
    answer = json.loads(found.stdout)
    assert (found.exit_code, list(answer), answer["node"]) == (0, KEYS, "node-0")
    assert yaml.safe_load(fit(folder, "pair.yaml", "-o", "yaml").stdout) == answer
    assert "fits on node-0" in fit(folder, "pair.yaml").stdout
    refused = fit(folder, "nine.yaml", "-o", "json")
    answer = json.loads(refused.stdout)
    assert (refused.exit_code, list(answer), answer["claims"]) == (3, KEYS, [])
    assert list(answer["reasons"]) == ["node-0", "node-1"]
    assert answer["nearest"][0].keys() == {"kind", "text", "node", "devices"}
    shown = fit(folder, "nine.yaml")
    assert shown.exit_code == 3
    assert "would fit: ask 8 devices instead of 9 in request gpu of claim default/more -> node-0" in shown.stdout
    assert "\x1b" not in shown.stdout


@pytest.mark.parametrize("question", ["two.yaml", "list.json"])
def test_documents_and_lists_are_claims_of_one_pod(folder: Path, question: str) -> None:
    answer = json.loads(fit(folder, question, "-o", "json").stdout)
    assert [each["name"] for each in answer["claims"]] == ["a", "b"]


def test_as_many_as_fit(folder: Path) -> None:
    most = json.loads(fit(folder, "pair.yaml", "--replicas", "max", "-o", "json").stdout)
    assert (most["fits"], most["replicas"], len(most["placements"])) == (True, 4, 4)
    some = fit(folder, "pair.yaml", "--replicas", 5, "-o", "json")
    assert (some.exit_code, json.loads(some.stdout)["fits"]) == (3, False)
    assert fit(folder, "pair.yaml", "--replicas", 4).exit_code == 0


def test_one_node(folder: Path) -> None:
    answer = json.loads(fit(folder, "pair.yaml", "--node", "node-1", "-o", "json").stdout)
    assert (answer["fits"], list(answer["reasons"])) == (False, ["node-1"])
    kinds = [each["kind"] for each in answer["nearest"]]
    assert kinds == ["node", "free"]


@pytest.mark.parametrize(
    "words",
    [
        ["pair.yaml"],
        ["--snapshot", "cluster.json"],
        ["pair.yaml", "--snapshot", "cluster.json", "--gpus", "2"],
        ["pair.yaml", "--snapshot", "cluster.json", "--cluster", "c.yaml"],
        ["pair.yaml", "--snapshot", "cluster.json", "--replicas", "some"],
        ["pair.yaml", "--snapshot", "cluster.json", "-o", "csv"],
        ["pair.yaml", "--snapshot", "cluster.json", "--policy", "luck"],
        ["--cluster", "c.yaml", "--gpus", "1", "--node", "n"],
        ["--cluster", "c.yaml", "--gpus", "1", "--driver", "d"],
    ],
)
def test_wrong_usage_exits_with_2(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(folder)
    assert run("fit", *words).exit_code == 2


BAD: dict[str, tuple[bytes, str]] = {
    "binary": (b"\xff\xfe\x00", "is not UTF-8"),
    "broken JSON": (b"{", "is not JSON"),
    "broken YAML": (b"a: [", "is not YAML"),
    "a number": (b"7", "is int, not an object"),
    "empty": (b"", "holds neither"),
    "aliases": (b"kind: &a Pod\nmetadata: {name: *a}", "uses the YAML alias"),
    "a key twice": (b"kind: Pod\nkind: Pod", "repeats the key"),
    "deep": (b'{"kind": "Pod", "metadata": ' + b"[" * 5000 + b"]" * 5000 + b"}", "metadata"),
    "large": (b"#" * (2**20 + 1), "holds more than"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_with_1_and_says_what_is_wrong(folder: Path, case: str) -> None:
    content, words = BAD[case]
    (folder / "bad").write_bytes(content)
    found = fit(folder, "bad")
    assert found.exit_code == 1
    assert isinstance(found.exception, InvalidInputError)
    assert words in str(found.exception)


def test_what_of_a_snapshot_is_malformed_is_told_and_left_out(folder: Path) -> None:
    document = json.loads((folder / "cluster.json").read_text())
    document["items"].append({"kind": "Node", "metadata": {"name": "odd", "labels": 7}})
    (folder / "cluster.json").write_bytes(b"")
    with gzip.open(folder / "cluster.json.gz", "wt") as file:
        json.dump(document, file)
    found = run("fit", folder / "pair.yaml", "--snapshot", folder / "cluster.json.gz")
    assert found.exit_code == 0
    assert "left out: Node odd" in found.stderr
    assert run("fit", folder / "pair.yaml", "--snapshot", folder / "cluster.json").exit_code == 1


def test_explain_pod_says_why_it_waits_or_is_where_it_is(folder: Path) -> None:
    there = ("--snapshot", folder / "cluster.json")
    waiting = run("explain", "pod", "default/waiting", *there)
    assert waiting.exit_code == 3
    assert waiting.stdout.startswith("default/waiting: does not fit")
    assert "would fit: ask 8 devices instead of 9" in waiting.stdout
    web: Any = json.loads(run("explain", "pod", "web", *there, "-o", "json").stdout)
    assert (web["bound"], web["why"]["second"]["node"]) == ("node-1", "node-0")
    assert web["why"]["chosen"]["score"] == pytest.approx(sum(web["why"]["chosen"]["terms"].values()))
    node: Any = json.loads(run("explain", "pod", "waiting", *there, "--node", "node-1", "-o", "json").stdout)
    assert {tuple(each["held_by"]) for each in node["devices"] if each["reason"] == "in use"} == {("default/web",)}
    assert "HELD BY" in run("explain", "pod", "waiting", *there, "--node", "node-1").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["pod", "default/none", "--snapshot", "cluster.json"], 1),
        (["pod", "a/b/c", "--snapshot", "cluster.json"], 2),
        (["pod", "web", "--snapshot", "cluster.json", "--server", "http://127.0.0.1:1"], 2),
        (["pod", "web", "--server", "ftp://127.0.0.1"], 2),
        (["pod", "web", "--server", "http://127.0.0.1:1"], 1),
        (["pod", "web", "--snapshot", "cluster.json", "--node", "none"], 1),
        (["--gpus", "1", "pod", "web", "--snapshot", "cluster.json"], 2),
    ],
)
def test_explain_pod_with_bad_input(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int) -> None:
    monkeypatch.chdir(folder)
    assert run("explain", *words).exit_code == code


def test_a_snapshot_is_for_its_owner_alone_and_can_be_anonymized_later(folder: Path) -> None:
    words = ("snapshot", "--from", folder / "cluster.json", "--anonymize", "-o", folder / "hidden.json")
    found = run(*words)
    assert found.exit_code == 0
    assert "ResourceSlice" in found.stderr
    assert stat.S_IMODE((folder / "hidden.json").stat().st_mode) == 0o600
    assert "web" not in (folder / "hidden.json").read_text()
    assert run("snapshot", "--from", folder / "cluster.json", "--kubeconfig", "k", "-o", "-").exit_code == 2
    assert run("snapshot", "--kubeconfig", folder / "none", "-o", folder / "x").exit_code == 1
    assert not (folder / "x").exists()


def test_a_replay_runs_beside_what_is_there(folder: Path) -> None:
    (folder / "jobs.csv").write_text("submit_s,duration_s,kind,gpus,count\n0,100,whole,8,2\n")
    words = ("--protocol", "replay", "--workload", folder / "jobs.csv", "--out", folder / "out", "-o", "json")
    found = run("simulate", *words, "--policy", "fgd", "--snapshot", folder / "cluster.json")
    (row,) = json.loads(found.stdout)
    # One node is taken: the second job waits for the first.
    assert (row["finished"], row["wait_p99_s"]) == (2, 100)
    assert run("simulate", *words, "--snapshot", folder / "cluster.json", "--cluster", "c.yaml").exit_code == 2
    assert run("simulate", "--snapshot", folder / "cluster.json").exit_code == 2
