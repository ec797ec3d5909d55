"""What `--nodes` may say, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dovetail import sandbox_cmd_gpus as gpus
from dovetail.sandbox_cmd import DEFAULT_NODES, sandbox_app
from dovetail.sandbox_cmd_home import Home
from dovetail.sandbox_cmd_status import counted
from topology.catalog import machine, machine_names
from topology.errors import InvalidInputError

EXAMPLES = Path(__file__).parents[2] / "examples" / "sandbox"


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("", {}),
        ("0xl4-8-pcie", {}),
        ("hgx-h100-8", {"hgx-h100-8": 1}),
        ("4xhgx-h100-8, 2xl4-8-pcie", {"hgx-h100-8": 4, "l4-8-pcie": 2}),
        ("l4-8-pcie,2xl4-8-pcie", {"l4-8-pcie": 3}),
        ("2xdgx1-v100", {"dgx1-v100": 2}),
    ],
)
def test_nodes_are_counted_by_machine(text: str, nodes: dict[str, int]) -> None:
    assert gpus.parse_nodes(text) == nodes
    assert gpus.parse_nodes(gpus.nodes_text(nodes)) == nodes


def test_every_machine_of_the_catalog_can_be_asked_for() -> None:
    text = ",".join(f"2x{name}" for name in machine_names())
    assert gpus.parse_nodes(text) == dict.fromkeys(machine_names(), 2)
    assert gpus.parse_nodes(DEFAULT_NODES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2xhgx-h100", "--nodes: 2xhgx-h100: no such machine; did you mean hgx-h100-8"),
        ("HGX-H100-8", "did you mean hgx-h100-8"),
        ("l4", "did you mean l4-8-pcie"),
        ("nothing-like-it", "no such machine; `dovetail topology list`"),
        ("-2xl4-8-pcie", "no such machine; did you mean l4-8-pcie"),
        ("4 l4-8-pcie", "write COUNTxMACHINE"),
        ("1000xl4-8-pcie,t4-8-pcie", "1001 nodes; at most 1000"),
        ("99999xl4-8-pcie", "99999 nodes; at most 1000"),
        (f"{'9' * 5000}xl4-8-pcie", "no such machine"),
        ("\N{ARABIC-INDIC DIGIT THREE}xl4-8-pcie", "no such machine"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as fault:
        gpus.parse_nodes(text)
    assert said in str(fault.value)


def test_every_gpu_of_a_node_is_announced_once_and_its_slices_belong_to_the_node() -> None:
    nodes = {"hgx-h100-8": 2, "t4-4-pcie": 1}
    uids = {name: f"uid-of-{name}" for names in gpus.names_by_machine(nodes).values() for name in names}
    wholes = dict.fromkeys(uids, 0)
    for manifest in gpus.slice_manifests(nodes, uids, (1, 36)):
        node = manifest["spec"]["nodeName"]
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["name"], owner["uid"]) == (node, uids[node])
        devices = manifest["spec"].get("devices", [])
        wholes[node] += sum(device["attributes"]["type"]["string"] == "gpu" for device in devices)
    counts = {name: machine(name.rpartition("-")[0]).gpu_count for name in uids}
    assert wholes == counts


@pytest.mark.parametrize("version", [(1, 34), (1, 35)])
def test_older_api_servers_are_told_of_whole_gpus_without_counters(version: tuple[int, int]) -> None:
    """Before 1.36 the fields for it are dropped or refused by default (KEP-4815, KEP-5075)."""
    (manifest,) = gpus.slice_manifests({"hgx-h100-8": 1}, {"hgx-h100-8-0": "uid"}, version)
    assert "sharedCounters" not in manifest["spec"]
    assert [device["name"] for device in manifest["spec"]["devices"]] == [f"gpu-{index}" for index in range(8)]
    assert not any("consumesCounters" in device for device in manifest["spec"]["devices"])


def test_examples_ask_for_classes_that_are_there() -> None:
    manifests = [one for path in EXAMPLES.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    named = {one["metadata"]["name"] for one in [*manifests, *gpus.class_manifests()] if one["kind"] == "DeviceClass"}
    asked = {
        request["exactly"]["deviceClassName"]
        for one in manifests
        if one["kind"] == "ResourceClaimTemplate"
        for request in one["spec"]["spec"]["devices"]["requests"]
    }
    assert asked <= named
    assert {f"{kind}gpu.dovetail.dev" for kind in ("", "mig.", "mps.")} <= asked


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["down"], 0, "was not running"),
        (["status"], 3, "does not run"),
        (["kubectl", "get", "pods"], 1, "start one: dovetail sandbox up"),
        (["logs", "etcd"], 1, "start one: dovetail sandbox up"),
    ],
)
def test_commands_where_nothing_runs(
    words: list[str],
    code: int,
    said: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOVETAIL_SANDBOX_DIR", str(tmp_path_factory.mktemp("s")))
    result = CliRunner().invoke(sandbox_app, words)
    assert result.exit_code == code
    assert said in result.output


def test_nodes_that_others_made_are_counted() -> None:
    """Such a Node may have neither labels nor a status; one without labels ended `status` with a KeyError."""
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    nodes = [
        {"metadata": {"name": "bare"}},
        {"metadata": {"name": "real-1", "labels": {}}, **ready},
        {"metadata": {"name": "l4-0", "labels": {gpus.MACHINE_LABEL: "l4-8-pcie"}}, "status": {}},
    ]
    slices: list[dict[str, object]] = [{"spec": {"devices": [{}, {}]}}, {"spec": {}}]
    assert counted(nodes, slices) == {
        "nodes": [
            {"machine": "l4-8-pcie", "nodes": 1, "ready": 0},
            {"machine": "other", "nodes": 1, "ready": 0},
            {"machine": "real", "nodes": 1, "ready": 1},
        ],
        "resource_slices": 2,
        "devices": 2,
    }


@pytest.mark.parametrize("name", ["", "A", "a-b", "../up", "a" * 21])
def test_names_that_could_be_mistaken_for_another_are_refused(name: str) -> None:
    """Folders are called up-<name>-<random>, so a hyphen would make one name the beginning of another."""
    with pytest.raises(InvalidInputError, match=r"--name.*: must be 1 to 20 lower-case letters and digits"):
        Home(name)
