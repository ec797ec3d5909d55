"""The kinds of API objects that we read: where they are served and what they decode to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from kube import objects
from kube.salvage import stand_in

RESOURCE_GROUP = "resource.k8s.io"

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T_co]):
    """A kind of API objects. `versions` are those that we read, the one we like best first."""

    name: str
    """As in a manifest's `kind`."""
    plural: str
    type: type[T_co] = field(repr=False)
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    versions: tuple[str, ...] = ("v1",)
    blank: tuple[str, Any] = field(default=("", None), compare=False, repr=False)
    """A field without which no object decodes, and the least it can be."""
    salvage: Callable[[object], Mapping[str, Any] | None] = field(default=lambda _: None, compare=False, repr=False)
    """Of an object that does not decode, what must be known of it all the same."""

    @property
    def api_version(self) -> str:
        """As in a manifest's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group and version, such as /apis/resource.k8s.io/v1."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def of_version(self, version: str) -> Kind[T_co]:
        """Return the same kind as another version of its group."""
        return replace(self, version=version)

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of an object, or of all objects of the kind, in a namespace or in all."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


NODES = Kind(name="Node", plural="nodes", type=objects.Node, namespaced=False)
NAMESPACES = Kind(name="Namespace", plural="namespaces", type=objects.Namespace, namespaced=False)
PODS = Kind(name="Pod", plural="pods", type=objects.Pod, blank=("spec", {"containers": []}))
SLICES = Kind(
    name="ResourceSlice",
    plural="resourceslices",
    type=objects.ResourceSlice,
    group=RESOURCE_GROUP,
    namespaced=False,
    blank=("spec", {"driver": "", "pool": {"name": ""}}),
)
CLASSES = Kind(
    name="DeviceClass", plural="deviceclasses", type=objects.DeviceClass, group=RESOURCE_GROUP, namespaced=False
)
CLAIMS = Kind(
    name="ResourceClaim",
    plural="resourceclaims",
    type=objects.ResourceClaim,
    group=RESOURCE_GROUP,
    salvage=stand_in,
)
TEMPLATES = Kind(
    name="ResourceClaimTemplate",
    plural="resourceclaimtemplates",
    type=objects.ResourceClaimTemplate,
    group=RESOURCE_GROUP,
)
TAINT_RULES = Kind(
    name="DeviceTaintRule",
    plural="devicetaintrules",
    type=objects.DeviceTaintRule,
    group=RESOURCE_GROUP,
    namespaced=False,
    versions=("v1", "v1beta2", "v1alpha3"),
    blank=("spec", {"taint": {"key": "", "effect": ""}}),
)
"""Served from 1.37 on as v1, in 1.36 as v1beta2, before as v1alpha3, and in none of them by default: ask discovery."""
LEASES = Kind(name="Lease", plural="leases", type=objects.Lease, group="coordination.k8s.io")
EVENTS = Kind(name="Event", plural="events", type=object)
"""Written, never read."""

KINDS: dict[str, Kind[object]] = {
    kind.name: kind for kind in (NODES, NAMESPACES, PODS, SLICES, CLASSES, CLAIMS, TEMPLATES, TAINT_RULES, LEASES)
}
"""All of them by name."""
