"""What kube-scheduler and its extender say to each other, as JSON over HTTP.

Keys are the Go field names in upper camel case, unset ones come as null, other spellings of a key's case are accepted;
embedded Pods and Nodes have their usual keys, and what we do not read of them is skipped. Requests are decoded strictly
(`strictjson`): the result has the types it claims to have, or a JsonFault tells the path of what is wrong.
Source: k8s.io/kube-scheduler/extender/v1 types.go; the behaviour of pkg/scheduler/extender.go, Kubernetes 1.34 to 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from kube.objects import Pod

from scheduler.strictjson import JsonFault, parse

MIN_PRIORITY, MAX_PRIORITY = 0, 10
"""Scores of `prioritize`; a fraction or anything beyond is dropped by kube-scheduler."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class ExtenderArgs(msgspec.Struct, frozen=True, kw_only=True):
    """What `filter` and `prioritize` are asked: which of these nodes for this pod."""

    pod: Pod
    node_names: tuple[str, ...]
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


class _MetaPod(msgspec.Struct):
    uid: Uid = msgspec.field(name="UID")


class _Metadata(msgspec.Struct):
    name: Name = ""
    uid: str = ""


class _Named(msgspec.Struct):
    metadata: _Metadata


Shape = TypeVar("Shape")

Pdb = Annotated[int, msgspec.Meta(ge=0)]


def read_args(body: bytes) -> ExtenderArgs:
    """Decode the body of `filter` or `prioritize`. Raises JsonFault."""
    content = _fields(parse(body), "$", ("Pod", "Nodes", "NodeNames"))
    pod = _pod(content)
    names, nodes = content.get("NodeNames"), content.get("Nodes")
    if names is not None:
        return ExtenderArgs(pod=pod, node_names=_shaped(names, tuple[str, ...], "$.NodeNames"))
    if nodes is None:
        return ExtenderArgs(pod=pod, node_names=())
    by_name = _full_nodes(nodes)
    return ExtenderArgs(pod=pod, node_names=tuple(by_name), nodes=by_name)


def read_binding(body: bytes) -> BindingArgs:
    """Decode the body of `bind`. Raises JsonFault."""
    content = _fields(parse(body), "$", ("PodName", "PodNamespace", "PodUID", "Node"))
    return _shaped(content, BindingArgs, "$")


def read_preemption(body: bytes) -> PreemptionArgs:
    """Decode the body of `preempt`: UIDs of victims, or whole pods from schedulers that do not send UIDs alone."""
    content = _fields(parse(body), "$", ("Pod", "NodeNameToVictims", "NodeNameToMetaVictims"))
    meta, full = content.get("NodeNameToMetaVictims"), content.get("NodeNameToVictims")
    key = "NodeNameToMetaVictims" if meta is not None else "NodeNameToVictims"
    by_node = meta if meta is not None else full
    named = _shaped(by_node if by_node is not None else {}, dict[str, Any], f"$.{key}")
    victims = {node: _victims(item, f"$.{key}[{node!r}]", whole=meta is None) for node, item in named.items()}
    return PreemptionArgs(pod=_pod(content), victims=victims)


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


def _pod(content: Mapping[str, Any]) -> Pod:
    if content.get("Pod") is None:
        raise JsonFault("$.Pod", "missing")
    pod = _shaped(content["Pod"], Pod, "$.Pod")
    for key in ("name", "namespace", "uid"):
        if not getattr(pod.metadata, key):
            raise JsonFault(f"$.Pod.metadata.{key}", "missing")
    return pod


def _full_nodes(nodes: Any) -> dict[str, Any]:  # noqa: ANN401 - as it came
    if not isinstance(nodes, dict):
        raise JsonFault("$.Nodes", "expected an object")
    by_name: dict[str, Any] = {}
    for at, item in enumerate(_shaped(nodes.get("items") or [], list[Any], "$.Nodes.items")):
        name = _shaped(item, _Named, f"$.Nodes.items[{at}]").metadata.name
        if not name:
            raise JsonFault(f"$.Nodes.items[{at}].metadata.name", "missing")
        by_name[name] = item
    return by_name


def _victims(value: Any, path: str, *, whole: bool) -> Victims:  # noqa: ANN401
    content = _fields(value, path, ("Pods", "NumPDBViolations"))
    violations = _shaped(content.get("NumPDBViolations") or 0, Pdb, f"{path}.NumPDBViolations")
    pods = _shaped(content.get("Pods") or [], list[Any], f"{path}.Pods")
    uids = tuple(_victim(item, f"{path}.Pods[{at}]", whole=whole) for at, item in enumerate(pods))
    return Victims(uids, violations)


def _victim(value: Any, path: str, *, whole: bool) -> str:  # noqa: ANN401
    if not whole:
        return _shaped(_fields(value, path, ("UID",)), _MetaPod, path).uid
    uid = _shaped(value, _Named, path).metadata.uid
    if not uid:
        raise JsonFault(f"{path}.metadata.uid", "missing")
    return uid


def _fields(value: Any, path: str, keys: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401
    """Return the known fields of an object of ours by their right names. Raises JsonFault where one is there twice."""
    if not isinstance(value, dict):
        raise JsonFault(path, f"expected an object, got {_kind(value)}")
    right = {key.lower(): key for key in keys}
    found: dict[str, Any] = {}
    for given, item in value.items():
        key = right.get(given.lower())
        if key is None:
            continue
        if key in found:
            raise JsonFault(f"{path}.{given}", f"given twice, also in another spelling of {key}")
        found[key] = item
    return found


def _shaped(value: Any, shape: type[Shape], path: str) -> Shape:  # noqa: ANN401
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        problem, _, inside = str(error).partition(" - at `")
        raise JsonFault(path + inside.rstrip("`").removeprefix("$"), problem[:1].lower() + problem[1:]) from error


def _kind(value: Any) -> str:  # noqa: ANN401
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}.get(
        type(value), "null" if value is None else "a number"
    )
