"""An anonymized snapshot: nothing of the originals is left, and every decision on it is the same one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kube.anonymize import anonymized
from kube.cluster import ClusterSettings
from kube.fitfile import SnapshotCluster
from kube.question import read_question
from kube.taking import lean
from tests.kube.askfiles import ATTRIBUTES, CLASSES, claim, nics, node, pod, request, slices
from topology.errors import InvalidInputError
from topology.modes import MigMode

SECRET = "acme"
HELD = 12


def private(seed: int) -> dict[str, Any]:
    """A cluster in which everything that has a name says whose it is."""
    draw = random.Random(seed)
    names = [f"{SECRET}-rack{draw.randrange(100)}-{at}" for at in draw.sample(range(100), 4)]
    items = [*CLASSES, *slices(*names, mode=draw.choice([MigMode.DISABLED, MigMode.DYNAMIC]))]
    for name in names:
        found = node(
            name, cpu=str(draw.choice([8, 64])), **{f"{SECRET}.example/zone": f"{SECRET}-zone-{draw.randrange(2)}"}
        )
        found["metadata"]["annotations"] = {f"{SECRET}.example/owner": f"{SECRET}-team", "dovetail.dev/rank": "3"}
        found["metadata"]["labels"]["kubernetes.io/hostname"] = name
        items.append(found)
        items.append(nics(name, f"pci0000:{draw.randrange(10, 99)}"))
    free = [(name, f"gpu-{at}") for name in names for at in range(8)]
    draw.shuffle(free)
    for at in range(HELD):
        name, device = free.pop()
        held = claim(f"{SECRET}-claim-{at}", devices=[device], node=name, user=f"{SECRET}-pod-{at}")
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
        held["status"]["allocation"]["nodeSelector"] = {"nodeSelectorTerms": [term]}
        held["metadata"] |= {"namespace": f"{SECRET}-space", "uid": f"{SECRET}-uid-{at}"}
        held["metadata"]["managedFields"] = [{"manager": SECRET}]
        held["spec"]["devices"]["config"] = [{"opaque": {"driver": "other.example.com", "parameters": {"by": SECRET}}}]
        held["status"]["reservedFor"][0]["uid"] = f"{SECRET}-uid-of-pod-{at}"
        user = pod(f"{SECRET}-pod-{at}", f"{SECRET}-claim-{at}", nodeName=name)
        user["metadata"] |= {"namespace": f"{SECRET}-space", "uid": f"{SECRET}-uid-of-pod-{at}"}
        user["metadata"] |= {"labels": {"app": SECRET}, "annotations": {"by": SECRET}}
        user["spec"]["containers"] = [{"name": SECRET, "image": SECRET, "env": [{"name": "KEY", "value": SECRET}]}]
        items += [held, user]
    items.append({"kind": "Namespace", "metadata": {"name": f"{SECRET}-space", "uid": f"{SECRET}-uid-space"}})
    return {"kind": "List", "items": items}


def uuids(document: Any) -> set[str]:
    """The UUIDs that devices have."""
    found = set()
    for each in document["items"]:
        for device in each["spec"].get("devices", ()) if each["kind"] == "ResourceSlice" else ():
            found |= {
                value["string"] for name, value in device["attributes"].items() if name.endswith(("uuid", "UUID"))
            }
    return found


QUESTIONS = {
    "one": [claim("c")],
    "three": [claim("c", request(count=3))],
    "paired": [claim("c", request(count=2), constraints=[{"matchAttribute": "gpu.dovetail.dev/nvlinkDomain"}])],
    "too many": [claim("c", request(count=9))],
    "several": [claim("c", request(count=2)), claim("d")],
    "partition": [claim("c", request("gpu", f'{ATTRIBUTES}.profile.startsWith("3g")', of="mig"))],
    "pod": [
        pod("p", "c", containers=[{"name": "m", "resources": {"requests": {"cpu": "16"}}}]),
        claim("c", request(count=2)),
    ],
}


@pytest.mark.parametrize("seed", range(6))
def test_nothing_of_the_originals_is_left_and_decisions_are_the_same(seed: int) -> None:
    original = private(seed)
    hidden = anonymized(original)
    text = json.dumps(hidden)
    assert SECRET not in text
    assert uuids(original)
    assert not [each for each in uuids(original) if each in text]
    assert anonymized(original) == hidden, "the same each time"
    nodes = sorted(each["metadata"]["name"] for each in original["items"] if each["kind"] == "Node")
    for name, documents in QUESTIONS.items():
        before = SnapshotCluster(original, "original", ClusterSettings())
        after = SnapshotCluster(hidden, "hidden", ClusterSettings())
        one = before.ask(read_question(documents, "q"))
        other = after.ask(read_question(documents, "q"))
        assert (one.fits, _devices(one)) == (other.fits, _devices(other)), name
        if one.fits:
            assert other.node == f"node-{nodes.index(str(one.node))}", name
        counted = [
            [[(each.text, each.count) for each in found] for _, found in sorted(fit.reasons.items())]
            for fit in (one, other)
        ]
        assert counted[0] == counted[1], name
        assert [each.kind for each in one.nearest] == [each.kind for each in other.nearest], name


def _devices(fit: Any) -> list[list[str]]:
    return [[each["device"] for each in found["allocation"]["devices"]["results"]] for found in fit.claims]


def test_labels_and_uuids_that_are_selected_by_stay_equal_to_what_selects_them() -> None:
    items = [*CLASSES, *slices(f"{SECRET}-0", f"{SECRET}-1")]
    wanted = min(uuids({"items": items}))
    items += [node(f"{SECRET}-{at}", **{f"{SECRET}.io/zone": f"{SECRET}{at}"}) for at in range(2)]
    held = claim("byid", request("gpu", f'{ATTRIBUTES}.uuid == "{wanted}"'))
    user = pod("p", "byid", nodeSelector={f"{SECRET}.io/zone": f"{SECRET}1"})
    hidden = anonymized({"kind": "List", "items": [*items, held, user]})
    assert wanted not in json.dumps(hidden)
    before = SnapshotCluster({"kind": "List", "items": [*items, held, user]}, "original", ClusterSettings())
    after = SnapshotCluster(hidden, "hidden", ClusterSettings())
    one = before.explain("default", "p")
    other = after.explain("default", "pod-0")
    assert one["fits"] == other["fits"]
    assert [len(each) for each in one["reasons"].values()] == [len(each) for each in other["reasons"].values()]


def test_a_snapshot_holds_no_commands_environments_or_managed_fields() -> None:
    kept = lean(private(0)["items"][-2])
    assert kept["kind"] == "Pod"
    assert set(kept["spec"]["containers"][0]) == {"name"}
    assert not {"labels", "annotations", "managedFields"} & kept["metadata"].keys()


def test_a_document_that_is_no_snapshot_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="kind: is missing"):
        anonymized({"items": []})
