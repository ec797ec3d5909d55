"""Which pools a node may reach, looked up by its name and labels rather than tried one by one.

Network drivers publish a pool per node that a selector binds to its host name: 1,000 of them on 1,000 nodes would be
1,000,000 selectors to evaluate at each change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from kube.nodeselect import NODE_NAME_FIELD
from kube.objects import Node, NodeSelector, NodeSelectorTerm
from kube.slices import Where

T = TypeVar("T", bound=Hashable)

HOST_NAME = "kubernetes.io/hostname"
"""The label whose values tell nodes apart best."""

Anchor = tuple[bool, str, str]
"""Whether it is a field, its key or that of a label, and a value."""


class Nearby(Generic[T]):
    """Pools by the nodes that their devices ask for. Mutable."""

    def __init__(self) -> None:
        self._local: defaultdict[str, set[T]] = defaultdict(set)
        self._anchored: defaultdict[tuple[bool, str], defaultdict[str, set[T]]] = defaultdict(lambda: defaultdict(set))
        self._anywhere: set[T] = set()

    def __bool__(self) -> bool:
        return bool(self._local or self._anchored or self._anywhere)

    def add(self, pool: T, wheres: Iterable[Where]) -> None:
        """Add a pool, and who can use its devices."""
        for where in wheres:
            if where.node:
                self._local[where.node].add(pool)
                continue
            anchors = _anchors(where.selector)
            if anchors is None:
                self._anywhere.add(pool)
            for field, key, value in anchors or ():
                self._anchored[field, key][value].add(pool)

    def remove(self, pool: T, wheres: Iterable[Where]) -> None:
        """Remove what was added."""
        for where in wheres:
            if where.node:
                _discard(self._local, where.node, pool)
                continue
            anchors = _anchors(where.selector)
            if anchors is None:
                self._anywhere.discard(pool)
            for field, key, value in anchors or ():
                values = self._anchored.get((field, key))
                if values is not None:
                    _discard(values, value, pool)
                    if not values:
                        del self._anchored[field, key]

    def of(self, node: Node) -> set[T]:
        """Return the pools that a node reaches, and some that it does not."""
        return set(self._local.get(node.metadata.name, ())).union(self._anywhere, *self._labelled(node))

    def local(self, node: str) -> Iterator[T]:
        """Return the pools that have devices of this node alone."""
        return iter(self._local.get(node, ()))

    def node_names(self) -> frozenset[str]:
        """Return the nodes that pools name as those of devices."""
        return frozenset(self._local)

    def _labelled(self, node: Node) -> Iterator[set[T]]:
        fields = {NODE_NAME_FIELD: node.metadata.name}
        for (field, key), values in self._anchored.items():
            value = (fields if field else node.metadata.labels).get(key)
            if value is not None and value in values:
                yield values[value]


def _anchors(selector: NodeSelector | None) -> frozenset[Anchor] | None:
    """Return fields and labels of which a node that is admitted has one; None: there are none such."""
    found: set[Anchor] = set()
    for term in () if selector is None else selector.node_selector_terms:
        anchors = _of_term(term)
        if anchors is None:
            return None
        found |= anchors
    return None if selector is None else frozenset(found)


def _of_term(term: NodeSelectorTerm) -> set[Anchor] | None:
    """Return the values that one requirement lists, the one that tells nodes apart best."""
    if not term.match_expressions and not term.match_fields:
        return set()
    listing = [
        (field, each)
        for field, requirements in ((True, term.match_fields), (False, term.match_expressions))
        for each in requirements
        if each.operator == "In"
    ]
    if not listing:
        return None
    field, best = min(listing, key=lambda one: (not one[0], one[1].key != HOST_NAME, len(one[1].values)))
    return {(field, best.key, value) for value in best.values}


def _discard(sets: defaultdict[str, set[T]], of: str, pool: T) -> None:
    sets[of].discard(pool)
    if not sets[of]:
        del sets[of]
