"""What all decoded API objects have in common: they are frozen, hold what we read, and skip every other field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec

Quantity = str | int | float
"""An amount as the API writes it, such as "40Gi"; `kube.quantity.parse_quantity` reads it."""

EMPTY: Mapping[str, Any] = MappingProxyType({})
"""Shared by all objects that lack a map: an empty dictionary of their own would take 64 bytes each."""


def empty() -> Mapping[str, Any]:
    """Return the shared empty map."""
    return EMPTY


class Part(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A part of an API object. It holds no cycles, so the garbage collector need not look at it."""


class OwnerReference(Part, frozen=True, kw_only=True):
    """Who owns an object."""

    uid: str
    kind: str = ""
    name: str = ""
    api_version: str = ""
    controller: bool = False


class Named(Part, frozen=True, kw_only=True):
    """What tells an object from all others."""

    name: str
    namespace: str = ""
    uid: str = ""

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def identity(self) -> str:
        """The UID; of an object that a person wrote, which may have none, the full name."""
        return self.uid or self.full_name


class Metadata(Named, frozen=True, kw_only=True):
    """Metadata of an object."""

    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: Mapping[str, str] = msgspec.field(default_factory=empty)
    annotations: Mapping[str, str] = msgspec.field(default_factory=empty)
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that controls the object."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class NodeSelectorRequirement(Part, frozen=True, kw_only=True):
    """A requirement on a label or a field. `operator`: In, NotIn, Exists, DoesNotExist, Gt, Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(Part, frozen=True, kw_only=True):
    """Requirements that a node must meet all. A term without any selects no node."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


class NodeSelector(Part, frozen=True, kw_only=True):
    """Terms of which a node must meet one."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()
