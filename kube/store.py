"""API objects as last seen, by name; and which of them belong together. Nothing is decided here.

An object older than the one known, of the same UID, is ignored: answers to writes and watch events cross each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from kube.nodeselect import selects
from kube.objects import DeviceClass, Namespace, Node, NodeSelector, ResourceClaim
from kube.objects_base import Metadata
from kube.quantity import parse_quantity
from packing.model import NodeName
from topology.errors import InvalidInputError

Key = tuple[str, str]
"""Namespace (empty for objects of the cluster) and name."""


class Stored(Protocol):
    """An object with metadata."""

    @property
    def metadata(self) -> Metadata:
        """Its metadata."""
        ...


T = TypeVar("T", bound=Stored)


class Shelf(Generic[T]):
    """The objects of one kind."""

    def __init__(self) -> None:
        self._objects: dict[Key, T] = {}

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> T | None:
        """Return an object."""
        return self._objects.get((namespace, name))

    def put(self, new: T) -> tuple[T | None, bool]:
        """Take `new`; return what it replaces, and whether it was taken rather than found to be older."""
        key = (new.metadata.namespace, new.metadata.name)
        old = self._objects.get(key)
        if old is not None and is_older(new, old):
            return old, False
        self._objects[key] = new
        return old, True

    def remove(self, namespace: str, name: str, uid: str = "") -> T | None:
        """Forget an object and return it; with `uid`, that one alone."""
        old = self._objects.get((namespace, name))
        if old is None or (uid and old.metadata.uid != uid):
            return None
        return self._objects.pop((namespace, name))

    def missing_from(self, objects: Iterable[T]) -> list[T]:
        """Return those known that are not, by name, among `objects`."""
        kept = {(each.metadata.namespace, each.metadata.name) for each in objects}
        return [each for key, each in self._objects.items() if key not in kept]


def is_older(new: Stored, old: Stored) -> bool:
    """Whether `new` is a state that the object `old` had before. Versions of one kind compare as numbers (KEP-5504)."""
    if new.metadata.uid != old.metadata.uid:
        return False
    versions = (new.metadata.resource_version, old.metadata.resource_version)
    return all(each.isdecimal() for each in versions) and int(versions[0]) < int(versions[1])


class Store:
    """Nodes, namespaces, classes and claims."""

    def __init__(self) -> None:
        self.nodes: Shelf[Node] = Shelf()
        self.namespaces: Shelf[Namespace] = Shelf()
        self.classes: Shelf[DeviceClass] = Shelf()
        self.claims: Shelf[ResourceClaim] = Shelf()
        self._controlled: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._offering: dict[str, frozenset[NodeName]] | None = None

    def put_node(self, node: Node) -> tuple[Node | None, bool]:
        """Take a node."""
        old, taken = self.nodes.put(node)
        if taken and (old is None or old.status.allocatable != node.status.allocatable):
            self._offering = None
        return old, taken

    def remove_node(self, name: str, uid: str = "") -> Node | None:
        """Forget a node and return it."""
        self._offering = None
        return self.nodes.remove("", name, uid)

    def put_claim(self, claim: ResourceClaim) -> tuple[ResourceClaim | None, bool]:
        """Take a claim."""
        old, taken = self.claims.put(claim)
        if taken:
            if old is not None:
                self._index(old, known=False)
            self._index(claim, known=True)
        return old, taken

    def remove_claim(self, namespace: str, name: str, uid: str = "") -> ResourceClaim | None:
        """Forget a claim and return it."""
        old = self.claims.remove(namespace, name, uid)
        if old is not None:
            self._index(old, known=False)
        return old

    def claims_of(self, uid: str) -> list[ResourceClaim]:
        """Return the claims whose controller is the pod of that UID."""
        found = (self.claims.get(*key) for key in self._controlled.get(uid, ()))
        return [claim for claim in found if claim is not None]

    def node_names(self) -> frozenset[NodeName]:
        """Return all nodes."""
        return frozenset(NodeName(node.metadata.name) for node in self.nodes)

    def nodes_admitted(self, selector: NodeSelector) -> frozenset[NodeName]:
        """Return the nodes that a selector admits."""
        return frozenset(
            NodeName(node.metadata.name)
            for node in self.nodes
            if selects(selector, node.metadata.name, node.metadata.labels)
        )

    def nodes_offering(self, resource: str) -> frozenset[NodeName]:
        """Return the nodes whose allocatable has some of a resource."""
        if self._offering is None:
            self._offering = {}
        known = self._offering.get(resource)
        if known is None:
            known = self._offering[resource] = frozenset(
                NodeName(node.metadata.name) for node in self.nodes if _has(node, resource)
            )
        return known

    def _index(self, claim: ResourceClaim, *, known: bool) -> None:
        owner = claim.metadata.controller
        if owner is None:
            return
        key = (claim.metadata.namespace, claim.metadata.name)
        if known:
            self._controlled[owner.uid][key] = None
            return
        keys = self._controlled.get(owner.uid)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self._controlled[owner.uid]


def _has(node: Node, resource: str) -> bool:
    try:
        return parse_quantity(node.status.allocatable.get(resource, 0)) > 0
    except InvalidInputError:
        return False
