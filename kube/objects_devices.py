"""Objects of resource.k8s.io: resource slices, device classes, claims, templates, taint rules.

Fields and meaning: resource/v1 types.go of Kubernetes 1.37; what older servers lack has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from kube.depth import MAX_DEPTH, too_deep
from kube.objects_base import Metadata, NodeSelector, Part, Quantity, empty


class DeviceAttribute(Part, frozen=True, kw_only=True):
    """The value of an attribute: exactly one field is set."""

    int_value: int | None = msgspec.field(name="int", default=None)
    bool_value: bool | None = msgspec.field(name="bool", default=None)
    string: str | None = None
    version: str | None = None
    ints: tuple[int, ...] | None = None
    bools: tuple[bool, ...] | None = None
    strings: tuple[str, ...] | None = None
    versions: tuple[str, ...] | None = None


class CapacityRequestPolicyRange(Part, frozen=True, kw_only=True):
    """Amounts from `min` to `max`, in steps."""

    min: Quantity | None = None
    max: Quantity | None = None
    step: Quantity | None = None


class CapacityRequestPolicy(Part, frozen=True, kw_only=True):
    """How asked amounts of a shared capacity are rounded."""

    default: Quantity | None = None
    valid_values: tuple[Quantity, ...] = ()
    valid_range: CapacityRequestPolicyRange | None = None


class DeviceCapacity(Part, frozen=True, kw_only=True):
    """How much a device has of something."""

    value: Quantity
    request_policy: CapacityRequestPolicy | None = None


class Counter(Part, frozen=True, kw_only=True):
    """An amount of a counter."""

    value: Quantity


class CounterSet(Part, frozen=True, kw_only=True):
    """Counters that devices of a pool share."""

    name: str
    counters: Mapping[str, Counter] = msgspec.field(default_factory=empty)


class DeviceCounterConsumption(Part, frozen=True, kw_only=True):
    """What a device takes of one counter set."""

    counter_set: str
    counters: Mapping[str, Counter] = msgspec.field(default_factory=empty)
    compatibility_groups: tuple[str, ...] = ()


class DeviceTaint(Part, frozen=True, kw_only=True):
    """A taint of a device. `effect`: None, NoSchedule, NoExecute."""

    key: str
    effect: str
    value: str = ""
    time_added: datetime | None = None


class Device(Part, frozen=True, kw_only=True):
    """A device of a resource slice."""

    name: str
    attributes: Mapping[str, DeviceAttribute] = msgspec.field(default_factory=empty)
    capacity: Mapping[str, DeviceCapacity] = msgspec.field(default_factory=empty)
    consumes_counters: tuple[DeviceCounterConsumption, ...] = ()
    node_name: str = ""
    node_selector: NodeSelector | None = None
    all_nodes: bool = False
    taints: tuple[DeviceTaint, ...] = ()
    binds_to_node: bool = False
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    allow_multiple_allocations: bool = False
    node_allocatable_resource_mappings: Mapping[str, Any] = msgspec.field(default_factory=empty)
    node_allocatable_resources: Mapping[str, Any] = msgspec.field(default_factory=empty)
    """Both kept as sent: alpha in 1.36 and in 1.37; a scheduler that cannot honour it must see that it is there."""


class ResourcePool(Part, frozen=True, kw_only=True):
    """The pool that a resource slice belongs to."""

    name: str
    generation: int = 0
    resource_slice_count: int = 0


class ResourceSliceSpec(Part, frozen=True, kw_only=True):
    """Exactly one of node_name, node_selector, all_nodes and per_device_node_selection is set."""

    driver: str
    pool: ResourcePool
    node_name: str = ""
    node_selector: NodeSelector | None = None
    all_nodes: bool = False
    per_device_node_selection: bool = False
    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()
    skip_node_operations: tuple[str, ...] = ()


class ResourceSlice(Part, frozen=True, kw_only=True):
    """Devices, or counters, of one pool."""

    metadata: Metadata
    spec: ResourceSliceSpec


class CELDeviceSelector(Part, frozen=True, kw_only=True):
    """An expression that is true of the devices it selects."""

    expression: str


class DeviceSelector(Part, frozen=True, kw_only=True):
    """A selector of devices. None: of a type that we do not know, which selects nothing."""

    cel: CELDeviceSelector | None = None


class OpaqueDeviceConfiguration(Part, frozen=True, kw_only=True):
    """Parameters for a driver, as someone wrote them."""

    driver: str
    parameters: Any = None

    def __post_init__(self) -> None:
        """Refuse what could not be written again. Raises ValueError."""
        if too_deep(self.parameters):
            raise ValueError(f"Parameters are nested deeper than {MAX_DEPTH} levels")


class DeviceClassConfiguration(Part, frozen=True, kw_only=True):
    """Configuration of a class."""

    opaque: OpaqueDeviceConfiguration | None = None


class DeviceClassSpec(Part, frozen=True, kw_only=True):
    """What a class admits, and what it configures."""

    selectors: tuple[DeviceSelector, ...] = ()
    config: tuple[DeviceClassConfiguration, ...] = ()
    extended_resource_name: str = ""


class DeviceClass(Part, frozen=True, kw_only=True):
    """A class of devices."""

    metadata: Metadata
    spec: DeviceClassSpec = DeviceClassSpec()


class DeviceTaintSelector(Part, frozen=True, kw_only=True):
    """Which devices a rule taints: those that match every field that is set.

    `device_class_name` and `selectors` are of v1alpha3 as in 1.34 alone; we ignore a rule that has them.
    """

    driver: str = ""
    pool: str = ""
    device: str = ""
    device_class_name: str = ""
    selectors: tuple[DeviceSelector, ...] = ()


class DeviceTaintRuleSpec(Part, frozen=True, kw_only=True):
    """A taint, and the devices that have it. No selector: none of them."""

    taint: DeviceTaint
    device_selector: DeviceTaintSelector | None = None


class DeviceTaintRule(Part, frozen=True, kw_only=True):
    """An administrator's taint on devices."""

    metadata: Metadata
    spec: DeviceTaintRuleSpec
