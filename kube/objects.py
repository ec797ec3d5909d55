"""API objects as decoded: names as in the Kubernetes API, in Python's spelling; what we do not read is not there.

This module has the objects of the core API and Lease, and passes on those of resource.k8s.io, so that one import does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from kube.objects_base import *  # noqa: F403
from kube.objects_base import Metadata, Part, Quantity, empty
from kube.objects_claims import *  # noqa: F403
from kube.objects_devices import *  # noqa: F403

SCHEDULED = "PodScheduled"
"""The condition of a pod that tells whether it has a node."""


class NodeStatus(Part, frozen=True, kw_only=True):
    """What a node has. `allocatable` is what pods may use of `capacity`; both hold extended resources too."""

    capacity: Mapping[str, Quantity] = msgspec.field(default_factory=empty)
    allocatable: Mapping[str, Quantity] = msgspec.field(default_factory=empty)


class Node(Part, frozen=True, kw_only=True):
    """A node."""

    metadata: Metadata
    status: NodeStatus = NodeStatus()


class Namespace(Part, frozen=True, kw_only=True):
    """A namespace."""

    metadata: Metadata


class PodMetadata(Part, frozen=True, kw_only=True):
    """Metadata of a pod, without labels and annotations: nothing reads them, and they would take half the memory."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


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


class PodCondition(Part, frozen=True, kw_only=True):
    """A condition of a pod. `status`: True, False, Unknown."""

    type: str
    status: str
    reason: str = ""


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

    @property
    def scheduled(self) -> PodCondition | None:
        """The condition PodScheduled."""
        return next((each for each in self.conditions if each.type == SCHEDULED), None)


class Pod(Part, frozen=True, kw_only=True):
    """A pod."""

    metadata: PodMetadata
    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def over(self) -> bool:
        """Whether it has ended and uses nothing any more."""
        return self.status.phase in {"Succeeded", "Failed"}


class LeaseSpec(Part, frozen=True, kw_only=True):
    """Who holds a lease, and until when."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int = 0


class Lease(Part, frozen=True, kw_only=True):
    """A lease of coordination.k8s.io: who leads."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()
