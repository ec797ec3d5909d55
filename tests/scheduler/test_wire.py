"""What kube-scheduler sends is read as its Go types say, and answers are what its decoder takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduler import wire, wire_read
from scheduler.strictjson import JsonFault
from scheduler.wire import BindingArgs, FilterResult, HostPriority, Victims
from tests.scheduler.http import NODES, POD, question


def body(content: object) -> bytes:
    return json.dumps(content).encode()


def pod_with(path: str, value: Any) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(json.dumps(POD))
    *steps, last = path.split(".")
    at = pod
    for step in steps:
        at = at.setdefault(step, {})
    at[last] = value
    return pod


def test_node_names_and_the_pod_are_read() -> None:
    asked = wire_read.read_args(body(question()))
    assert asked.node_names == NODES
    assert asked.pod.metadata.uid == "u-1"
    assert asked.nodes is None


def test_keys_are_taken_in_any_case_as_gos_decoder_does() -> None:
    asked = wire_read.read_args(body({"pod": POD, "nodenames": list(NODES)}))
    assert asked.node_names == NODES
    order = {"podname": "p", "podNamespace": "n", "PODUID": "u", "node": "a"}
    assert wire_read.read_binding(body(order)) == BindingArgs(pod_name="p", pod_namespace="n", pod_uid="u", node="a")


def test_a_key_in_two_spellings_is_refused() -> None:
    with pytest.raises(JsonFault, match=r"\$\.pod: given twice, also in another spelling of Pod"):
        wire_read.read_args(body({**question(), "pod": POD}))


def test_no_nodes_at_all_are_no_fault() -> None:
    assert wire_read.read_args(body(question(names=None))).node_names == ()


def test_whole_nodes_are_answered_as_they_came() -> None:
    nodes = [{"metadata": {"name": name, "labels": {"a": "b"}}, "future": [1]} for name in NODES]
    asked = wire_read.read_args(body({"Pod": POD, "Nodes": {"metadata": {}, "items": nodes}, "NodeNames": None}))
    answer = json.loads(wire.write_filter(FilterResult(node_names=(NODES[1],)), asked))
    assert answer["Nodes"]["items"] == [nodes[1]]
    assert answer["NodeNames"] is None


def test_the_answer_of_filter_has_gos_keys() -> None:
    asked = wire_read.read_args(body(question()))
    result = FilterResult(node_names=("node-0",), failed_and_unresolvable={"node-1": "no"})
    assert json.loads(wire.write_filter(result, asked)) == {
        "Nodes": None,
        "NodeNames": ["node-0"],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {"node-1": "no"},
        "Error": "",
    }


def test_scores_are_integers_of_hosts() -> None:
    assert json.loads(wire.write_priorities([HostPriority("a", 10)])) == [{"Host": "a", "Score": 10}]


def test_victims_come_as_uids_or_as_pods_and_go_as_uids() -> None:
    meta = {"n": {"Pods": [{"UID": "v"}], "NumPDBViolations": 1}, "m": {"Pods": None, "NumPDBViolations": 0}}
    full = {"n": {"Pods": [pod_with("metadata.uid", "v")], "NumPDBViolations": 1}, "m": {"Pods": None}}
    content = {"Pod": POD, "NodeNameToVictims": None, "NodeNameToMetaVictims": meta}
    read = wire_read.read_preemption(body(content)).victims
    assert read == {"n": Victims(("v",), 1), "m": Victims((), 0)}
    assert wire_read.read_preemption(body({"Pod": POD, "NodeNameToVictims": full})).victims == read
    answer = json.loads(wire.write_preemption({"n": read["n"]}))
    assert answer == {"NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "v"}], "NumPDBViolations": 1}}}


@pytest.mark.parametrize(
    ("spec", "soft"),
    [
        ({}, False),
        ({"affinity": None, "topologySpreadConstraints": None}, False),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, False),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, True),
        ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}, False),
        ({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}}}, True),
    ],
)
def test_soft_wishes_are_noticed(spec: dict[str, Any], soft: bool) -> None:
    pod = {**POD, "spec": {**POD["spec"], **spec}}
    assert wire_read.read_args(body(question(pod))).wishes.soft is soft


def test_slack_comes_from_an_annotation() -> None:
    pod = pod_with("metadata.annotations", {wire.SLACK_ANNOTATION: "0.25"})
    assert wire_read.read_args(body(question(pod))).wishes.slack == 0.25


@pytest.mark.parametrize(
    "text", ["high", "0,5", "-1", "nan", "inf", "", " 1 ", "1_0", "1e300", "1000001", "9" * 400, "٣"]
)
def test_slack_that_cannot_be_read_is_told_with_the_remedy(text: str) -> None:
    pod = pod_with("metadata.annotations", {wire.SLACK_ANNOTATION: text})
    wishes = wire_read.read_args(body(question(pod))).wishes
    assert wishes.slack is None
    assert f"annotation dovetail.dev/slack: {text[:40]!r} is no number of GPUs from 0 to 1000000" in wishes.fault
    assert 'write it as "0" or "0.5"' in wishes.fault


@pytest.mark.parametrize(
    ("read", "content", "path"),
    [
        ("args", None, "$"),
        ("args", [], "$"),
        ("args", {}, "$.Pod"),
        ("args", {"Pod": None, "NodeNames": ["a"]}, "$.Pod"),
        ("args", {"Pod": {}}, "$.Pod"),
        ("args", {"Pod": "pod"}, "$.Pod"),
        ("args", question(pod_with("metadata.uid", "")), "$.Pod.metadata.uid"),
        ("args", question(pod_with("metadata.uid", None)), "$.Pod.metadata.uid"),
        ("args", question(pod_with("metadata.namespace", "")), "$.Pod.metadata.namespace"),
        ("args", question(pod_with("metadata.name", 7)), "$.Pod.metadata.name"),
        ("args", question(pod_with("spec.containers", {})), "$.Pod.spec.containers"),
        ("args", question(pod_with("spec.containers", [None])), "$.Pod.spec.containers[0]"),
        ("args", question(pod_with("spec.resourceClaims", [{}])), "$.Pod.spec.resourceClaims[0]"),
        (
            "args",
            question(
                pod_with("spec.containers", [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1x"}}}])
            ),
            "$.Pod.spec.containers[1].resources.limits['cpu']",
        ),
        ("args", question(pod_with("spec.overhead", {"memory": "much"})), "$.Pod.spec.overhead['memory']"),
        ("args", {"Pod": POD, "NodeNames": "node-0"}, "$.NodeNames"),
        ("args", {"Pod": POD, "NodeNames": ["a", None]}, "$.NodeNames[1]"),
        ("args", {"Pod": POD, "Nodes": {"items": [{}]}}, "$.Nodes.items[0]"),
        ("args", {"Pod": POD, "Nodes": []}, "$.Nodes"),
        ("binding", {}, "$"),
        ("binding", {"PodName": "", "PodNamespace": "n", "PodUID": "u", "Node": "a"}, "$.PodName"),
        ("binding", {"PodName": "p", "PodNamespace": "n", "PodUID": "u", "Node": None}, "$.Node"),
        ("preemption", {"Pod": POD, "NodeNameToMetaVictims": {"n": None}}, "$.NodeNameToMetaVictims['n']"),
        ("preemption", {"Pod": POD, "NodeNameToMetaVictims": [1]}, "$.NodeNameToMetaVictims"),
        (
            "preemption",
            {"Pod": POD, "NodeNameToMetaVictims": {"n": {"Pods": [{}]}}},
            "$.NodeNameToMetaVictims['n'].Pods[0]",
        ),
        (
            "preemption",
            {"Pod": POD, "NodeNameToVictims": {"n": {"Pods": [{"metadata": {"name": "p"}}]}}},
            "$.NodeNameToVictims['n'].Pods[0].metadata.uid",
        ),
    ],
)
def test_t24_what_is_missing_or_of_a_wrong_type_is_named_with_its_path(read: str, content: object, path: str) -> None:
    readers = {"args": wire_read.read_args, "binding": wire_read.read_binding, "preemption": wire_read.read_preemption}
    with pytest.raises(JsonFault) as caught:
        readers[read](body(content))
    assert caught.value.path == path
