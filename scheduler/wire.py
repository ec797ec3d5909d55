"""What kube-scheduler and its extender say to each other over HTTP: values here, `wire_read` decodes the requests.

Answers have the Go field names in upper camel case, integers as scores, and null where Go has an unset pointer.
Source: k8s.io/kube-scheduler/extender/v1 types.go; the behaviour of pkg/scheduler/extender.go, Kubernetes 1.34 to 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from kube.objects import Pod

MIN_PRIORITY, MAX_PRIORITY = 0, 10
"""Scores of `prioritize`; a fraction or anything beyond is dropped by kube-scheduler."""

SLACK_ANNOTATION = "dovetail.dev/slack"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Wishes(msgspec.Struct, frozen=True):
    """What a pod says about how exactly the best node must be taken."""

    slack: float | None = None
    """From its annotation SLACK_ANNOTATION: whole GPUs of future demand by which a node may be worse than the best."""
    soft: bool = False
    """Whether it has preferences for nodes that kube-scheduler weighs: soft spreading, preferred affinity."""
    fault: str = ""
    """What is wrong with the annotation. Told in the answer: kube-scheduler drops the text of an error."""


class ExtenderArgs(msgspec.Struct, frozen=True, kw_only=True):
    """What `filter` and `prioritize` are asked: which of these nodes for this pod."""

    pod: Pod
    node_names: tuple[str, ...]
    wishes: Wishes
    nodes: Mapping[str, Any] | None = None
    """Name -> the whole Node, from a kube-scheduler without nodeCacheCapable; the answer must repeat them."""


class FilterResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `filter`. A node that is nowhere counts as unresolvable; None for no nodes at all."""

    node_names: tuple[str, ...] = ()
    failed_and_unresolvable: Mapping[str, str] = {}
    """Node -> why; preemption on it would not help."""
    failed: Mapping[str, str] = {}
    """Node -> why, where evicting pods could help."""
    error: str = ""
    reason: str = ""
    """For metrics: why, in one of few words."""


class HostPriority(msgspec.Struct, frozen=True):
    """The score of a node, MIN_PRIORITY to MAX_PRIORITY."""

    host: str = msgspec.field(name="Host")
    score: int = msgspec.field(name="Score")


class BindingArgs(msgspec.Struct, frozen=True, kw_only=True):
    """The order to bind a pod to a node."""

    pod_name: Name = msgspec.field(name="PodName")
    pod_namespace: Name = msgspec.field(name="PodNamespace")
    pod_uid: Uid = msgspec.field(name="PodUID")
    node: Name = msgspec.field(name="Node")


class Victims(msgspec.Struct, frozen=True):
    """Pods that would be evicted from a node."""

    uids: tuple[str, ...]
    pdb_violations: int = 0


class PreemptionArgs(msgspec.Struct, frozen=True, kw_only=True):
    """What `preempt` is asked: on which of these nodes evicting these pods would help."""

    pod: Pod
    victims: Mapping[str, Victims]
    """By node name."""


def write_filter(result: FilterResult, asked: ExtenderArgs) -> bytes:
    """Encode the answer of `filter` in the form in which the nodes were asked."""
    nodes = None
    if asked.nodes is not None:
        nodes = {"metadata": {}, "items": [asked.nodes[name] for name in result.node_names]}
    content = {
        "Nodes": nodes,
        "NodeNames": result.node_names if asked.nodes is None else None,
        "FailedNodes": result.failed,
        "FailedAndUnresolvableNodes": result.failed_and_unresolvable,
        "Error": result.error,
    }
    return msgspec.json.encode(content)


def write_priorities(scores: Iterable[HostPriority]) -> bytes:
    """Encode the answer of `prioritize`."""
    return msgspec.json.encode(list(scores))


def write_binding(error: str) -> bytes:
    """Encode the answer of `bind`; an empty text is success."""
    return msgspec.json.encode({"Error": error})


def write_preemption(victims: Mapping[str, Victims]) -> bytes:
    """Encode the answer of `preempt`: the nodes that stay candidates."""
    by_node = {
        node: {"Pods": [{"UID": uid} for uid in each.uids], "NumPDBViolations": each.pdb_violations}
        for node, each in victims.items()
    }
    return msgspec.json.encode({"NodeNameToMetaVictims": by_node})
