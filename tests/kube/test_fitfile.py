"""Questions on a snapshot: what would be given, why not, and that what is said to help does help."""

from __future__ import annotations

from typing import Any

import pytest

from kube.question import read_question
from tests.kube.askfiles import (
    ATTRIBUTES,
    PAIRS,
    ask,
    claim,
    device_class,
    devices,
    nics,
    node,
    pod,
    request,
    slices,
    snapshot,
)
from topology.errors import InvalidInputError
from topology.modes import MigMode, Sharing

assert PAIRS
DOMAIN = "gpu.dovetail.dev/nvlinkDomain"
ALL = [f"gpu-{at}" for at in range(8)]
PROFILE = f'{ATTRIBUTES}.profile == "'


def texts(answer: Any, kind: str) -> list[str]:
    return [each.text for each in answer.nearest if each.kind == kind]


def test_slices_alone_are_enough_and_the_allocation_is_all_that_the_scheduler_would_write() -> None:
    answer = ask(snapshot(*slices("node-0")), claim("pair", request(count=2)))
    only = {"key": "metadata.name", "operator": "In", "values": ["node-0"]}
    pool = {"request": "gpu", "driver": "gpu.dovetail.dev", "pool": "node-0/gpu.dovetail.dev"}
    allocation = {
        "devices": {"results": [pool | {"device": "gpu-0"}, pool | {"device": "gpu-1"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [only]}]},
    }
    assert answer.to_json() == {
        "fits": True,
        "node": "node-0",
        "error": None,
        "claims": [{"namespace": "default", "name": "pair", "allocation": allocation}],
        "reasons": {},
        "nearest": [],
    }


def test_several_claims_are_given_together_on_one_node() -> None:
    busy = claim("busy", devices=ALL[:3], node="node-0")
    five = [claim("three", request(count=3)), claim("two", request(count=2))]
    six = [claim("three", request(count=3)), claim("others", request(count=3))]
    assert [len(each) for each in devices(ask(snapshot(*slices("node-0"), busy), *five))] == [3, 2]
    assert not ask(snapshot(*slices("node-0"), busy), *six).fits
    assert ask(snapshot(*slices("node-0", "node-1"), busy), *six).node == "node-1"


def test_devices_of_two_drivers_share_a_root() -> None:
    roots = ("pci0000:50", "pci0000:3b")
    both = claim(
        "both",
        request("gpu"),
        request("nic", of="nic"),
        constraints=[{"matchAttribute": "resource.kubernetes.io/pcieRoot"}],
    )
    items = [*slices("node-0"), nics("node-0", *roots), device_class("nic", "", driver="nic.example.com")]
    refused = ask(snapshot(*items), both)
    assert refused.error is not None
    assert "add --driver nic.example.com" in refused.error
    answer = ask(snapshot(*items, drivers=("gpu.dovetail.dev", "nic.example.com")), both)
    pools = snapshot(*items, drivers=("gpu.dovetail.dev", "nic.example.com")).cluster.pools()
    values = {
        (pool.driver, device.name): pool.attribute(at, "resource.kubernetes.io/pcieRoot")
        for pool in pools
        for at, device in enumerate(pool.shape.devices)
    }
    shared = {each.values for each in values.values() if each is not None and each.values[0] in roots}
    if answer.fits:
        results = answer.claims[0]["allocation"]["devices"]["results"]
        assert len({values[each["driver"], each["device"]].values for each in results}) == 1  # type: ignore[union-attr]
    else:
        gpu_roots = {each.values for (driver, _), each in values.items() if each and driver == "gpu.dovetail.dev"}
        assert not gpu_roots & shared
        assert texts(answer, "constraint")


def test_claims_from_templates_and_extended_resources_are_made_as_controllers_would() -> None:
    template = {
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "pair", "namespace": "default"},
        "spec": {"spec": claim("x", request(count=2))["spec"]},
    }
    for where in ("file", "snapshot"):
        cluster = snapshot(*slices("node-0"), *([template] if where == "snapshot" else []))
        answer = ask(cluster, pod("p", template="pair"), *([template] if where == "file" else []))
        assert [(each["name"], devices(answer)[0]) for each in answer.claims] == [("p-made", ["gpu-0", "gpu-1"])]
    lonely = ask(snapshot(*slices("node-0")), pod("p", template="pair"))
    assert lonely.error is not None
    assert "does the template default/pair exist" in lonely.error
    wanted = pod("p", containers=[{"name": "main", "resources": {"requests": {"example.com/gpu": "2"}}}])
    extended = ask(snapshot(*slices("node-0")), wanted)
    assert [each["name"] for each in extended.claims] == ["p-extended-resources"]
    assert len(devices(extended)[0]) == 2


def test_nodes_are_out_of_the_question_for_what_kube_scheduler_looks_at() -> None:
    taint = {"key": "reserved", "value": "x", "effect": "NoSchedule"}
    names = ("small", "tainted", "other", "right")
    nodes = [
        node("small", cpu="1", zone="a"),
        node("tainted", taints=[taint], zone="a"),
        node("other", zone="b"),
        node("right", zone="a"),
    ]
    wish = {"nodeSelector": {"zone": "a"}, "containers": [{"name": "m", "resources": {"requests": {"cpu": "2"}}}]}
    answer = ask(snapshot(*slices(*names), *nodes), pod("p", "c", **wish), claim("c"))
    assert answer.node == "right"
    assert {name: [each.text for each in found] for name, found in answer.reasons.items()} == {
        "small": ["Insufficient cpu"],
        "tainted": ["node had untolerated taint {reserved: x}"],
        "other": ["node didn't match Pod's node affinity/selector"],
    }
    running = pod("running", nodeName="right", containers=[{"name": "m", "resources": {"requests": {"cpu": "7"}}}])
    full = ask(snapshot(*slices(*names), *nodes, running), pod("p", "c", **wish), claim("c"))
    assert not full.fits
    tolerant = wish | {"tolerations": [{"key": "reserved", "operator": "Exists"}]}
    assert ask(snapshot(*slices(*names), *nodes, running), pod("p", "c", **tolerant), claim("c")).node == "tainted"


def test_reasons_count_every_device_of_a_node_by_its_first_failing_constraint() -> None:
    busy = claim("busy", devices=ALL[:7], node="node-0")
    answer = ask(snapshot(*slices("node-0"), busy), claim("pair", request("gpu", f"{ATTRIBUTES}.index > 4", count=2)))
    told = {each.text: each.count for each in answer.reasons["node-0"]}
    assert told == {
        f"devices not selected: request gpu, selector 0 `{ATTRIBUTES}.index > 4`": 5,
        "devices are in use": 2,
    }


CASES = {
    "constraint": (
        [],
        claim("c", request(count=8), constraints=[{"matchAttribute": DOMAIN}]),
        f"drop matchAttribute {DOMAIN} of claim default/c",
    ),
    "count": ([], claim("c", request(count=9)), "ask 8 devices instead of 9 in request gpu of claim default/c"),
    "selector": (
        [],
        claim("c", request("gpu", f"{ATTRIBUTES}.index > 100")),
        f"drop selector 0 `{ATTRIBUTES}.index > 100` of request gpu of claim default/c",
    ),
    "profile": (
        [claim("busy", devices=ALL[1:], node="node-0"), claim("part", devices=["gpu-0-mig-3g40gb-0"], node="node-0")],
        claim("c", request("gpu", f'{PROFILE}7g.80gb"', of="mig")),
        "ask 4g.40gb instead of 7g.80gb in request gpu of claim default/c",
    ),
    "free": (
        [claim("busy", devices=ALL[:7], node="node-0"), claim("one", devices=ALL[7:], node="node-0", user="web")],
        claim("c"),
        "free gpu-7 on node-0, held by default/web",
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_is_said_to_help_is_what_the_allocator_did(kind: str) -> None:
    held, wanted, text = CASES[kind]
    mode = MigMode.DYNAMIC if kind == "profile" else MigMode.DISABLED
    if kind == "profile":
        published = [each["name"] for one in slices("node-0", mode=mode) for each in one["spec"].get("devices", ())]
        part = next(each for each in published if each.startswith("gpu-0") and "3g" in each)
        held = [held[0], claim("part", devices=[part], node="node-0")]
    answer = ask(snapshot(*slices("node-0", mode=mode), *held), wanted)
    assert not answer.fits
    assert text in texts(answer, kind), [each.text for each in answer.nearest]
    for near in answer.nearest:
        assert near.allocation.node == "node-0"
        assert all(near.allocation.claims)


def test_freeing_takes_no_more_than_is_needed() -> None:
    held = [claim(f"c{at}", devices=[f"gpu-{at}"], node="node-0", user=f"u{at}") for at in range(8)]
    answer = ask(snapshot(*slices("node-0"), *held), claim("three", request(count=3)))
    (text,) = texts(answer, "free")
    assert text.count("held by") == 3


def test_less_capacity_is_asked_where_less_is_left() -> None:
    cluster = snapshot(*slices("node-0", sharing=[Sharing.TIME_SLICING]))
    wanted = claim("c", request(of="share", capacity={"requests": {"memory": "500Gi"}}))
    answer = ask(cluster, wanted)
    assert len(texts(answer, "capacity")) == 1


def test_a_node_by_name_is_looked_at_alone_and_another_is_offered() -> None:
    busy = claim("busy", devices=ALL, node="node-0")
    answer = ask(snapshot(*slices("node-0", "node-1"), busy), claim("c"), on="node-0")
    assert (answer.fits, list(answer.reasons)) == (False, ["node-0"])
    assert answer.nearest[0].text == "let it go to node node-1"
    with pytest.raises(InvalidInputError, match="has no node 'nowhere'"):
        ask(snapshot(*slices("node-0")), claim("c"), on="nowhere")


def test_replicas_take_devices_of_their_own_until_none_is_left() -> None:
    cluster = snapshot(*slices("node-0", "node-1"))
    found = cluster.ask_many(read_question([claim("c", request(count=3))], "q"), 100)
    taken = [
        (each["pool"], each["device"])
        for fit in found.placed
        for given in fit.claims
        for each in given["allocation"]["devices"]["results"]
    ]
    assert len(found.placed) == 4
    assert len(set(taken)) == len(taken) == 12
    assert found.last is not None
    assert not found.last.fits
    assert not [each for each in found.last.nearest if each.kind == "free"], "what was just placed is the question"


def test_a_claim_that_the_cluster_has_and_gave_devices_keeps_them() -> None:
    held = claim("c", request(count=2), devices=["gpu-4", "gpu-5"], node="node-0")
    cluster = snapshot(*slices("node-0"), held)
    assert devices(ask(cluster, claim("c", request(count=2)))) == [["gpu-4", "gpu-5"]]
    other = devices(ask(snapshot(*slices("node-0"), held), claim("c", request(count=8))))
    assert other == [ALL], "another claim of its name takes its place"


def nested(lists: int) -> dict[str, Any]:
    return {"kind": "List", "items": [nested(lists - 1)] if lists else []}


BAD = {
    "no kind": ([{"metadata": {"name": "x"}}], "kind: is missing"),
    "another kind": ([{"kind": "Deployment", "metadata": {"name": "x"}}], "is 'Deployment'; ask about a Pod"),
    "nothing": ([], "holds neither a Pod nor a ResourceClaim"),
    "no name": ([{"kind": "ResourceClaim", "spec": {}}], "metadata.name: is missing"),
    "old version": ([claim("c") | {"apiVersion": "resource.k8s.io/v1beta1"}], "write it as resource.k8s.io/v1"),
    "two pods": ([pod("a"), pod("b")], "holds 2 pods"),
    "twice": ([claim("c"), claim("c")], "is there twice"),
    "unused": ([pod("a"), claim("c")], "claim c is not among them"),
    "two namespaces": (
        [claim("a"), claim("b") | {"metadata": {"name": "b", "namespace": "other"}}],
        "are in namespaces default and other",
    ),
    "wrong type": ([claim("c", request(count="many"))], "spec.devices.requests"),
    "lists in lists": ([nested(9)], "list inside a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_question_that_is_none_is_refused_with_object_field_and_remedy(case: str) -> None:
    documents, words = BAD[case]
    with pytest.raises(InvalidInputError, match=words.replace("[", r"\[")):
        read_question(documents, "question.yaml")


def test_what_no_node_can_serve_is_an_error_with_its_remedy() -> None:
    answer = ask(snapshot(*slices("node-0")), claim("c", request(of="nothing")))
    assert (answer.fits, answer.claims) == (False, ())
    assert (
        answer.error == "claim default/c, request gpu: device class nothing does not exist; create it, or name another"
    )
    broken = ask(snapshot(*slices("node-0")), claim("c", request("gpu", f"{ATTRIBUTES}.nothing == 1")))
    assert broken.error is not None
    assert "selector 0" in broken.error
