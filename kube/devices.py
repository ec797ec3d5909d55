"""Devices of resource slices -> `DeviceShape`s, each kept once, however many nodes publish one like it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from kube.gpuattributes import part_of
from kube.objects import CapacityRequestPolicy, Counter, Device, DeviceAttribute, DeviceCapacity, DeviceTaint, Quantity
from kube.quantity import parse_quantity
from packing.dra.model import (
    Amount,
    Attribute,
    AttributeKind,
    Capacity,
    CounterUse,
    DeviceShape,
    Effect,
    RequestPolicy,
    Taint,
)

T = TypeVar("T")

OWN = frozenset(
    {"uuid", "parentUUID", "serial", "serialNumber", "pciBusID", "pciAddress", "pcieRoot", "nvlinkClique", "guid"}
    | {"nodeGUID", "sysImageGUID", "mac", "macAddress", "ip", "ipv4", "ipv6"}
)
"""Attributes, whatever their domain, that tell a device from its like on other nodes.

What is missing here costs memory, since fewer pools are then alike, and nothing else.
"""


MOST_NAMES = 10_000
"""Names of attributes that are remembered."""

OwnAttributes = dict[Hashable, Mapping[str, Attribute]]


class Decoded(NamedTuple):
    """A device: what it shares with its like, and what not."""

    shape: DeviceShape
    own: Mapping[str, Attribute]
    taints: tuple[Taint, ...]


class DeviceShapes:
    """The device shapes of a cluster. `gpu_driver` is the driver whose devices are GPUs to the core."""

    def __init__(self, gpu_driver: str) -> None:
        self._gpu_driver = gpu_driver
        self._shapes: dict[Hashable, DeviceShape] = {}

    def __len__(self) -> int:
        return len(self._shapes)

    def decode(self, driver: str, device: Device, alike: OwnAttributes) -> Decoded:
        """Return `device`; raises ValueError for a quantity that is none.

        `alike` are the own attributes of devices decoded before, since those of all parts of a GPU are the same.
        """
        common = tuple([item for item in device.attributes.items() if not _IS_OWN[item[0]]])
        key = (
            driver,
            device.name,
            common,
            tuple(device.capacity.items()),
            tuple([(use.counter_set, tuple(use.counters.items())) for use in device.consumes_counters]),
            device.allow_multiple_allocations,
            device.binds_to_node,
            device.binding_conditions,
            device.binding_failure_conditions,
        )
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = self._shape(driver, device, dict(common))
        return Decoded(shape, _own_attributes(driver, device, len(common), alike), decode_taints(device.taints))

    def keep(self, used: Iterable[DeviceShape]) -> None:
        """Forget all shapes but those in use."""
        alive = {id(shape) for shape in used}
        self._shapes = {key: shape for key, shape in self._shapes.items() if id(shape) in alive}

    def _shape(self, driver: str, device: Device, common: Mapping[str, DeviceAttribute]) -> DeviceShape:
        attributes = _attributes(driver, common)
        return DeviceShape(
            name=device.name,
            attributes=attributes,
            capacity={name: _capacity(each) for name, each in device.capacity.items()},
            consumes=tuple(
                CounterUse(use.counter_set, name, amount)
                for use in device.consumes_counters
                for name, amount in decode_counters(use.counters).items()
            ),
            multiple=device.allow_multiple_allocations,
            binds_to_node=device.binds_to_node,
            binding_conditions=device.binding_conditions,
            binding_failure_conditions=device.binding_failure_conditions,
            part=part_of(driver, attributes) if driver == self._gpu_driver else None,
        )


class _IsOwn(dict[str, bool]):
    """Name of an attribute -> whether it is one of `OWN`, whatever its domain; found out once a name."""

    def __missing__(self, name: str) -> bool:
        own = name.rpartition("/")[2] in OWN
        if len(self) < MOST_NAMES:
            self[name] = own
        return own


_IS_OWN = _IsOwn()
_EFFECTS = {effect.value: effect for effect in Effect}
_NO_OWN: Mapping[str, Attribute] = {}


def _own_attributes(driver: str, device: Device, common: int, alike: OwnAttributes) -> Mapping[str, Attribute]:
    if common == len(device.attributes):
        return _NO_OWN
    key = tuple([item for item in device.attributes.items() if _IS_OWN[item[0]]])
    own = alike.get(key)
    if own is None:
        own = alike[key] = _attributes(driver, dict(key))
    return own


def decode_taints(taints: Iterable[DeviceTaint]) -> tuple[Taint, ...]:
    """Return taints; one of an effect that is newer than this program keeps pods off."""
    return tuple([Taint(each.key, each.value, _EFFECTS.get(each.effect, Effect.NO_SCHEDULE)) for each in taints])


def decode_counters(counters: Mapping[str, Counter]) -> dict[str, Amount]:
    """Return the amounts of counters; raises ValueError for a quantity that is none."""
    return {name: parse_quantity(counter.value) for name, counter in counters.items()}


def _attributes(driver: str, attributes: Mapping[str, DeviceAttribute]) -> dict[str, Attribute]:
    """Return attributes under qualified names, without those of a type that we do not know."""
    found: dict[str, Attribute] = {}
    for name, value in _domain_last(attributes):
        decoded = _attribute(value)
        if decoded is not None:
            found[_qualified(driver, name)] = decoded
    return found


def _domain_last(named: Mapping[str, T]) -> list[tuple[str, T]]:
    """Put qualified names last: where a name is there with and without its domain, the former counts."""
    return sorted(named.items(), key=lambda item: "/" in item[0])


def _qualified(driver: str, name: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


def _attribute(value: DeviceAttribute) -> Attribute | None:
    if value.int_value is not None:
        return Attribute(AttributeKind.INT, (value.int_value,))
    if value.bool_value is not None:
        return Attribute(AttributeKind.BOOL, (value.bool_value,))
    if value.string is not None:
        return Attribute(AttributeKind.STRING, (value.string,))
    if value.version is not None:
        return Attribute(AttributeKind.VERSION, (value.version,))
    lists: tuple[tuple[AttributeKind, tuple[int | bool | str, ...] | None], ...] = (
        (AttributeKind.INT, value.ints),
        (AttributeKind.BOOL, value.bools),
        (AttributeKind.STRING, value.strings),
        (AttributeKind.VERSION, value.versions),
    )
    return next((Attribute(kind, each, is_list=True) for kind, each in lists if each is not None), None)


def _capacity(capacity: DeviceCapacity) -> Capacity:
    return Capacity(parse_quantity(capacity.value), _policy(capacity.request_policy))


def _policy(policy: CapacityRequestPolicy | None) -> RequestPolicy | None:
    if policy is None:
        return None
    bounds = policy.valid_range
    return RequestPolicy(
        default=_amount(policy.default),
        valid_values=tuple(parse_quantity(value) for value in policy.valid_values),
        minimum=_amount(bounds.min) if bounds else None,
        maximum=_amount(bounds.max) if bounds else None,
        step=_amount(bounds.step) if bounds else None,
    )


def _amount(value: Quantity | None) -> Amount | None:
    return None if value is None else parse_quantity(value)
