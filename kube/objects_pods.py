"""Pods as decoded. A cluster has many, so what they have in common is kept once, and the rest is small."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from sys import intern

import msgspec
from msgspec.structs import force_setattr

from kube.objects_base import Named, Part, Quantity, empty

SCHEDULED = "PodScheduled"
"""The condition of a pod that tells whether it has a node."""


class PodMetadata(Named, frozen=True, kw_only=True):
    """Metadata of a pod, without labels and annotations: nothing reads them, and they would double its size."""

    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    def __post_init__(self) -> None:
        """Share the namespace with the other pods."""
        force_setattr(self, "namespace", intern(self.namespace))


class ContainerClaim(Part, frozen=True, kw_only=True):
    """A claim of the pod that a container uses; an empty `request` means all of it."""

    name: str
    request: str = ""


class Resources(Part, frozen=True, kw_only=True):
    """Resources of a container, or of a pod."""

    requests: Mapping[str, Quantity] = msgspec.field(default_factory=empty)
    limits: Mapping[str, Quantity] = msgspec.field(default_factory=empty)
    claims: tuple[ContainerClaim, ...] = ()


NO_RESOURCES = Resources()


class Container(Part, frozen=True, kw_only=True):
    """A container. An init container with `restart_policy` Always is a sidecar."""

    name: str
    resources: Resources = NO_RESOURCES
    restart_policy: str = ""


def _key(of: Container, has: Resources) -> tuple[object, ...]:
    return of.name, of.restart_policy, *has.requests.items(), None, *has.limits.items(), None, *has.claims


class _Shared:
    """Containers of pods that are alike, kept once: a Deployment's pods differ in what we do not read."""

    MOST = 16_384

    def __init__(self) -> None:
        self._known: dict[object, tuple[Container, ...]] = {}

    def __call__(self, containers: tuple[Container, ...]) -> tuple[Container, ...]:
        """Return equal containers, those of a pod seen before if there are any."""
        key = tuple([_key(one, one.resources) for one in containers])
        if len(self._known) >= self.MOST:
            self._known.clear()
        return self._known.setdefault(key, containers)


_shared = _Shared()


class PodClaim(Part, frozen=True, kw_only=True):
    """A claim of a pod: by name, or made from a template."""

    name: str
    resource_claim_name: str = ""
    resource_claim_template_name: str = ""


class SchedulingGate(Part, frozen=True, kw_only=True):
    """What keeps a pod from being scheduled."""

    name: str


class PodSpec(Part, frozen=True, kw_only=True):
    """The specification of a pod. `resources` are those of the pod as a whole (pod-level resources)."""

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    overhead: Mapping[str, Quantity] = msgspec.field(default_factory=empty)
    resources: Resources = NO_RESOURCES
    resource_claims: tuple[PodClaim, ...] = ()
    scheduling_gates: tuple[SchedulingGate, ...] = ()

    def __post_init__(self) -> None:
        """Share what many pods have in common."""
        force_setattr(self, "node_name", intern(self.node_name))
        force_setattr(self, "scheduler_name", intern(self.scheduler_name))
        force_setattr(self, "containers", _shared(self.containers))
        if self.init_containers:
            force_setattr(self, "init_containers", _shared(self.init_containers))


class PodCondition(Part, frozen=True, kw_only=True):
    """A condition of a pod. `status`: True, False, Unknown."""

    type: str
    status: str
    reason: str = ""


@lru_cache(maxsize=64)
def _conditions(status: str, reason: str) -> tuple[PodCondition, ...]:
    return (PodCondition(type=SCHEDULED, status=status, reason=reason),)


class PodResourceClaimStatus(Part, frozen=True, kw_only=True):
    """The claim made for `name` of the pod; empty: none was needed."""

    name: str
    resource_claim_name: str = ""


class ContainerExtendedResourceRequest(Part, frozen=True, kw_only=True):
    """Which request of the special claim serves an extended resource of a container."""

    container_name: str
    resource_name: str
    request_name: str


class PodExtendedResourceClaimStatus(Part, frozen=True, kw_only=True):
    """The special claim that serves a pod's extended resources."""

    resource_claim_name: str
    request_mappings: tuple[ContainerExtendedResourceRequest, ...] = ()


class PodStatus(Part, frozen=True, kw_only=True):
    """The state of a pod. Of its conditions, PodScheduled alone is kept."""

    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    nominated_node_name: str = ""
    resource_claim_statuses: tuple[PodResourceClaimStatus, ...] = ()
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None

    def __post_init__(self) -> None:
        """Share what many pods have in common, and forget the other conditions."""
        force_setattr(self, "phase", intern(self.phase))
        scheduled = [_conditions(each.status, each.reason) for each in self.conditions if each.type == SCHEDULED]
        force_setattr(self, "conditions", scheduled[0] if scheduled else ())

    @property
    def scheduled(self) -> PodCondition | None:
        """The condition PodScheduled."""
        return self.conditions[0] if self.conditions else None


class Pod(Part, frozen=True, kw_only=True):
    """A pod."""

    metadata: PodMetadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def over(self) -> bool:
        """Whether it has ended and uses nothing any more."""
        return self.status.phase in {"Succeeded", "Failed"}
