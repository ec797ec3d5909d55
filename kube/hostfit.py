"""What kube-scheduler looks at before devices, as far as a snapshot shows it: selectors, taints, resources of nodes.

The texts are those of kube-scheduler's plugins NodeUnschedulable, NodeName, TaintToleration, NodeAffinity and
NodeResourcesFit. Volumes, ports, spreading and affinity between pods are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from kube.decoding import without_nulls
from kube.nodeselect import selects
from kube.objects import DeviceToleration as Toleration
from kube.objects import Node, NodeSelector, Pod
from kube.objects_base import Part, empty
from kube.podresources import pod_requests
from kube.quantity import parse_quantity
from packing.dra.model import NANO, Amount
from topology.errors import InvalidInputError


class _NodeAffinity(Part, frozen=True, kw_only=True):
    required: NodeSelector | None = msgspec.field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)


class _Affinity(Part, frozen=True, kw_only=True):
    node_affinity: _NodeAffinity = _NodeAffinity()


class HostWishes(Part, frozen=True, kw_only=True):
    """What a pod's specification asks of its node beside resources and devices."""

    node_name: str = ""
    node_selector: Mapping[str, str] = msgspec.field(default_factory=empty)
    affinity: _Affinity = _Affinity()
    tolerations: tuple[Toleration, ...] = ()


class _Taint(Part, frozen=True, kw_only=True):
    key: str
    effect: str = ""
    value: str = ""


class _NodeSpec(Part, frozen=True, kw_only=True):
    unschedulable: bool = False
    taints: tuple[_Taint, ...] = ()


UNSCHEDULABLE = _Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")


def read_wishes(stored: Mapping[str, Any]) -> HostWishes:
    """Return what a pod, as it was written, asks of its node. Raises InvalidInputError."""
    try:
        return msgspec.convert(without_nulls(dict(stored.get("spec") or {})), HostWishes)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        name = (stored.get("metadata") or {}).get("name")
        raise InvalidInputError(f"Pod {name}", f"spec{path.strip('`').removeprefix('$')}", problem) from error


class Hosts:
    """Nodes as kube-scheduler sees them. Mutable: `bind` adds a pod."""

    def __init__(self, nodes: Iterable[Mapping[str, Any]], pods: Iterable[Pod]) -> None:
        """Take nodes as they were written; `pods` are those that are bound among others."""
        self._specs = {str(each["metadata"]["name"]): _spec(each) for each in nodes}
        self._used: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for pod in pods:
            if pod.spec.node_name and not pod.over:
                self.bind(pod, pod.spec.node_name)

    def bind(self, pod: Pod, node: str) -> None:
        """Count what a pod takes of its node."""
        used = self._used[node]
        used["pods"] += NANO
        try:
            for name, amount in pod_requests(pod).items():
                used[name] += amount
        except InvalidInputError:
            return

    def barred(self, pod: Pod, wishes: HostWishes, nodes: Iterable[Node], by_claim: Collection[str]) -> dict[str, str]:
        """Return why nodes cannot take a pod whatever devices they have, by name; `by_claim`: resources from claims."""
        wanted = {name: amount for name, amount in pod_requests(pod).items() if amount}
        found = {}
        for node in nodes:
            why = self._why(node, wanted, wishes, by_claim)
            if why:
                found[node.metadata.name] = why
        return found

    def _why(self, node: Node, wanted: Mapping[str, Amount], wishes: HostWishes, by_claim: Collection[str]) -> str:
        name, labels = node.metadata.name, node.metadata.labels
        spec = self._specs.get(name)
        if wishes.node_name and wishes.node_name != name:
            return "node didn't match the requested node name"
        if spec is None:
            return ""  # known from slices alone
        taints = (*spec.taints, *((UNSCHEDULABLE,) if spec.unschedulable else ()))
        for taint in taints:
            if taint.effect in {"NoSchedule", "NoExecute"} and not any(
                _tolerates(each, taint) for each in wishes.tolerations
            ):
                shown = f"{taint.key}: {taint.value}" if taint.value else taint.key
                return f"node had untolerated taint {{{shown}}}"
        matches = all(labels.get(key) == value for key, value in wishes.node_selector.items())
        if not matches or not selects(wishes.affinity.node_affinity.required, name, labels):
            return "node didn't match Pod's node affinity/selector"
        return self._lacks(node, wanted, by_claim)

    def _lacks(self, node: Node, wanted: Mapping[str, Amount], by_claim: Collection[str]) -> str:
        has = node.status.allocatable
        if not has:
            return ""  # nobody says
        used = self._used[node.metadata.name]
        if "pods" in has and used["pods"] + NANO > _amount(has["pods"]):
            return "Too many pods"
        for name, amount in sorted(wanted.items()):
            if name in by_claim and name not in has:
                continue
            if used[name] + amount > _amount(has.get(name, 0)):
                return f"Insufficient {name}"
        return ""


def _spec(node: Mapping[str, Any]) -> _NodeSpec:
    try:
        return msgspec.convert(without_nulls(dict(node.get("spec") or {})), _NodeSpec)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        where = f"Node {node['metadata']['name']}"
        raise InvalidInputError(where, f"spec{path.strip('`').removeprefix('$')}", problem) from error


def _amount(quantity: str | float) -> Amount:
    try:
        return parse_quantity(quantity)
    except InvalidInputError:
        return Amount(0)


def _tolerates(toleration: Toleration, taint: _Taint) -> bool:
    """As the API's ToleratesTaint."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.operator == "Exists" or toleration.value == taint.value
