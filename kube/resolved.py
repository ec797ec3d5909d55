"""What a pod asks for once its claims, their classes and the nodes are looked up; and what it is looked up in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kube.objects import ContainerExtendedResourceRequest, DeviceClass, Namespace, NodeSelector, Pod, ResourceClaim
from packing.dra.model import Ask, ClaimAsk, Pool
from packing.model import NodeName


class Surroundings(Protocol):
    """The state of a cluster as far as claims need it, live or from a snapshot."""

    @property
    def drivers(self) -> Collection[str]:
        """The drivers whose devices we allocate."""
        ...

    @property
    def inventory(self) -> int:
        """A number that changes whenever the pools do."""
        ...

    def claim(self, namespace: str, name: str) -> ResourceClaim | None:
        """Return a claim."""
        ...

    def claims_of(self, uid: str) -> Iterable[ResourceClaim]:
        """Return the claims whose controller is the pod of that UID."""
        ...

    def device_class(self, name: str) -> DeviceClass | None:
        """Return a class."""
        ...

    def classes(self) -> Iterable[DeviceClass]:
        """Return all classes."""
        ...

    def namespace(self, name: str) -> Namespace | None:
        """Return a namespace."""
        ...

    def nodes_admitted(self, selector: NodeSelector) -> frozenset[NodeName]:
        """Return the nodes that a selector admits."""
        ...

    def nodes(self) -> frozenset[NodeName]:
        """Return all nodes."""
        ...

    def nodes_offering(self, resource: str) -> frozenset[NodeName]:
        """Return the nodes whose allocatable has some of a resource: a device plugin serves it there."""
        ...

    def pools(self) -> Iterable[Pool]:
        """Return the usable pools of our drivers, always in the same order."""
        ...

    def foreign_pools(self) -> Iterable[Pool]:
        """Return the usable pools of all other drivers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToAllocate:
    """An unallocated claim of the pod, what it asks, and the classes by name as they were then."""

    claim: ResourceClaim
    ask: ClaimAsk
    classes: Mapping[str, DeviceClass]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """A claim of the pod that is allocated already.

    `nodes` are those that the allocation admits, None: all. `reserved` tells whether the pod is in `reservedFor`.
    """

    claim: ResourceClaim
    nodes: frozenset[NodeName] | None
    reserved: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpecialClaim:
    """The claim that serves a pod's extended resources.

    `claim` has neither name nor UID of its own until it is created from `kube.extended.special_manifest`.
    """

    claim: ResourceClaim
    exists: bool
    mappings: tuple[ContainerExtendedResourceRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """One way to serve the pod: on the nodes of `ask`, these claims are to be allocated, in the order of `ask.claims`.

    `special` is set where some of the pod's extended resources come from a claim there, whether it is among `claims` or
    allocated before.
    """

    ask: Ask
    claims: tuple[ToAllocate, ...]
    special: SpecialClaim | None = None

    def leads_to(self, node: NodeName) -> bool:
        """Whether the pod may be served so on a node."""
        return self.ask.nodes is None or node in self.ask.nodes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """All that a pod needs in devices. `joined` holds in every way.

    There is one way, unless the pod asks for extended resources that a device plugin offers on some nodes. The ways
    have no node in common.
    """

    pod: Pod
    ways: tuple[Way, ...]
    joined: tuple[Joined, ...] = ()

    @property
    def ask(self) -> Ask:
        """The ask of the first way, the only one for pods without extended resources."""
        return self.ways[0].ask

    def way_to(self, node: NodeName) -> Way | None:
        """Return the way to serve the pod on a node, None where there is none."""
        return next((way for way in self.ways if way.leads_to(node)), None)

    @property
    def has_devices(self) -> bool:
        """Whether the pod needs devices of claims at all."""
        return bool(self.joined) or any(way.claims or way.special for way in self.ways)
