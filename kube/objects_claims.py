"""Objects of resource.k8s.io that users write: claims and their templates; and the allocation in a claim's status."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from kube.objects_base import EMPTY, Metadata, NodeSelector, Part, Quantity, empty
from kube.objects_devices import DeviceSelector, OpaqueDeviceConfiguration


class DeviceToleration(Part, frozen=True, kw_only=True):
    """A toleration. `operator`: Equal or Exists."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class CapacityRequirements(Part, frozen=True, kw_only=True):
    """Amounts asked of shared capacities."""

    requests: Mapping[str, Quantity] = msgspec.field(default_factory=empty)


class DeviceSubRequest(Part, frozen=True, kw_only=True):
    """One of the alternatives of a request. `allocation_mode`: ExactCount or All; `count` of ExactCount alone."""

    name: str
    device_class_name: str
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int = 1
    tolerations: tuple[DeviceToleration, ...] = ()
    capacity: CapacityRequirements | None = None
    derived_attributes: tuple[Any, ...] = ()
    """Kept as sent: alpha in 1.37; a scheduler that cannot honour it must see that it is there."""


class ExactDeviceRequest(Part, frozen=True, kw_only=True):
    """A request without alternatives."""

    device_class_name: str
    selectors: tuple[DeviceSelector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool = False
    tolerations: tuple[DeviceToleration, ...] = ()
    capacity: CapacityRequirements | None = None
    derived_attributes: tuple[Any, ...] = ()
    """Kept as sent: alpha in 1.37; a scheduler that cannot honour it must see that it is there."""


class DeviceRequest(Part, frozen=True, kw_only=True):
    """A request: `exactly` or `first_available` is set; neither: of a type that we do not know."""

    name: str
    exactly: ExactDeviceRequest | None = None
    first_available: tuple[DeviceSubRequest, ...] = ()


class DeviceConstraint(Part, frozen=True, kw_only=True):
    """What devices must have in common, or apart. Neither set: of a type that we do not know."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class DeviceClaimConfiguration(Part, frozen=True, kw_only=True):
    """Configuration of some requests; of all where it names none."""

    requests: tuple[str, ...] = ()
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClaim(Part, frozen=True, kw_only=True):
    """What a claim asks for."""

    requests: tuple[DeviceRequest, ...] = ()
    constraints: tuple[DeviceConstraint, ...] = ()
    config: tuple[DeviceClaimConfiguration, ...] = ()


class ResourceClaimSpec(Part, frozen=True, kw_only=True):
    """The specification of a claim."""

    devices: DeviceClaim = DeviceClaim()


class DeviceRequestAllocationResult(Part, frozen=True, kw_only=True):
    """A device given to a request."""

    request: str
    driver: str
    pool: str
    device: str
    admin_access: bool = False
    tolerations: tuple[DeviceToleration, ...] = ()
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    share_id: str = msgspec.field(name="shareID", default="")
    consumed_capacity: Mapping[str, Quantity] = msgspec.field(default_factory=empty)


class DeviceAllocationConfiguration(Part, frozen=True, kw_only=True):
    """Configuration that came with an allocation. `source`: FromClass or FromClaim."""

    source: str = ""
    requests: tuple[str, ...] = ()
    opaque: OpaqueDeviceConfiguration | None = None


class DeviceAllocationResult(Part, frozen=True, kw_only=True):
    """All devices of an allocation."""

    results: tuple[DeviceRequestAllocationResult, ...] = ()
    config: tuple[DeviceAllocationConfiguration, ...] = ()


class AllocationResult(Part, frozen=True, kw_only=True):
    """An allocation. Without a selector it is good on all nodes."""

    devices: DeviceAllocationResult = DeviceAllocationResult()
    node_selector: NodeSelector | None = None
    allocation_timestamp: datetime | None = None


class ResourceClaimConsumerReference(Part, frozen=True, kw_only=True):
    """Who uses a claim; for pods `resource` is "pods"."""

    uid: str
    name: str
    resource: str = ""
    api_group: str = ""


class ResourceClaimStatus(Part, frozen=True, kw_only=True):
    """Whether a claim is allocated, and who uses it."""

    allocation: AllocationResult | None = None
    reserved_for: tuple[ResourceClaimConsumerReference, ...] = ()


class ResourceClaim(Part, frozen=True, kw_only=True):
    """A claim on devices."""

    metadata: Metadata
    spec: ResourceClaimSpec = ResourceClaimSpec()
    status: ResourceClaimStatus = ResourceClaimStatus()


class TemplateMetadata(Part, frozen=True, kw_only=True):
    """Labels and annotations that claims of a template get."""

    labels: Mapping[str, str] = EMPTY
    annotations: Mapping[str, str] = EMPTY


class ResourceClaimTemplateSpec(Part, frozen=True, kw_only=True):
    """What claims of a template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: ResourceClaimSpec = ResourceClaimSpec()


class ResourceClaimTemplate(Part, frozen=True, kw_only=True):
    """From which the claims of pods are made."""

    metadata: Metadata
    spec: ResourceClaimTemplateSpec = ResourceClaimTemplateSpec()
