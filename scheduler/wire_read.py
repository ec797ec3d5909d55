"""Requests of kube-scheduler, decoded strictly: values of the right types, or a JsonFault with the path of what is not.

Unset fields come as null, and keys of the extender's own objects in any case, as Go's decoder takes them; embedded Pods
and Nodes have their usual keys, and what we do not read of them is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from kube.objects import Pod, Quantity
from kube.quantity import parse_quantity
from scheduler.slack import read_slack
from scheduler.strictjson import JsonFault, parse
from scheduler.wire import SLACK_ANNOTATION, BindingArgs, ExtenderArgs, Name, PreemptionArgs, Uid, Victims, Wishes
from topology.errors import InvalidInputError


class _MetaPod(msgspec.Struct):
    uid: Uid = msgspec.field(name="UID")


class _Metadata(msgspec.Struct):
    name: Name = ""
    uid: str = ""


class _Named(msgspec.Struct):
    metadata: _Metadata


class _Spread(msgspec.Struct, rename="camel"):
    when_unsatisfiable: str = ""


class _Preferring(msgspec.Struct):
    preferred: list[Any] = msgspec.field(default_factory=list, name="preferredDuringSchedulingIgnoredDuringExecution")


class _Affinity(msgspec.Struct, rename="camel"):
    node_affinity: _Preferring = msgspec.field(default_factory=_Preferring)
    pod_affinity: _Preferring = msgspec.field(default_factory=_Preferring)
    pod_anti_affinity: _Preferring = msgspec.field(default_factory=_Preferring)


class _WishingSpec(msgspec.Struct, rename="camel"):
    affinity: _Affinity = msgspec.field(default_factory=_Affinity)
    topology_spread_constraints: list[_Spread] = msgspec.field(default_factory=list)


class _Annotated(msgspec.Struct):
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class _Wishing(msgspec.Struct):
    metadata: _Annotated = msgspec.field(default_factory=_Annotated)
    spec: _WishingSpec = msgspec.field(default_factory=_WishingSpec)


Shape = TypeVar("Shape")

Pdb = Annotated[int, msgspec.Meta(ge=0)]


def read_args(body: bytes) -> ExtenderArgs:
    """Decode the body of `filter` or `prioritize`. Raises JsonFault."""
    content = _fields(parse(body), "$", ("Pod", "Nodes", "NodeNames"))
    pod, wishes = _pod(content), _wishes(content["Pod"])
    names, nodes = content.get("NodeNames"), content.get("Nodes")
    if names is None and nodes is not None:
        by_name = _full_nodes(nodes)
        return ExtenderArgs(pod=pod, wishes=wishes, node_names=tuple(by_name), nodes=by_name)
    return ExtenderArgs(pod=pod, wishes=wishes, node_names=_shaped(names or (), tuple[str, ...], "$.NodeNames"))


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


def _pod(content: dict[str, Any]) -> Pod:
    if content.get("Pod") is None:
        raise JsonFault("$.Pod", "missing")
    pod = _object(content["Pod"], Pod, "$.Pod")
    for key in ("name", "namespace", "uid"):
        if not getattr(pod.metadata, key):
            raise JsonFault(f"$.Pod.metadata.{key}", "missing")
    for path, quantities in _quantities(pod):
        for name, quantity in quantities.items():
            try:
                parse_quantity(quantity)
            except InvalidInputError as error:
                raise JsonFault(f"$.Pod.spec.{path}[{name!r}]", str(error)) from error
    return pod


def _quantities(pod: Pod) -> Iterator[tuple[str, Mapping[str, Quantity]]]:
    spec = pod.spec
    holders = [("resources", spec.resources)]
    holders += [(f"containers[{at}].resources", each.resources) for at, each in enumerate(spec.containers)]
    holders += [(f"initContainers[{at}].resources", each.resources) for at, each in enumerate(spec.init_containers)]
    for path, resources in holders:
        yield f"{path}.requests", resources.requests
        yield f"{path}.limits", resources.limits
    yield "overhead", spec.overhead


def _wishes(pod: Any) -> Wishes:  # noqa: ANN401
    told = _object(pod, _Wishing, "$.Pod")
    affinity = told.spec.affinity
    sides = (affinity.node_affinity, affinity.pod_affinity, affinity.pod_anti_affinity)
    soft = any(each.when_unsatisfiable == "ScheduleAnyway" for each in told.spec.topology_spread_constraints)
    soft = soft or any(side.preferred for side in sides)
    text = told.metadata.annotations.get(SLACK_ANNOTATION)
    if text is None:
        return Wishes(soft=soft)
    try:
        return Wishes(read_slack("pod", f"annotation {SLACK_ANNOTATION}", text), soft)
    except InvalidInputError as error:
        return Wishes(soft=soft, fault=str(error))


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


def _object(value: Any, shape: type[Shape], path: str) -> Shape:  # noqa: ANN401
    """Decode an object of the core API, in which Go writes null for what is not set."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return _shaped(_without_nulls(value), shape, path)


def _without_nulls(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:  # noqa: ANN401
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}.get(
        type(value), "null" if value is None else "a number"
    )
