"""What people are told is what happens: snapshots by kubectl and by us, `fit` and a running scheduler, `explain`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dovetail.cli import app
from dra_driver.publish import DRIVER_NAME
from sandbox import objects, tools
from sandbox.testbed import Testbed
from tests.scheduler.harness import NAME, OurScheduler, add_gpu_nodes

MACHINE = "a100-8-pcie-nvlink-pairs"
LISTED = "nodes,namespaces,pods,resourceslices,resourceclaims,resourceclaimtemplates,deviceclasses"


@pytest.fixture
def ours(testbed: Testbed) -> Iterator[OurScheduler]:
    add_gpu_nodes(testbed, {MACHINE: 2})
    ours = OurScheduler.start(testbed.control_plane)
    yield ours
    ours.stop()


def told(*words: object, code: int = 0) -> Any:
    """What a command answers as JSON."""
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def by_kubectl(testbed: Testbed, path: Path) -> Path:
    program = tools.provide(["kubectl"])["kubectl"]
    words = [program, "--kubeconfig", testbed.control_plane.kubeconfig, "--cache-dir", path.parent / "cache"]
    done = subprocess.run([*words, "get", LISTED, "-A", "-o", "json"], capture_output=True, check=True)
    path.write_bytes(done.stdout)
    return path


def by_us(testbed: Testbed, path: Path, *more: str) -> Path:
    words = ["snapshot", "--kubeconfig", str(testbed.control_plane.kubeconfig), "-o", str(path), *more]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return path


def written(testbed: Testbed, name: str) -> dict[str, Any]:
    """The allocation that was written, without what is drawn anew each time."""
    stored = testbed.api.get(objects.claim(testbed.namespace, name, ""))
    allocation: dict[str, Any] = stored["status"]["allocation"]
    return {key: each for key, each in allocation.items() if key != "allocationTimestamp"}


@pytest.mark.cluster
def test_what_fit_says_of_a_snapshot_is_what_the_scheduler_does(
    testbed: Testbed, ours: OurScheduler, tmp_path: Path
) -> None:
    space = testbed.namespace
    for name, count in {"one": 1, "five": 5, "two": 2}.items():
        manifests = [
            objects.claim(space, name, DRIVER_NAME, count=count),
            objects.pod(space, f"p-{name}", claim=name, scheduler=NAME),
        ]
        asked = tmp_path / f"{name}.json"
        asked.write_text(json.dumps({"kind": "List", "items": manifests}))
        kubectls, mine = by_kubectl(testbed, tmp_path / "kubectl.json"), by_us(testbed, tmp_path / "ours.json")
        hidden = by_us(testbed, tmp_path / "hidden.json", "--anonymize")
        answers = [told("fit", asked, "--snapshot", path, "-o", "json") for path in (kubectls, mine)]
        assert answers[0] == answers[1]
        testbed.api.create(manifests[0])
        pod = testbed.run(manifests[1])
        (claim,) = answers[0]["claims"]
        assert (answers[0]["node"], claim["name"]) == (pod["spec"]["nodeName"], name)
        assert claim["allocation"] == written(testbed, name)
        text = hidden.read_text()
        assert space not in text
        assert pod["spec"]["nodeName"] not in text
        assert pod["metadata"]["uid"] not in text
    # A node has eight.
    waiting = objects.claim(space, "nine", DRIVER_NAME, count=9)
    testbed.api.create(waiting)
    testbed.api.create(objects.pod(space, "p-nine", claim="nine", scheduler=NAME))
    testbed.api.wait(objects.pod(space, "p-nine"), unschedulable, what="to be told why")
    mine = by_us(testbed, tmp_path / "ours.json")
    from_file = told("explain", "pod", f"{space}/p-nine", "--snapshot", mine, "-o", "json", code=3)
    from_server = told("explain", "pod", f"{space}/p-nine", "--server", ours.extender.url, "-o", "json", code=3)
    live = ("--kubeconfig", testbed.control_plane.kubeconfig)
    from_cluster = told("explain", "pod", f"{space}/p-nine", *live, "-o", "json", code=3)
    assert from_file == from_cluster
    assert from_server.pop("promised") == []
    assert of_our_machines(from_server) == of_our_machines(from_file)
    assert {each["kind"] for each in from_file["nearest"]} == {"count"}
    assert len(of_our_machines(from_file)["reasons"]) == 2
    placed = told("explain", "pod", f"{space}/p-two", "--server", ours.extender.url, "-o", "json")
    assert placed["why"]["chosen"]["node"] == placed["node"] == placed["bound"]
    assert placed["why"]["second"]["node"] != placed["node"]
    assert placed["why"]["chosen"]["score"] == pytest.approx(sum(placed["why"]["chosen"]["terms"].values()))
    node = told(
        "explain",
        "pod",
        f"{space}/p-nine",
        "--node",
        placed["node"],
        "--server",
        ours.extender.url,
        "-o",
        "json",
        code=3,
    )
    held = [each for each in node["devices"] if f"{space}/p-two" in each["held_by"]]
    assert {each["reason"] for each in held} == {"in use"}
    assert len(held) == 2


def of_our_machines(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out other nodes: a running scheduler leaves the taints of nodes to kube-scheduler to tell of."""
    reasons = {node: each for node, each in found["reasons"].items() if node.startswith(MACHINE)}
    return {key: each for key, each in found.items() if key != "summary"} | {"reasons": reasons}


def unschedulable(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "PodScheduled" and each["status"] == "False" for each in conditions)
